"""Finds methods, views, optimisers, probes and named data sets by name, without importing what is not asked for.

A name is given where the thing is written, `@register("simclr")`, in any file of the kind's package. Names are read from
the syntax tree, so listing them imports nothing; the file is imported when the thing is built. Other packages add theirs
by an entry point in the group `unlabeled.<kind>`.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from unlabeled.errors import UserError


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of an option, for `Annotated`: checked when a recipe is resolved."""

    low: float
    high: float = float("inf")
    above: bool = False

    def __str__(self) -> str:
        least = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return least if self.high == float("inf") else f"{least} and at most {self.high:g}"


Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
Decay = Annotated[float, Range(0)]
Width = Annotated[int, Range(0)]

KINDS = {"methods": "method", "views": "policy", "optim": "optimizer", "probes": "protocol", "data": "data set"}

_Made = TypeVar("_Made", bound=Callable[..., Any])
_registered: dict[tuple[str, str], Entry] = {}


@dataclass(frozen=True, slots=True)
class Choice:
    """A name and the options given with it: how a recipe says which method, policy, encoder or optimiser it wants."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Option:
    """One keyword argument of a registered thing: its default, its type, its line of the docstring."""

    default: Any
    type: Any
    help: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered thing: what builds it, the option values that this name stands for (`moco-v1` of `moco`), the parts of a
    recipe that its paper prescribes (views, optimiser), those that it prescribes for one kind of encoder, and what it is,
    in one line, if the docstring says that of another name."""

    kind: str
    name: str
    make: Callable[..., Any]
    preset: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    says: str = ""

    def prescribed(self, encoder: str) -> dict[str, Any]:
        """The parts of a recipe that the paper prescribes with an encoder of that name."""
        kinds = [parts for kind, parts in self.encoders.items() if kind in encoder]
        return {key: value for parts in (self.recipe, *kinds) for key, value in parts.items()}

    def options(self) -> dict[str, Option]:
        """The keyword-only arguments of the constructor with this name's defaults: THE options, written nowhere else."""
        from docstring_parser import parse

        documents = [parse(text) for text in (self.make.__doc__, getattr(self.make, "__init__", self.make).__doc__) if text]
        helps = {p.arg_name: " ".join((p.description or "").split()) for d in documents for p in d.params}
        spaces = vars(sys.modules[self.make.__module__])
        return {
            p.name: Option(self.preset.get(p.name, p.default), _type(p.annotation, spaces), helps.get(p.name, ""))
            for p in inspect.signature(self.make).parameters.values()
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        }

    def resolve(self, options: Mapping[str, Any]) -> Choice:
        """This name with every option: those given, in their types, and the defaults of the others.

        Raises:
            UserError: an unknown option, or a value that its type does not take.
        """
        known = self.options()
        for option in options:
            if option not in known:
                raise UserError(
                    f"{KINDS[self.kind]} {self.name!r} has no option {option!r}{nearest(option, known)}; "
                    f"its options: {', '.join(known) or 'none'}"
                )
        given = {k: coerce(v, known[k].type, f"{KINDS[self.kind]} option {k}") for k, v in options.items()}
        return Choice(self.name, {k: given.get(k, o.default) for k, o in known.items()})


def register(
    *names: str,
    recipe: Mapping[str, Any] | None = None,
    encoders: Mapping[str, Mapping[str, Any]] | None = None,
    says: str = "",
    **preset: Any,
) -> Callable[[_Made], _Made]:
    """Class or function decorator: gives the thing its names.

    Args:
        names: what users call it, as literals.
        recipe: what the paper prescribes for other parts of a run: `{"views": ..., "optimizer": ...}`.
        encoders: what it prescribes beyond that, options of the thing included, for encoders whose name contains a word:
            `{"resnet": {"optimizer": ..., "method.temperature": ...}}`.
        says: what these names are, where it is not the docstring's first line.
        preset: defaults of its options that differ under these names.
    """

    def decorate(make: _Made) -> _Made:
        kind = make.__module__.split(".")[1]
        for name in names:
            _registered[kind, name] = Entry(kind, name, make, preset, recipe or {}, encoders or {}, says)
        return make

    return decorate


def names(kind: str) -> list[str]:
    """Every registered name of a kind, sorted; imports none of them."""
    return sorted({*_files(kind), *_plugins(kind)})


def get(kind: str, name: str) -> Entry:
    """The entry of that name; imports its file.

    Raises:
        UserError: no such name; it says which known one is nearest.
    """
    if name in _files(kind):
        importlib.import_module(_files(kind)[name])
        return _registered[kind, name]
    if name in _plugins(kind):
        return Entry(kind, name, _plugins(kind)[name].load())
    raise UserError(f"unknown {KINDS[kind]} {name!r}{nearest(name, names(kind))}; known: {', '.join(names(kind))}")


def build(kind: str, choice: Choice, *args: Any) -> Any:
    """Builds what `choice` names: `make(*args, **options)`.

    Raises:
        UserError: an unknown name or option.
    """
    entry = get(kind, choice.name)
    return entry.make(*args, **entry.resolve(choice.options).options)


def coerce(value: Any, wanted: Any, what: str) -> Any:
    """`value` (perhaps text from a command line or a YAML file) as the annotated type.

    Understands bool, int, float, str, `Literal`, `X | None`, tuples, and `Annotated` with a `Range`; passes others through.

    Raises:
        UserError: it is not such a value; the message begins with `what`.
    """
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Annotated:
        plain, bounds = inner[0], inner[1]
        number = coerce(value, plain, what)
        if not bounds.low <= number <= bounds.high or (bounds.above and number == bounds.low):
            raise UserError(f"{what} is {value!r}, and must be {bounds}")
        return number
    error = UserError(f"{what} is {value!r}, and must be {_spell(wanted)}")
    if origin in (Union, UnionType):
        if value is None or (type(None) in inner and str(value).lower() in ("none", "null", "")):
            return None
        for kind in sorted((t for t in inner if t is not type(None)), key=lambda t: t is str):
            with suppress(UserError):
                return coerce(value, kind, what)
        raise error
    if origin is Literal:
        for known in inner:
            if str(known) == str(value):
                return known
        raise error
    if origin is tuple:
        if not isinstance(value, str | list | tuple):
            raise error
        parts = value.strip("()[] ").split(",") if isinstance(value, str) else list(value)
        kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else inner
        if len(parts) != len(kinds):
            raise error
        try:
            return tuple(coerce(p, k, what) for p, k in zip(parts, kinds, strict=True))
        except UserError:
            raise error from None
    if wanted is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(value).lower() not in words:
            raise error
        return words[str(value).lower()]
    if wanted in (int, float, str):
        try:
            made = wanted(value)
        except (TypeError, ValueError, OverflowError):
            raise error from None
        cut = wanted is int and isinstance(value, float) and made != value
        endless = wanted is float and not math.isfinite(made)
        if cut or endless or value is None or isinstance(value, bool | list | dict):
            raise error
        return made
    return value


def _spell(wanted: Any) -> str:
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(repr(v) for v in get_args(wanted))
    if get_origin(wanted) is tuple:
        kinds = get_args(wanted)
        several = "numbers with commas between" if kinds[-1] is Ellipsis else f"{len(kinds)} numbers with a comma between"
        return several + ", such as " + ",".join("1" if k is int else "0.5" for k in kinds if k is not Ellipsis)
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join("null" if kind is type(None) else _spell(kind) for kind in get_args(wanted))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(wanted, str(wanted))


def _type(annotation: Any, spaces: dict[str, Any]) -> Any:
    return eval(annotation, spaces) if isinstance(annotation, str) else annotation


def nearest(word: str, known: Any) -> str:
    """`; did you mean 'x'?`, or nothing if no known word is near."""
    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


@cache
def _files(kind: str) -> dict[str, str]:
    """Name -> module, read from the `@register("...")` decorators of the kind's files."""
    root = Path(__file__).parent
    found: dict[str, str] = {}
    for path in sorted((root / kind).rglob("*.py")):
        module = "unlabeled." + ".".join(path.relative_to(root).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register":
                found.update({str(a.value): module for a in node.args if isinstance(a, ast.Constant)})
    return found


@cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"unlabeled.{kind}")}
