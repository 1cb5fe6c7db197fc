"""Maps: images laid out in the plane so that those with like features lie close; how far to trust one, and its picture."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.palette import COLOURS, MARKERS
from unlabeled.probes.base import Array, Shown, binomial, check_fit

NEIGHBOURS = 10
"""How many decide, in the figures."""
FEWEST = 5
LONGEST = 30  # characters of a class name in the legend


@dataclass(frozen=True, slots=True)
class Map:
    """Some of M images in the plane.

    Attributes:
        chosen: (m,) their positions in what was scored, ascending.
        xy: (m, 2) float; only the distances mean anything.
        figures: see `faithfulness`.
        labelled: how many of the images have a label.
    """

    chosen: Array
    xy: Array
    figures: dict[str, float]
    labelled: int

    @property
    def intervals(self) -> dict[str, float]:
        """Half the width of the 95% intervals of the two shares of labelled images."""
        shares = {name: value for name, value in self.figures.items() if name.startswith("knn")}
        return {name: binomial(value, self.labelled) for name, value in shares.items()}


def make(h: Tensor, y: Tensor, images: int, seed: int, embed: Callable[[Array], Array], protocol: str) -> Map:
    """A map of at most `images` of h (M, D) with labels y (M,), drawn by `seed`.

    Args:
        embed: features of unit length (m, D) to points (m, 2).
        protocol: its name, for messages.

    Raises:
        UserError: fewer than 5 images.
        ValueError: wrong shapes, or features that are not finite.
    """
    check_fit(h, y)
    if len(h) < FEWEST:
        raise UserError(f"{protocol}: {len(h)} images to test make no map, {FEWEST} do: give --data with more")
    drawn = np.random.default_rng(seed).permutation(len(h))[:images]
    chosen = np.sort(drawn)
    unit = F.normalize(h.cpu().float()[chosen], dim=1).numpy()
    xy = embed(unit)
    label = y.cpu().numpy()[chosen]
    return Map(chosen, xy, faithfulness(unit, xy, label), int((label >= 0).sum()))


def faithfulness(h: Array, xy: Array, y: Array) -> dict[str, float]:
    """What a map xy (m, 2) of features h (m, D) with labels y (m,), -1 where unlabelled, is worth. Shares in [0, 1]:

    `knn_map`, `knn_features`: the share of labelled images whose class the majority of the 10 nearest other labelled images
    has, in the map and in feature space (of equal votes the smaller class wins). `trustworthiness`: Venna and Kaski 2001;
    less than 1 as images are neighbours in the map (10, or fewer than half of a small map) that are none in feature space.
    """
    from sklearn.manifold import trustworthiness

    labelled = y >= 0
    found = {}
    if labelled.sum() > 1:
        found = {name: _left_out(x[labelled], y[labelled]) for name, x in (("knn_map", xy), ("knn_features", h))}
    return {**found, "trustworthiness": float(trustworthiness(h, xy, n_neighbors=min(NEIGHBOURS, (len(h) - 1) // 2)))}


def draw(folder: Path, name: str, title: str, made: Map, test: Shown, about: Mapping[str, Any]) -> list[Path]:
    """Writes `NAME.png`, one dot an image and one colour and shape a class, and `NAME.json`.

    The JSON holds `about`, `classes` (names), the `figures`, and one list each, of the same length, of `index` (position of
    the image in the test source), `x`, `y` and `label` (position in `classes`, -1 where unlabelled).

    Raises:
        UserError: a file cannot be written.
    """
    index, label = np.asarray(test.indices)[made.chosen], np.asarray(test.y)[made.chosen]
    columns = {"index": index.tolist(), "x": made.xy[:, 0].tolist(), "y": made.xy[:, 1].tolist(), "label": label.tolist()}
    data = {"protocol": name, "title": title, **about, "figures": made.figures, "classes": list(test.source.classes)}
    text = json.dumps({**data, **columns}) + "\n"
    picture = _scatter(title, made.xy, label, test.source.classes)
    return [
        write_whole(folder / f"{name}.png", lambda p: _save(picture, p)),
        write_whole(folder / f"{name}.json", lambda p: p.write_text(text, encoding="utf-8")),
    ]


def _left_out(x: Array, y: Array) -> float:
    """Accuracy of the majority of the 10 nearest others of each of x (m, D)."""
    from sklearn.neighbors import NearestNeighbors

    classes, label = np.unique(y, return_inverse=True)
    near = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(x) - 1)).fit(x).kneighbors(return_distance=False)  # (m, k)
    votes = np.stack([(label[near] == c).sum(1) for c in range(len(classes))], 1)  # (m, K)
    return float((votes.argmax(1) == label).mean())


def _scatter(title: str, xy: Array, label: Array, classes: Any) -> Any:
    """A figure of matplotlib; names are shown as they are written."""
    from matplotlib.figure import Figure

    shown = np.unique(label).tolist()
    columns = 1 + (len(shown) - 1) // 28
    figure = Figure((7 + 2 * columns, 7), layout="constrained")
    axes = figure.add_subplot()
    dots = []
    for c in shown:
        colour, marker = (
            (COLOURS[c % len(COLOURS)], MARKERS[c // len(COLOURS) % len(MARKERS)]) if c >= 0 else ("#999999", ".")
        )
        x, y = xy[label == c].T
        dots.append(axes.scatter(x, y, s=22, c=colour, marker=marker, edgecolors="white", linewidths=0.3))
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_title(title, parse_math=False)
    # words are put in afterwards: matplotlib leaves out names that begin with _, and sets what stands between $ as formulae
    legend = figure.legend(dots, ["-"] * len(dots), loc="outside right upper", ncols=columns, frameon=False, markerscale=1.5)
    for text, c in zip(legend.get_texts(), shown, strict=True):
        text.set_parse_math(False)
        text.set_text(_short(str(classes[c])) if c >= 0 else "no label")
    return figure


def _save(picture: Any, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a box stands for a letter that the font lacks
        picture.savefig(path, format="png", dpi=150)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
