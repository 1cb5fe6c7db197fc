"""Parts of a user's own that are given in Python as they are: each gets the name by which a run knows it.

A run keeps that name, its options and its weights, and none of the code: nothing of a run's folder is ever executed. Whoever
opens the run again gives the part again (`unlabeled.give`), or has it in a plug-in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from unlabeled import registry
from unlabeled.errors import UserError
from unlabeled.registry import KINDS, Entry, entries_of

ARGUMENTS = {"method": "methods", "encoder": "encoders", "views": "views"}
"""Arguments of verbs that take a thing in place of its name, and the kind of thing."""

_given: dict[tuple[str, str], Any] = {}


def own(
    kind: str, thing: Any, make: Callable[..., Any], declared: Mapping[str, Any] | None = None, *, taken: bool = False
) -> str:
    """Names a thing by its class or function, and lets the registry build it; one of that name that was given before makes
    way, as a cell of a notebook is run again.

    Args:
        kind: of thing, such as `views`.
        thing: what the user gave.
        make: what the registry calls to build it.
        declared: fields of its `Entry`.
        taken: whether something outside the registry has its name.

    Raises:
        UserError: it has no name, or that of something else.
    """
    if registered := [entry.name for entry in entries_of(thing) if entry.kind == kind]:
        return registered[0]
    name = str(getattr(thing, "__name__", type(thing).__name__))
    if not name.isidentifier():
        raise UserError(
            f"{KINDS[kind]} {name!r} has no name that a run could keep, to know it by when it is resumed or opened again: "
            "write a function with def, or a class"
        )
    if taken or (name in registry.names(kind) and (kind, name) not in _given):
        raise UserError(
            f"{KINDS[kind]} {name!r} that was given has the name of another: call your class or function otherwise"
        )
    registry.put(Entry(kind, name, make, **(declared or {})))
    _given[kind, name] = thing
    return name


def given() -> dict[str, list[str]]:
    """Returns the names of what was given so far, by the argument that took it, for a run to keep."""
    found = {argument: [name for of, name in _given if of == kind] for argument, kind in ARGUMENTS.items()}
    return {argument: names for argument, names in found.items() if names}


def is_given(kind: str, name: str) -> bool:
    """Tells whether that name stands for something that was given in Python, which other processes do not have."""
    return (kind, name) in _given


def things(names: Mapping[str, str]) -> dict[str, Any]:
    """Returns what was given in Python of some names, each by the argument that takes it."""
    asked = {argument: (ARGUMENTS[argument], name) for argument, name in names.items()}
    return {argument: _given[key] for argument, key in asked.items() if key in _given}


def lacking(held: Mapping[str, Sequence[str]], asked: Collection[str]) -> str:
    """Says how to give again what is not known here; "" where nothing is missing.

    Args:
        held: names by the argument that took them, as a run kept them.
        asked: the names that its recipe asks for.
    """
    missing = [(argument, name) for argument, names in held.items() for name in names
               if name in asked and name not in registry.names(ARGUMENTS[argument])]  # fmt: skip
    if not missing:
        return ""
    them, as_ = ("them", "as they were") if len(missing) > 1 else ("it", "as it was")
    what, call = (join.join(f"{part}{sign}{name}" for part, name in missing) for join, sign in ((" and ", " "), (", ", "=")))
    return (
        f"{what}, given in Python: define {them} {as_}, and call unlabeled.give({call}); or put {them} into a file, with "
        "@register, for --plugin"
    )
