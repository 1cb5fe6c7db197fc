"""The pictures of `inspect`: histograms of the classes, a contact sheet, and the pairs of copies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from unlabeled.inspecting.census import Census
from unlabeled.inspecting.leakage import Copies
from unlabeled.plots import COLOURS, DASHES, save_figure, save_sheet
from unlabeled.views.sheet import lay, picture, zoom

CLASSES, ROWS, PAIRS = 12, 8, 12
"""Classes in a picture (the largest), images of each, and pairs of copies."""
_LARGEST = 96
_CHANNELS = {1: ("grey",), 3: ("red", "green", "blue")}
_INK = {"grey": COLOURS[-1], "red": COLOURS[1], "green": COLOURS[2], "blue": COLOURS[0]}


def draw(folder: Path, censuses: Mapping[str, Census], copies: Copies) -> list[Path]:
    """Writes the pictures; one of copies only if there are some, and then none is left of an earlier call."""
    written = [_histograms(folder / "histograms.png", censuses)]
    for name, census in censuses.items():
        written.append(_sheet(folder / f"images-{name}.png", census))
    pairs = folder / "copies.png"
    pairs.unlink(missing_ok=True)
    if copies.pairs:
        written.append(_copies(pairs, censuses, copies))
    return written


def _histograms(path: Path, censuses: Mapping[str, Census]) -> Path:
    """A panel for each of the largest classes: share of the pixels by value, a line for each channel and split."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullLocator

    first = next(iter(censuses.values()))
    shown = _largest(first)
    across = min(4, len(shown))
    down = math.ceil(len(shown) / across)
    figure = Figure((3 * across + 0.5, 2.2 * down + 0.6), layout="constrained")
    grid = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    channels = _CHANNELS.get(first.source.channels, tuple(f"channel {c + 1}" for c in range(first.source.channels)))
    for c, axes in zip(shown, grid, strict=False):
        for dash, (name, census) in zip(DASHES, censuses.items(), strict=False):
            for i, channel in enumerate(channels):
                counted = bins(census.histogram[c, i])
                share = 100 * counted / max(1, counted.sum())
                label = channel if len(censuses) == 1 else f"{channel}, {name}"
                ink = _INK.get(channel, COLOURS[i % len(COLOURS)])
                axes.plot(np.arange(4, 256, 8), share, dash, color=ink, label=label, linewidth=1.2, alpha=0.8)
        bits = " | ".join(f"{census.entropy[c]:.2f}" for census in censuses.values() if not math.isnan(census.entropy[c]))
        axes.set_title(f"{_name(first, c)}: {bits} bits", fontsize="small", parse_math=False)
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_locator(FixedLocator([0, 0.5, 1, 2, 5, 10, 20, 50, 100]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
        axes.grid(alpha=0.3)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel("value")
    figure.supylabel("share, %")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), fontsize="small")
    return save_figure(path, figure, dpi=110)


def bins(histogram: np.ndarray) -> np.ndarray:
    """Brings histograms (..., 256) into 32 bins of 8 values."""
    found: np.ndarray = histogram.reshape(*histogram.shape[:-1], 32, 8).sum(-1)
    return found


def _sheet(path: Path, census: Census) -> Path:
    """A column of images for each of the largest classes; without labels, columns of any."""
    random = np.random.default_rng(0)
    columns: list[list[Image.Image]] = []
    headings: list[str] = []
    if len(census.counts) > 1:
        for c in _largest(census):
            label = c if c < len(census.counts) - 1 else -1
            mine = np.flatnonzero(census.labels == label)
            columns.append(_pictures(census, random.permutation(mine)[:ROWS]))
            headings.append(_name(census, c))
    else:
        chosen = random.permutation(len(census))[: CLASSES * ROWS]
        columns = [_pictures(census, part) for part in np.array_split(chosen, min(CLASSES, len(chosen)))]
        headings = [""] * len(columns)
    return _save(path, columns, headings)


def _copies(path: Path, censuses: Mapping[str, Census], copies: Copies) -> Path:
    """Pairs, one below the other, with the ratio of distances by which they were found."""
    columns, headings = [], []
    for pair in copies.some(PAIRS):
        sides = [censuses[split].source.pictures([i]) for split, i in zip(pair.splits, pair.indices, strict=True)]
        columns.append([_small(image[0]) for image in sides])
        headings.append("exact" if pair.exact else f"{pair.ratio:.2f}")
    return _save(path, columns, headings)


def _save(path: Path, columns: list[list[Image.Image]], headings: list[str]) -> Path:
    sheet = lay(columns, headings, [zoom(columns)] * len(columns), [])
    return save_sheet(path, sheet)


def _largest(census: Census) -> list[int]:
    """The largest classes, in their order; among them those without label."""
    found = sorted(np.argsort(-census.counts, kind="stable")[:CLASSES].tolist())
    return [c for c in found if census.counts[c]]


def _name(census: Census, c: int) -> str:
    names: list[Any] = [*census.source.classes, "no label" if census.source.classes else "all images"]
    whole = " ".join(str(names[c]).split())
    return whole if len(whole) <= 16 else whole[:15] + "…"


def _pictures(census: Census, chosen: np.ndarray) -> list[Image.Image]:
    return [_small(image) for image in census.source.pictures(census.positions[chosen])]


def _small(image: Tensor) -> Image.Image:
    """A picture of at most 96 px."""
    if image.shape[-1] > _LARGEST:
        shrunk = F.interpolate(image[None].float(), size=(_LARGEST, _LARGEST), mode="bilinear", antialias=True)[0]
        image = shrunk.round().clamp(0, 255).to(torch.uint8)
    return picture(image)
