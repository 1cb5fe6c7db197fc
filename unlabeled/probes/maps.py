"""Maps: images laid out in the plane so that those with like features lie close; how far to trust one, and its picture."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.plots import COLOURS, MARKERS, save_figure
from unlabeled.probes.base import Array, Figure, Shown, binomial, check_fit
from unlabeled.probes.health import jackknife
from unlabeled.words import counted

NEIGHBOURS = 10
"""How many decide, in the figures."""
FEWEST = 5
ROWS = 256
"""Images whose distances to all others are held at once."""
LONGEST = 30  # characters of a class name in the legend


@dataclass(frozen=True, slots=True)
class Map:
    """Some of M images in the plane.

    Attributes:
        chosen: (m,) their positions in what was scored, ascending.
        xy: (m, 2) float; only the distances mean anything.
        figures: see `faithfulness`.
    """

    chosen: Array
    xy: Array
    figures: dict[str, Figure]


class Layout(ABC):
    """A protocol that lays out test images; a concrete one has the options `images` and `seed`, gives points, and says what
    they are.

    Attributes:
        protocol: its registered name.
        called: its usual name.
        map_: what was made by `score`.
        intervals_: half the width of the 95% confidence interval of each figure.
    """

    fits: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    protocol: ClassVar[str]
    called: ClassVar[str]
    images: int
    seed: int
    notes_: list[str]

    @abstractmethod
    def _embed(self, unit: Array) -> Array:
        """Features of unit length (m, D) to points (m, 2) float64."""

    @abstractmethod
    def _made_with(self) -> dict[str, float]:
        """What the map that was made last hangs on most: name of an option -> its value, which may be other than asked
        for."""

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Learns nothing from training images."""
        return self

    def predict(self, h: Tensor) -> Tensor:
        """Returns places of h (m, D), finite, in the plane: (m, 2) float64. They are one map: others would move them."""
        return torch.from_numpy(self._embed(F.normalize(h.cpu().float(), dim=1).numpy()))

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """Returns the figures of `faithfulness`, on a map of at most `images` of h (M, D) with labels y (M,), drawn by
        `seed`: `knn_map` first.

        Raises:
            UserError: fewer than 5 images.
            ValueError: wrong shapes, or features that are not finite.
        """
        check_fit(h, y)
        if len(h) < FEWEST:
            raise UserError(
                f"{self.protocol}: {counted(len(h), 'test images', 'make')} no map, {FEWEST} do: give --data with more"
            )
        chosen = np.sort(np.random.default_rng(self.seed).permutation(len(h))[: self.images])
        self.scored_ = len(chosen)
        unit = F.normalize(h.cpu().float()[chosen], dim=1).numpy()
        xy = self._embed(unit)
        self.map_ = Map(chosen, xy, faithfulness(unit, xy, y.cpu().numpy()[chosen]))
        figures = self.map_.figures
        self.intervals_ = {name: figure.interval for name, figure in figures.items() if figure.interval is not None}
        return {name: figure.value for name, figure in figures.items()}

    def draw(self, folder: Path, name: str, train: Shown, test: Shown) -> list[Path]:
        """Writes `NAME.png`, one dot an image and one colour and shape a class, and `NAME.json`.

        The JSON holds how the map was made, `classes` (names), the `figures`, and one list each, of the same length, of
        `index` (position of the image in the test source), `number` (that in the data as given), `x`, `y` and `label`
        (position in `classes`, -1 where unlabelled).

        Raises:
            UserError: a file cannot be written.
        """
        about = self._made_with()
        title = ", ".join(
            [f"{self.called} of {counted(len(self.map_.xy), 'test images')}", *(f"{k} {v:.0f}" for k, v in about.items())]
        )
        index, label = np.asarray(test.indices)[self.map_.chosen], np.asarray(test.y)[self.map_.chosen]
        columns = {
            "index": index,
            "number": test.source.numbers[index],
            "x": self.map_.xy[:, 0],
            "y": self.map_.xy[:, 1],
            "label": label,
        }
        figures = {key: figure.value for key, figure in self.map_.figures.items()}
        data = {"protocol": self.protocol, "title": title, **about, "figures": figures, "classes": list(test.source.classes)}
        text = json.dumps({**data, **{key: column.tolist() for key, column in columns.items()}}) + "\n"
        picture = _scatter(title, self.map_.xy, label, test.source.classes)
        return [
            save_figure(folder / f"{name}.png", picture, dpi=150),
            write_whole(folder / f"{name}.json", lambda p: p.write_text(text, encoding="utf-8")),
        ]


def faithfulness(h: Array, xy: Array, y: Array) -> dict[str, Figure]:
    """Measures what a map xy (m, 2) of features h (m, D) with labels y (m,), -1 where unlabelled, is worth. Shares in [0,
    1], each with its 95% confidence interval over the images:

    `knn_map`, `knn_features`: the share of labelled images whose class the majority of the 10 nearest other labelled images
    has, in the map and in feature space (of equal votes the smaller class wins). `trustworthiness`: see there; its interval
    is that of the jackknife, as an image has a part in the ranks of all others.
    """
    labelled = y >= 0
    found = {}
    if labelled.sum() > 1:
        for name, x in (("knn_map", xy), ("knn_features", h)):
            share = _left_out(x[labelled], y[labelled])
            found[name] = Figure(share, binomial(share, int(labelled.sum())))
    half = jackknife(lambda *both: trustworthiness(*(part.numpy() for part in both)), *map(torch.from_numpy, (h, xy)))
    return {**found, "trustworthiness": Figure(trustworthiness(h, xy), half)}


def trustworthiness(h: Array, xy: Array) -> float:
    """Tells how far the neighbours of images in a map xy (m, 2), 10 or fewer than half of a small map, are neighbours in
    feature space h (m, D) too: in [0, 1] (Venna and Kaski 2001). A neighbour in the map of rank r > k in feature space costs
    r - k.
    """
    from sklearn.metrics import pairwise_distances
    from sklearn.neighbors import NearestNeighbors

    n = len(h)
    k = min(NEIGHBOURS, (n - 1) // 2)
    near = NearestNeighbors(n_neighbors=k).fit(xy).kneighbors(return_distance=False)  # (m, k)
    lost = 0
    for rows in np.array_split(np.arange(n), -(-n // ROWS)):
        far = pairwise_distances(h[rows], h)  # (rows, m)
        far[np.arange(len(rows)), rows] = -1  # itself has rank 0
        rank = np.empty(far.shape, np.int64)
        np.put_along_axis(rank, far.argsort(axis=1), np.arange(n)[None], axis=1)
        lost += np.maximum(0, np.take_along_axis(rank, near[rows], axis=1) - k).sum()
    return float(1 - 2 * lost / (n * k * (2 * n - 3 * k - 1)))


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


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
