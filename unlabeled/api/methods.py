"""The verb `methods`: made from signatures and docstrings, so that nothing is written twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from unlabeled import registry


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All methods; or one, with its options, defaults and paper."""

    name: str | None = None

    def lines(self) -> Iterator[RenderableType]:
        """Returns what a terminal shows."""
        yield from page(registry.get("methods", self.name), "--method.") if self.name else _overview()


def _overview() -> Iterator[RenderableType]:
    table = Table("method", "what it is", box=None)
    for name in registry.names("methods"):
        entry = registry.get("methods", name)
        table.add_row(name, entry.says or next(iter(entry.about.splitlines()), ""))
    yield table
    yield "`unlabeled methods NAME` shows the options of one."


def page(entry: registry.Entry, prefix: str) -> Iterator[RenderableType]:
    """Says of one thing what it is, its options with their defaults, and what it asks of a run; `prefix` stands before the
    name of an option."""
    from docstring_parser import parse

    document = parse(entry.about)
    yield f"{entry.name}: {entry.says or document.short_description or 'no docstring'}"
    if document.long_description:
        yield " ".join(document.long_description.split())
    table = Table("option", "default", "meaning", box=None)
    for name, option in entry.options().items():
        table.add_row(f"{prefix}{name}", str(option.default), option.help)
    if table.row_count:
        yield table
    for part, value in entry.recipe.items():
        yield f"{part} unless told otherwise: {_spell(value)}"
    for kind, parts in entry.encoders.items():
        for part, value in parts.items():
            yield f"{part} unless told otherwise, with an encoder named {kind}: {_spell(value)}"


def _spell(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    return f"{value['name']} (" + ", ".join(f"{k} {v}" for k, v in value.items() if k != "name") + ")"
