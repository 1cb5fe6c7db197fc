"""Rows of images: a query and what was found for it, right and wrong marked by frame and sign, not by colour alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from unlabeled.plots import save_figure

RIGHT, WRONG, NEUTRAL = ("#0072B2", "-", "✓"), ("#D55E00", (0, (3, 1.5)), "✕"), ("#808080", "-", "")
"""Colour (of Okabe and Ito 2008, "Color Universal Design"), dashes and sign."""

_WORD = 16  # letters of a class or file name that fit under an image
_ACROSS, _DOWN = 1.12, 1.42  # from one image to the next, in sides of an image


@dataclass(frozen=True, slots=True)
class Tile:
    """One image uint8 (C, H, W), the lines under it, and whether it is what was looked for; None where nobody knows."""

    image: Tensor
    lines: Sequence[str]
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A query, and what was found for it, the nearest first; a heading stands above the first row of its kind."""

    query: Tile
    found: Sequence[Tile]
    heading: str = ""


def draw_rows(path: Path, rows: Sequence[Row], title: str) -> Path:
    """Draws the rows below each other, the query on the left, and writes a PNG.

    Raises:
        UserError: the file cannot be written.
    """
    columns = 1 + max(len(row.found) for row in rows)
    tops, top = [], 0.0
    for row in rows:
        top += 0.4 * bool(row.heading)
        tops.append(top)
        top += _DOWN
    figure, axes = _sheet(columns * _ACROSS + 0.2, top, title)
    for row, top in zip(rows, tops, strict=True):
        if row.heading:
            axes.text(0, top - 0.12, row.heading, fontsize=8, weight="bold", va="center", parse_math=False)
        for at, tile in enumerate([row.query, *row.found]):
            _place(axes, tile, at * _ACROSS + 0.2 * (at > 0), top)
    return save_figure(path, figure)


def draw_tiles(path: Path, tiles: Sequence[Tile], title: str, across: int = 10) -> Path:
    """Draws images in rows of so many, in their order, and writes a PNG.

    Raises:
        UserError: the file cannot be written.
    """
    rows = -(-len(tiles) // across)
    figure, axes = _sheet(min(across, len(tiles)) * _ACROSS, rows * _DOWN, title)
    for at, tile in enumerate(tiles):
        _place(axes, tile, at % across * _ACROSS, at // across * _DOWN)
    return save_figure(path, figure)


def shown(image: Tensor) -> np.ndarray[Any, Any]:
    """Converts uint8 (C, H, W) to uint8 (H, W, 3): three channels as RGB, others as the grey of their mean."""
    if image.shape[0] != 3:
        image = image.float().mean(0, keepdim=True).round().expand(3, -1, -1)
    return image.byte().permute(1, 2, 0).cpu().numpy()


def _sheet(width: float, down: float, title: str) -> tuple[Any, Any]:
    """A figure under a title, in sides of an image."""
    from matplotlib.figure import Figure

    height = down + 0.35
    figure = Figure((0.85 * width, 0.85 * height), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(-0.06, width - 0.06), ylim=(height - 0.35, -0.35))
    axes.axis("off")
    axes.text(0, -0.16, title, fontsize=9, va="center", parse_math=False)
    return figure, axes


def _place(axes: Any, tile: Tile, left: float, top: float) -> None:
    colour, dashes, sign = NEUTRAL if tile.right is None else RIGHT if tile.right else WRONG
    axes.imshow(shown(tile.image), extent=(left, left + 1, top + 1, top), aspect="auto", interpolation="nearest", zorder=1)
    thick = 1 if tile.right is None else 2.5
    axes.plot(
        [left, left + 1, left + 1, left, left], [top, top, top + 1, top + 1, top], color=colour, linestyle=dashes,
        linewidth=thick, zorder=2, solid_joinstyle="miter",
    )  # fmt: skip
    if sign:
        box = {"facecolor": colour, "edgecolor": "none", "pad": 1.2}
        axes.text(left + 0.97, top + 0.04, sign, color="white", fontsize=7, ha="right", va="top", bbox=box, zorder=3)
    words = [word if len(word) <= _WORD else word[: _WORD - 1] + "…" for word in tile.lines]
    axes.text(
        left + 0.5, top + 1.04, "\n".join(words), fontsize=5.5, ha="center", va="top", linespacing=1.1, parse_math=False
    )
