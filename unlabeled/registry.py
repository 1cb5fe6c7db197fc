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
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from unlabeled.errors import UserError

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
    """One keyword argument of a registered thing: its default, its annotation as written, its line of the docstring."""

    default: Any
    annotation: str
    help: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered thing: what builds it, and the option values that this name stands for (`moco-v1` of `moco`)."""

    kind: str
    name: str
    make: Callable[..., Any]
    preset: Mapping[str, Any]

    def options(self) -> dict[str, Option]:
        """The keyword-only arguments of the constructor with this name's defaults: THE options, written nowhere else."""
        from docstring_parser import parse

        documents = [parse(text) for text in (self.make.__doc__, getattr(self.make, "__init__", self.make).__doc__) if text]
        helps = {p.arg_name: " ".join((p.description or "").split()) for d in documents for p in d.params}
        parameters = inspect.signature(self.make).parameters.values()
        return {
            p.name: Option(self.preset.get(p.name, p.default), str(p.annotation), helps.get(p.name, ""))
            for p in parameters
            if p.kind is inspect.Parameter.KEYWORD_ONLY
        }


def register(*names: str, **preset: Any) -> Callable[[_Made], _Made]:
    """Class or function decorator: gives the thing its names. `preset` replaces defaults of its options for these names."""

    def decorate(make: _Made) -> _Made:
        kind = make.__module__.split(".")[1]
        for name in names:
            _registered[kind, name] = Entry(kind, name, make, preset)
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
        return Entry(kind, name, _plugins(kind)[name].load(), {})
    raise UserError(f"unknown {KINDS[kind]} {name!r}{nearest(name, names(kind))}; known: {', '.join(names(kind))}")


def build(kind: str, choice: Choice, *args: Any) -> Any:
    """Builds what `choice` names: `make(*args, **options)`.

    Raises:
        UserError: an unknown name or option.
    """
    entry = get(kind, choice.name)
    known = entry.options()
    for option in choice.options:
        if option not in known:
            listed = ", ".join(known) or "none"
            raise UserError(
                f"{KINDS[kind]} {choice.name!r} has no option {option!r}{nearest(option, known)}; its options: {listed}"
            )
    return entry.make(*args, **{**entry.preset, **choice.options})


def nearest(word: str, known: Any) -> str:
    """`; did you mean 'x'?`, or nothing if no known word is near."""
    near = difflib.get_close_matches(word, list(known), 1, 0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


@cache
def _files(kind: str) -> dict[str, str]:
    """Name -> module, read from the `@register("...")` decorators of the kind's files."""
    root = Path(__file__).parent
    package = root / kind
    paths = sorted(package.glob("*.py")) if package.is_dir() else [root / f"{kind}.py"]
    found = {}
    for path in paths:
        module = "unlabeled." + ".".join(path.relative_to(root).with_suffix("").parts)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "register":
                found.update({a.value: module for a in node.args if isinstance(a, ast.Constant)})
    return found


@cache
def _plugins(kind: str) -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=f"unlabeled.{kind}")}
