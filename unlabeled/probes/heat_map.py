"""Counts in rows and columns as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.plots import save_figure

Array = np.ndarray[Any, Any]

_NAMED, _NUMBERED = 40, 20  # rows or columns up to which they have names, and numbers in their cells


def heat_map(
    path: Path, counts: Array, columns: Sequence[str], rows: Sequence[str], *, x: str, y: str, title: str, share: str
) -> Path:
    """Draws the share of each row that is in a column (cividis, which the colour-blind can read), with the counts.

    Args:
        path: of the PNG.
        counts: (rows, columns).
        columns: their names.
        rows: their names.
        x: what the columns are.
        y: what the rows are.
        title: above.
        share: what the colour is.

    Raises:
        UserError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 2.5 + 0.4 * min(_NUMBERED, max(counts.shape))
    figure = Figure((side + 1, side), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    shown = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    figure.colorbar(shown, label=share)
    if len(columns) <= _NAMED:
        names = [_short(name) for name in columns]
        axes.set_xticks(range(len(columns)), names, rotation=45, ha="right", fontsize=7, parse_math=False)
    if len(rows) <= _NAMED:
        axes.set_yticks(range(len(rows)), [_short(name) for name in rows], fontsize=7, parse_math=False)
    if max(counts.shape) <= _NUMBERED:
        for row, column in np.ndindex(*counts.shape):
            colour = "black" if shares[row, column] > 0.5 else "white"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=6, color=colour)
    axes.set(xlabel=x, ylabel=y, title=title)
    return save_figure(path, figure)


def _short(name: str) -> str:
    return name if len(name) <= 22 else name[:21] + "…"
