"""The page of a table that `compare` or `sweep` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from unlabeled.comparing.remarks import UNTRAINED
from unlabeled.errors import UserError
from unlabeled.forms import FormError, read_json
from unlabeled.probes.base import binomial
from unlabeled.reporting.glance import Bar, bars
from unlabeled.reporting.images import file_uri
from unlabeled.reporting.tables import Table

TABLE, WORDS = "table.json", "table.md"
FIGURES = {"curves.svg": "kNN accuracy over minutes of training", "sweep.svg": "kNN accuracy over the values"}
ANSWERS = ("All methods clearly beat", "Not clearly", "Worse than")
"""What the remarks that answer the question begin with."""
ROWS = {"rows": [{"name": str, "kind?": str, "failed?": str}]}
"""What is read of the file, at least."""


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars under a title, between two ends."""

    title: str
    bars: Sequence[Bar]
    ends: tuple[str, str]


@dataclass(frozen=True, slots=True)
class BoardPage:
    """What the page shows, in its order.

    Attributes:
        title: of the table.
        best: who is best, in words; "" where no row came to its end.
        chart: kNN accuracy of all rows.
        answers: the remarks that say who beats the untrained encoder and whom.
        tables: of all figures.
        remarks: what else is to be said.
        figure: the SVG as a data URI; "" for none.
        figure_title: what it shows.
    """

    title: str
    best: str
    chart: Chart
    answers: Sequence[str]
    tables: Sequence[Table]
    remarks: Sequence[str]
    figure: str
    figure_title: str


def is_table(folder: Path) -> bool:
    """Tells whether `compare` or `sweep` wrote a table there."""
    return (folder / TABLE).is_file() and (folder / WORDS).is_file()


def board_page(folder: Path) -> BoardPage:
    """Reads a table.

    Raises:
        UserError: a file of it is damaged.
    """
    try:
        rows = read_json(folder / TABLE, ROWS)["rows"]
        title, tables, remarks = parsed((folder / WORDS).read_text(encoding="utf-8"))
    except (FormError, OSError, UnicodeDecodeError) as error:
        raise UserError(f"the table in {str(folder)!r} is damaged ({error}): repeat the command that made it") from error
    judged = [row for row in rows if row.get("figures")]
    competing = [row for row in judged if row.get("kind", "method") == "method" and not row.get("constant")]
    best = max(competing, key=_knn, default=None)
    drawn, ends = bars([(row["name"], _knn(row), _half(row), row is best) for row in judged]) if judged else ([], ("", ""))
    said = f"Best by kNN with all labels: {best['name']}, {100 * _knn(best):.1f} ± {100 * _half(best):.1f}%" if best else ""
    untrained = [f"; an untrained encoder has {100 * _knn(row):.1f}%" for row in judged if best and row["name"] == UNTRAINED]
    said += "".join(untrained)
    answers = [line for line in remarks if line.startswith(ANSWERS)]
    figure = next((name for name in FIGURES if (folder / name).is_file()), "")
    return BoardPage(
        title, said, Chart("kNN accuracy with all labels, and the 95% interval of so many test samples", drawn, ends),
        answers, tables, [line for line in remarks if line not in answers],
        file_uri(folder / figure) if figure else "", FIGURES.get(figure, ""),
    )  # fmt: skip


def _knn(row: Mapping[str, Any]) -> float:
    return fmean(row["figures"]["knn"])


def _half(row: Mapping[str, Any]) -> float:
    return float(row.get("intervals", {}).get("knn") or binomial(_knn(row), row["tested"]))


def parsed(text: str) -> tuple[str, list[Table], list[str]]:
    """Returns title, tables and remarks of the Markdown that a table is written as.

    >>> parsed("# a\\n\\n| row | kNN |\\n| --- | --: |\\n| **x** | 1 |\\n\\n- said")[1][0].rows
    [['x', '1']]
    """
    lines = text.splitlines()
    title = next((line[2:] for line in lines if line.startswith("# ")), "table")
    blocks: list[list[list[str]]] = []
    for at, line in enumerate(lines):
        if line.startswith("| "):
            cells = [cell.strip().strip("*") for cell in line.strip("| ").split(" | ")]
            blocks += [] if at and lines[at - 1].startswith("| ") else [[]]
            blocks[-1].append(cells)
    tables = [Table(title, head, rows, 1) for head, _, *rows in blocks]
    return title, tables, [line[2:] for line in lines if line.startswith("- ")]
