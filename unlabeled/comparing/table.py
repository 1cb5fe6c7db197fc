"""A table of rows in Markdown and for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from unlabeled.console import text
from unlabeled.files import write_whole
from unlabeled.notebook import html

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """What a column shows.

    Attributes:
        title: its head.
        value: the number of a row by which rows are compared; None if it has none.
        text: how the row's number is written; by default with one decimal.
        best: `max` or `min`, if the best is printed bold.
        counts: whether a row may be the best here.
    """

    title: str
    value: Callable[[Row], float | None]
    text: Callable[[Row], str] | None = None
    best: Callable[[list[float]], float] | None = None
    counts: Callable[[Row], bool] = lambda row: True

    def cell(self, row: Row) -> str:
        """Returns what stands there."""
        value = self.value(row)
        if value is None:
            return "–"
        return self.text(row) if self.text else f"{value:,.1f}"


def figure(title: str, name: str, *, interval: bool = False) -> Column:
    """Returns percentages of one of the row's figures, with the standard deviation over several draws; of a single one, if
    asked, with half the 95% interval that the number of test samples gives it."""

    def value(row: Row) -> float | None:
        found = row.get("figures", {}).get(name)
        return fmean(found) if found else None

    def text(row: Row) -> str:
        found = [100 * share for share in row["figures"][name]]
        half = row.get("intervals", {}).get(name) if interval else None
        spread = stdev(found) if len(found) > 1 else half and 100 * half
        return f"{fmean(found):.1f}{'' if spread is None else f' ± {spread:.1f}'}%"

    return Column(title, value, text, max)


def number(
    title: str,
    name: str,
    form: str = "{:,.1f}",
    best: Callable[[list[float]], float] | None = None,
    counts: Callable[[Row], bool] = lambda row: True,
) -> Column:
    """Returns a number that the row holds itself."""
    return Column(title, lambda row: row.get(name), lambda row: form.format(row[name]), best, counts)


@dataclass(frozen=True)
class Tabled:
    """What `compare` and `sweep` give back.

    Attributes:
        path: of the table in Markdown, written once there is a row; the same in JSON, with more, is `table.json` beside it.
        rows: as in that JSON.
        finished: False after Ctrl-C.
        failed: what went wrong, by the name of the row.
        shown: what a terminal shows.
    """

    path: Path
    rows: Sequence[Row]
    finished: bool
    failed: Mapping[str, str]
    shown: Sequence[RenderableType]

    def __str__(self) -> str:
        return text(self.lines())

    def _repr_html_(self) -> str:
        return html(self.lines())

    def lines(self) -> Iterator[RenderableType]:
        """Returns what a terminal shows."""
        yield from self.shown
        if self.rows:
            yield f"written: {self.path}"


def grid(columns: Sequence[Column], rows: Sequence[Row], competing: Callable[[Row], bool]) -> list[list[str]]:
    """Returns the cells of all rows in Markdown: those of a column's best in bold, among competing rows."""
    cells = [[column.cell(row) for column in columns] for row in rows]
    for at, column in enumerate(columns):
        values = [column.value(row) if competing(row) and column.counts(row) else None for row in rows]
        there = [value for value in values if value is not None]
        if column.best and there:
            best = column.best(there)
            for line, value in zip(cells, values, strict=True):
                line[at] = f"**{line[at]}**" if value == best else line[at]
    return cells


def markdown(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown; the first column is aligned to the left."""
    lines = [[column.title for column in columns], ["---", *["--:"] * (len(columns) - 1)], *cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def for_terminal(columns: Sequence[Column], cells: Sequence[Sequence[str]]) -> Table:
    """Returns the same for a terminal."""
    table = Table(box=None)
    for at, column in enumerate(columns):
        table.add_column(column.title, justify="left" if at == 0 else "right", overflow="fold")
    for line in cells:
        table.add_row(*(Text(c.strip("*"), "bold") if c.startswith("**") else c for c in line))
    return table


def write(path: Path, text: str) -> Path:
    """Writes a text whole."""
    return write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))
