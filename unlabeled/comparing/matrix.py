"""The study of pairs of transformations (SimCLR, figure 5): which rows it takes, and the matrix made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from unlabeled.comparing.table import Column
from unlabeled.files import write_whole
from unlabeled.registry import get

POLICY = "pair"
AXES = ["views.first", "views.second"]
CAPTION = (
    "Linear top-1 accuracy in percent: one view is a random crop, the other the same crop transformed, first as the row "
    "says, then as the column does. On the diagonal a single transformation; last, the mean of the row."
)


def spelled(word: str) -> list[str]:
    """Spells `views` and `views=crop,blur` as the two axes that it stands for; any other axis as it is.

    >>> spelled("views=crop,blur")
    ['views.first=crop,blur', 'views.second=crop,blur']
    """
    name, _, given = word.partition("=")
    if name.strip().removeprefix("--") != "views" or (not given.strip() and "=" in word):
        return [word]
    values = given or ",".join(get_args(get("views", POLICY).options()["first"].type))
    return [f"{axis}={values}" for axis in AXES]


def asked(axes: Sequence[str]) -> bool:
    """Tells whether these axes are those of the study."""
    return sorted(axes) == AXES


@dataclass(frozen=True)
class Matrix:
    """Shares in [0, 1] of right classes.

    Attributes:
        first: transformations that come first, one a row.
        second: those that follow, one a column.
        shares: (rows, columns), None where there is none yet.
    """

    first: Sequence[str]
    second: Sequence[str]
    shares: Sequence[Sequence[float | None]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        """Makes the matrix from the rows of a table; transformations in the paper's order."""
        order = get_args(get("views", POLICY).options()["first"].type)
        first, second = ([name for name in order if any(row["values"][axis] == name for row in rows)] for axis in AXES)
        found = {tuple(row["values"][axis] for axis in AXES): fmean(row["figures"]["linear"])
                 for row in rows if "figures" in row}  # fmt: skip
        return cls(first, second, [[found.get((a, b)) for b in second] for a in first])

    @property
    def means(self) -> list[float | None]:
        """Of each row, if it is complete."""
        rows = [[share for share in row if share is not None] for row in self.shares]
        return [fmean(row) if len(row) == len(self.second) else None for row in rows]

    @property
    def columns(self) -> list[Column]:
        """Their titles, for a table."""
        return [Column(title, lambda row: None) for title in ("first \\ second", *self.second, "mean")]

    def cells(self) -> list[list[str]]:
        """Returns the table's text, in percent; the best pair and the best mean in bold."""
        best = max((s for row in self.shares for s in row if s is not None), default=None)
        highest = max((mean for mean in self.means if mean is not None), default=None)
        return [
            [name, *(_percent(share, best) for share in row), _percent(mean, highest)]
            for name, row, mean in zip(self.first, self.shares, self.means, strict=True)
        ]

    def json(self) -> dict[str, Any]:
        """Returns all of it, in JSON's own types."""
        shares = [list(row) for row in self.shares]
        return {"first": list(self.first), "second": list(self.second), "linear": shares, "means": self.means}


def draw(path: Path, matrix: Matrix, *, title: str) -> Path:
    """Draws the matrix as SVG, with its numbers and the means of its rows; lighter is better, on a scale that people who
    are colour-blind see as others do (viridis)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    table = [[*row, mean] for row, mean in zip(matrix.shares, matrix.means, strict=True)]
    there = [100 * share for row in table for share in row if share is not None]
    low, high = min(there, default=0.0), max(there, default=100.0)
    names = [*matrix.second, "mean"]
    with mpl.rc_context({"svg.hashsalt": "unlabeled", "svg.fonttype": "path"}):
        figure = Figure((1.8 + 0.75 * len(names), 1.4 + 0.6 * len(table)), layout="constrained")
        axes = figure.add_subplot()
        values = [[float("nan") if share is None else 100 * share for share in row] for row in table]
        shown = axes.imshow(values, cmap="viridis", vmin=low, vmax=max(high, low + 1e-6), aspect="auto")
        for i, row in enumerate(table):
            for j, share in enumerate(row):
                dark = share is not None and 100 * share < (low + high) / 2
                text = _percent(share, None)
                axes.text(j, i, text, ha="center", va="center", fontsize="small", color="white" if dark else "black")
        axes.axvline(len(matrix.second) - 0.5, color="white", linewidth=3)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
        axes.set_yticks(range(len(table)), list(matrix.first))
        axes.set(xlabel="second transformation", ylabel="first transformation", title=title)
        axes.title.set_fontsize("small")
        figure.colorbar(shown, label="linear top-1 accuracy, %")
        return write_whole(path, lambda p: figure.savefig(p, format="svg", bbox_inches="tight", metadata={"Date": None}))


def _percent(share: float | None, best: float | None) -> str:
    text = "–" if share is None else f"{100 * share:.1f}%"
    return f"**{text}**" if share is not None and share == best else text
