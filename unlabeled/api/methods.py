"""The verb `methods`: made from signatures and docstrings, so that nothing is written twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

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
        table.add_row(name, Text(registry.get("methods", name).line))
    yield table
    yield "`unlabeled methods NAME` shows the options of one."


def page(entry: registry.Entry, prefix: str) -> Iterator[RenderableType]:
    """Says of one thing what it is, its options with their defaults, and what it asks of a run; `prefix` stands before the
    name of an option."""
    from docstring_parser import parse

    document = parse(entry.about)
    yield f"{entry.name}: {entry.line}"
    rest = " ".join(f"{document.short_description or ''} {document.long_description or ''}".split())
    if rest := rest.removeprefix(entry.line).strip():
        yield rest
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
