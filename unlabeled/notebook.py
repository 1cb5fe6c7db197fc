"""What results look like in a notebook: sentences, tables and pictures as HTML that needs nothing else."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text


def html(parts: Iterable[RenderableType], picture: Path | None = None) -> str:
    """Returns sentences and tables as they are, and a PNG above them, if there is one."""
    shown = (
        [] if picture is None else [f'<img src="data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}">']
    )
    return "\n".join(
        [*shown, *(_table(part) if isinstance(part, Table) else f"<p>{escape(str(part))}</p>" for part in parts)]
    )


def _table(table: Table) -> str:
    sides = ["right" if column.justify == "right" else "left" for column in table.columns]

    def row(cells: Iterable[RenderableType], tag: str) -> str:
        shown = (f'<{tag} style="text-align: {side}">{_cell(cell)}</{tag}>' for cell, side in zip(cells, sides, strict=True))
        return f"<tr>{''.join(shown)}</tr>"

    title = f"<caption>{_cell(table.title)}</caption>" if table.title else ""
    head = row([column.header for column in table.columns], "th")
    body = "".join(row(cells, "td") for cells in zip(*(column.cells for column in table.columns), strict=True))
    return f"<table>{title}<thead>{head}</thead><tbody>{body}</tbody></table>"


def _cell(cell: RenderableType) -> str:
    text = escape(cell.plain if isinstance(cell, Text) else str(cell))
    return f"<b>{text}</b>" if isinstance(cell, Text) and "bold" in str(cell.style) else text


@dataclass(frozen=True)
class Picture(os.PathLike[str]):
    """A PNG file, which a notebook shows; whatever takes a path takes it.

    Attributes:
        path: the file.
    """

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def _repr_png_(self) -> bytes:
        return self.path.read_bytes()

    def lines(self) -> list[str]:
        """Returns what a terminal shows."""
        return [f"written: {self.path}"]
