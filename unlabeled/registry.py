"""Finds methods, views, optimisers, probes and named data sets by name, without importing what is not asked for.

A name is given where the thing is written, `@register("simclr")`, in any file of the kind's folder. Names are read from
the syntax tree, so listing them imports nothing; the file is imported when the thing is built. Others add theirs in a file
that is imported (`--plugin FILE`, or any import), or by an entry point in the group `unlabeled.<kind>`.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import math
import os
import sys
import traceback
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from unlabeled.errors import UnknownNameError, UserError
from unlabeled.words import first_sentence


@dataclass(frozen=True, slots=True)
class Range:
    """Bounds of an option, for `Annotated`: checked when a recipe is resolved. One that counts `samples` is brought down to
    the number of those that are trained on, when that is known."""

    low: float
    high: float = float("inf")
    above: bool = False
    samples: bool = False

    def __str__(self) -> str:
        least = f"above {self.low:g}" if self.above else f"at least {self.low:g}"
        return least if self.high == float("inf") else f"{least} and at most {self.high:g}"


Positive = Annotated[float, Range(0, above=True)]
Share = Annotated[float, Range(0, 1)]
Count = Annotated[int, Range(1)]
Decay = Annotated[float, Range(0)]
Width = Annotated[int, Range(0)]
Sampled = Annotated[int, Range(1, samples=True)]
SampledOrNone = Annotated[int, Range(0, samples=True)]

KINDS = {
    "methods": "method",
    "views": "policy",
    "optim": "optimizer",
    "probes": "protocol",
    "data": "data set",
    "kinds": "kind of data",
    "encoders": "encoder",
}
"""What each kind of thing is called in sentences."""
FOLDERS = {**{kind: kind for kind in KINDS}, "data": "data/sets", "kinds": "data/kinds"}
"""Where things of a kind are looked for, in files at any depth."""

PLUGINS = "UNLABELED_PLUGINS"
"""Environment variable: files of plug-ins, separated as in PATH."""

_PLUGIN = "unlabeled_plugin_"
"""What the modules of plug-ins are called, before the name of the file."""

Follows = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # what was given of a recipe -> what a paper prescribes with it

_Made = TypeVar("_Made", bound=Callable[..., Any])
_registered: dict[tuple[str, str], Entry] = {}
_given: dict[str, str] = {}
"""Module of each plug-in that was imported, and its file as it was given; of a whole path the name alone."""


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

    @property
    def counts_samples(self) -> bool:
        """Whether the number of training samples bounds it: the length of a queue, negatives drawn from a bank."""
        return any(isinstance(bound, Range) and bound.samples for bound in getattr(self.type, "__metadata__", ()))


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered thing: what builds it, the option values that this name stands for (`moco-v1` of `moco`), the parts of a
    recipe that its paper prescribes (views, optimiser), those that it prescribes for one kind of encoder, those that were
    measured to be better in runs of a person's size, by kind of encoder too, the values of options in runs that were made
    before these had them, what it is, if the docstring is of another name, and what makes `recipe` of what is given."""

    kind: str
    name: str
    make: Callable[..., Any]
    preset: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    encoders: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    formerly: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""
    follows: Follows | None = None

    def prescribed(self, encoder: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the parts of a recipe that the paper prescribes with an encoder of that name, and with what the user gave
        of the recipe."""
        return {**(self.follows(given) if self.follows and given else self.recipe), **_for(encoder, self.encoders)}

    def preferred(self, encoder: str) -> dict[str, Any]:
        """Returns the parts of a recipe that were measured to be better than the paper's with an encoder of that name."""
        return _for(encoder, self.measured)

    def options(self) -> dict[str, Option]:
        """Returns the keyword-only arguments of the constructor with this name's defaults: THE options, written nowhere
        else."""
        helps = _helps(self.make)
        return {
            p.name: Option(self.preset.get(p.name, p.default), _type(p.annotation, spaces), helps.get(p.name, ""))
            for p, spaces in _keywords(self.make)
        }

    @property
    def about(self) -> str:
        """The docstring, of the nearest class above that has one."""
        return inspect.getdoc(self.make) or ""

    @property
    def line(self) -> str:
        """What it is, in one whole sentence."""
        return first_sentence(self.says or self.about or "no docstring")

    def resolve(self, options: Mapping[str, Any]) -> Choice:
        """Returns this name with every option: those given, in their types, and the defaults of the others.

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


def _for(encoder: str, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Those parts whose word is in the name of an encoder."""
    return {key: value for word, values in parts.items() if word in encoder for key, value in values.items()}


def register(
    *names: str,
    recipe: Mapping[str, Any] | Follows | None = None,
    encoders: Mapping[str, Mapping[str, Any]] | None = None,
    measured: Mapping[str, Mapping[str, Any]] | None = None,
    formerly: Mapping[str, Any] | None = None,
    says: str = "",
    kind: str = "",
    **preset: Any,
) -> Callable[[_Made], _Made]:
    """Gives a class or function its names, as a decorator.

    Args:
        names: what users call it, as literals.
        recipe: what the paper prescribes for other parts of a run: `{"views": ..., "optimizer": ...}`; where that depends on
            what the user gives of the recipe, a function of it, which is given {} for what it usually is.
        encoders: what it prescribes beyond that, options of the thing included, for encoders whose name contains a word:
            `{"resnet": {"optimizer": ..., "method.temperature": ...}}`.
        measured: what is better than that in runs of a person's size, likewise: batches of hundreds, tens of epochs. It is
            the default; `--paper` leaves it out.
        formerly: how runs were trained whose recipe does not name an option, where its default is another:
            `{"loss": "info-nce"}`. Such runs are read so.
        says: what these names are, where it is not the docstring's first line.
        kind: of thing, such as `views`; found for whatever lies in this package or inherits from something that does.
        preset: defaults of its options that differ under these names.

    Raises:
        UserError: a kind that cannot be found, a name that is taken, or a preset of an option that is none.
    """

    def decorate(make: _Made) -> _Made:
        found = kind or _kind_of(make)
        known = [p.name for p, _ in _keywords(make)]
        for option in preset:
            if option not in known:
                raise UserError(
                    f"{KINDS[found]} {names[0]!r} is registered with {option}, and has no such option"
                    f"{nearest(option, known)}; its options: {', '.join(known) or 'none'}"
                )
        for name in names:
            home = _files(found).get(name, make.__module__)
            before = _registered.get((found, name))
            if home != make.__module__ or (before and before.make.__module__ != make.__module__):
                taken = home if home != make.__module__ else before.make.__module__ if before else ""
                raise UserError(
                    f"{KINDS[found]} {name!r} of {_place(make.__module__)}: {_place(taken)} has that name: give another"
                )
            plain, follows = (recipe({}), recipe) if callable(recipe) else (recipe or {}, None)
            given = (preset, plain, encoders or {}, measured or {}, formerly or {}, says, follows)
            _registered[found, name] = Entry(found, name, make, *given)
        return make

    return decorate


def _kind_of(make: Callable[..., Any]) -> str:
    """By the place of a thing, or of what it inherits from: the deepest folder that has a kind."""
    for owner in make.__mro__ if isinstance(make, type) else [make]:
        place = owner.__module__.replace(".", "/")
        fitting = [kind for kind, folder in FOLDERS.items() if place.startswith(f"unlabeled/{folder}/")]
        if fitting:
            return max(fitting, key=lambda kind: len(FOLDERS[kind]))
    raise UserError(f"{make.__name__}: say what it is, as in @register(..., kind='views'); kinds: {', '.join(KINDS)}")


def load_plugin(path: str | Path) -> None:
    """Imports a file, for what it registers; once.

    Raises:
        UserError: no such file, or one that fails; it says in which line.
    """
    file = Path(path).expanduser().resolve()
    name = f"{_PLUGIN}{file.stem}_{zlib.crc32(str(file).encode()):08x}"  # two files may have the same name
    if name in sys.modules:
        return
    if not file.is_file() or file.suffix != ".py":
        raise UserError(f"plug-in {str(path)!r} is no Python file that is there: give one, such as mymethod.py")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever somebody else's file raises
        del sys.modules[name]
        for key in [key for key, entry in _registered.items() if entry.make.__module__ == name]:
            del _registered[key]
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        at = getattr(error, "lineno", None) or (lines[-1] if lines else 1)
        said = " ".join(str(error).split())
        said = said if isinstance(error, UserError) else f"{type(error).__name__}: {said}"
        raise UserError(f"plug-in {str(path)!r}, line {at}: {said}") from error
    _given[name] = file.name if Path(path).is_absolute() else str(path)


def _place(module: str) -> str:
    """A module as people know it: a plug-in by its file."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).name if file and module.startswith(_PLUGIN) else module


def is_plugin(file: str) -> bool:
    """Tells whether that file was imported as a plug-in."""
    return any(name.startswith(_PLUGIN) and getattr(m, "__file__", "") == file for name, m in list(sys.modules.items()))


def load_plugins() -> None:
    """Imports those that `$UNLABELED_PLUGINS` names, by which a process hands its own to the processes that it starts."""
    for path in filter(None, os.environ.get(PLUGINS, "").split(os.pathsep)):
        load_plugin(path)


def plugins() -> list[str]:
    """Lists the files of the plug-ins that were imported, as they were given, for a run to keep; of whole paths the names
    alone, as they would say what folders a machine has."""
    load_plugins()
    return [file for name, file in _given.items() if name in sys.modules]


def names(kind: str) -> list[str]:
    """Lists every registered name of a kind, sorted; imports none of them."""
    load_plugins()
    return sorted({*_files(kind), *_points(kind), *(name for of, name in _registered if of == kind)})


def get(kind: str, name: str) -> Entry:
    """Returns the entry of that name; imports its file.

    Raises:
        UserError: no such name; it says which known one is nearest.
    """
    load_plugins()
    if (kind, name) not in _registered and name in _files(kind):
        importlib.import_module(_files(kind)[name])
    if (kind, name) not in _registered and name in _points(kind):
        made = _loaded(kind, name)  # which registers it, if it is decorated
        _registered.setdefault((kind, name), Entry(kind, name, made))
    if (kind, name) in _registered:
        return _registered[kind, name]
    raise UnknownNameError(
        f"unknown {KINDS[kind]} {name!r}{nearest(name, names(kind))}; known: {', '.join(names(kind))}; "
        "one of your own: give its file with --plugin FILE"
    )


def _loaded(kind: str, name: str) -> Any:
    """What an entry point names.

    Raises:
        UserError: it cannot be imported.
    """
    point = _points(kind)[name]
    try:
        return point.load()
    except UserError:
        raise
    except Exception as error:  # whatever somebody else's package raises
        package = point.dist.name if point.dist else point.value
        said = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(
            f"{KINDS[kind]} {name!r} of the package {package} cannot be imported ({point.value}): {said}"
        ) from error


def brought(kind: str, name: str) -> Entry | None:
    """Returns the entry of what this process alone has: neither the package, nor a plug-in, nor an entry point."""
    entry = _registered.get((kind, name))
    known = entry is None or entry.make.__module__.startswith(("unlabeled.", _PLUGIN)) or name in _points(kind)
    return None if known else entry


def put(entry: Entry) -> None:
    """Keeps an entry that `own.own` made, or another process brought, in place of one of its name."""
    _registered[entry.kind, entry.name] = entry


def entries_of(make: Callable[..., Any]) -> list[Entry]:
    """Returns all entries under which a class or function is registered by now."""
    return [entry for entry in _registered.values() if entry.make is make]


def build(kind: str, choice: Choice, *args: Any) -> Any:
    """Builds what `choice` names: `make(*args, **options)`.

    Raises:
        UserError: an unknown name or option.
    """
    entry = get(kind, choice.name)
    return entry.make(*args, **entry.resolve(choice.options).options)


def coerce(value: Any, wanted: Any, what: str) -> Any:
    """Reads `value` (perhaps text from a command line or a YAML file) as the annotated type.

    Understands bool, int, float, str, `Literal`, `X | None`, tuples, and `Annotated` with a `Range`; passes others through.

    Raises:
        UserError: it is not such a value; the message begins with `what`.
    """
    origin, inner = get_origin(wanted), get_args(wanted)
    error = UserError(f"{what} is {value!r}, and must be {_spell(wanted)}")
    if origin is Annotated:
        plain, bounds = inner[0], inner[1]
        number = coerce(value, plain, what)
        if not bounds.low <= number <= bounds.high or (bounds.above and number == bounds.low):
            raise UserError(f"{what} is {value!r}, and must be {bounds}")
        return number
    if origin in (Union, UnionType):
        if value is None or (type(None) in inner and str(value).lower() in ("none", "null", "")):
            return None
        kinds = sorted((t for t in inner if t is not type(None)), key=lambda t: t is str)
        for kind in kinds[: len(kinds) if len(kinds) > 1 else 0]:
            with suppress(UserError):
                return coerce(value, kind, what)
        if len(kinds) == 1:
            try:
                return coerce(value, kinds[0], what)
            except UserError as refused:
                raise (refused if get_origin(kinds[0]) is Annotated else error) from None
        raise error
    if origin is Literal:
        for known in inner:
            if str(known) == str(value):
                return known
        raise error
    if origin is tuple:
        return _several(value, inner, what, error)
    if wanted is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(value).lower() not in words:
            raise error
        return words[str(value).lower()]
    return _plain(value, wanted, error) if wanted in (int, float, str) else value


def _several(value: Any, inner: tuple[Any, ...], what: str, error: UserError) -> tuple[Any, ...]:
    if not isinstance(value, str | list | tuple):
        raise error
    words = value.strip("()[] ") if isinstance(value, str) else ""
    parts = (words.split(",") if words else []) if isinstance(value, str) else list(value)
    kinds = [inner[0]] * len(parts) if inner[-1] is Ellipsis else inner
    if len(parts) != len(kinds):
        raise error
    try:
        return tuple(coerce(p, k, what) for p, k in zip(parts, kinds, strict=True))
    except UserError:
        raise error from None


def _plain(value: Any, wanted: Any, error: UserError) -> Any:
    try:
        made = wanted(value)
    except (TypeError, ValueError, OverflowError):
        raise error from None
    cut = wanted is int and isinstance(value, float) and made != value
    endless = wanted is float and not math.isfinite(made)
    if cut or endless or value is None or isinstance(value, bool | list | dict):
        raise error
    return made


def _spell(wanted: Any) -> str:
    if get_origin(wanted) is Annotated:
        return f"{_spell(get_args(wanted)[0])} {get_args(wanted)[1]}"
    if get_origin(wanted) is Literal:
        return "one of " + ", ".join(repr(v) for v in get_args(wanted))
    if get_origin(wanted) is tuple:
        kinds = get_args(wanted)
        several = "numbers with commas between" if kinds[-1] is Ellipsis else f"{len(kinds)} numbers with a comma between"
        return several + ", such as " + ",".join("1" if k is int else "0.5" for k in kinds if k is not Ellipsis)
    if get_origin(wanted) in (Union, UnionType):
        return " or ".join("null" if kind is type(None) else _spell(kind) for kind in get_args(wanted))
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(wanted, str(wanted))


@cache
def _helps(make: Callable[..., Any]) -> Mapping[str, str]:
    """Returns what the docstrings of a class and of those above it, or of a function, say of each argument; read once, as
    every recipe asks for it several times."""
    from docstring_parser import parse

    classes = [c for c in reversed(make.__mro__) if c is not object] if isinstance(make, type) else [make]
    texts = [text for c in classes for text in (c.__doc__, vars(c).get("__init__", c).__doc__) if text]
    return {p.arg_name: " ".join((p.description or "").split()) for text in texts for p in parse(text).params}


def _keywords(make: Any) -> list[tuple[inspect.Parameter, dict[str, Any]]]:
    """Keyword-only parameters, and the names that their annotations know. What a constructor takes as `**options` are those
    of the next class that it inherits from."""
    constructors = [vars(c)["__init__"] for c in make.__mro__ if "__init__" in vars(c)] if isinstance(make, type) else [make]
    found: dict[str, tuple[inspect.Parameter, dict[str, Any]]] = {}
    for constructor in constructors:
        parameters = inspect.signature(constructor).parameters.values() if hasattr(constructor, "__globals__") else ()
        for p in parameters:
            if p.kind is inspect.Parameter.KEYWORD_ONLY:
                found.setdefault(p.name, (p, constructor.__globals__))
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return list(found.values())


def _type(annotation: Any, spaces: dict[str, Any]) -> Any:
    return eval(annotation, spaces) if isinstance(annotation, str) else annotation


def nearest(word: str, known: Any) -> str:
    """Returns `; did you mean 'x'?`, or nothing if no known word is near."""
    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


@cache
def _files(kind: str) -> dict[str, str]:
    """Name -> module, read from the `@register("...")` decorators of the kind's files."""
    root = Path(__file__).parent
    found: dict[str, str] = {}
    for path in sorted((root / FOLDERS[kind]).rglob("*.py")):
        module = "unlabeled." + ".".join(path.relative_to(root).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register":
                found.update({str(a.value): module for a in node.args if isinstance(a, ast.Constant)})
    return found


@cache
def _points(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"unlabeled.{kind}")}
