"""Clusters: do the groups that k-means finds in the features, without labels, agree with the classes?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.parts.clustering import kmeans
from unlabeled.probes.base import Shown, check_fit
from unlabeled.probes.heat_map import heat_map
from unlabeled.registry import register

Array = np.ndarray[Any, Any]

ITERATIONS = 50
"""Of k-means: twice the number that faiss takes by itself."""

SAMPLED = 2000
"""Images that the silhouette looks at, as it compares all pairs."""


@register("clusters")
class Clusters:
    """k-means on features of unit length (faiss), from several starts; test images belong to the nearest centroid.

    - `nmi`: normalised mutual information of clusters and classes, I / ((H + H') / 2), in [0, 1] (Vinh, Epps and Bailey
      2010, table 2, the sum; scikit-learn's default).
    - `ari`: adjusted Rand index, at most 1 and 0 on average for chance, so it may be negative (Hubert and Arabie 1985).
    - `accuracy`: share of test images whose cluster is matched with their class, by the one-to-one matching that is best for
      these images (Kuhn 1955, the Hungarian method). A cluster beyond the number of classes is matched with none.
    - `silhouette`: mean silhouette (Rousseeuw 1987) in [-1, 1] of up to 2,000 test images, by the Euclidean distance of
      features of unit length; reads no label. 0 where all of them are in one cluster, or each is in its own.

    Each is a mean over the seeds. `fit` takes nothing from the labels but the number of classes, and learns from all
    training features, labelled or not. Images without a label (-1) are not scored.

    Args:
        k: clusters (default: as many as there are classes).
        seeds: starts of k-means, with seeds from 0 on (5, so that a spread can be told).

    Attributes:
        intervals_: name of a figure -> half the width of the 95% confidence interval of its mean over the seeds, by
            Student's t; empty with one seed. It says how much k-means hangs on its start, not how much on the images.
    """

    plain: ClassVar[tuple[str, ...]] = ("silhouette",)
    fits: ClassVar[bool] = False

    def __init__(self, *, k: int | None = None, seeds: int = 5) -> None:
        self.k, self.seeds = k, seeds
        self.notes_: list[str] = []
        self.intervals_: dict[str, float] = {}

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Clusters `reference` (R, D), or h (N, D) where there is none; of y (N,) int64 only the number of classes is used.

        Raises:
            UserError: an option out of range: there must be from 2 clusters to as many as there are images.
            ValueError: wrong shapes, no sample, or features that are not finite.
        """
        check_fit(h, y)
        x = F.normalize((h if reference is None else reference).float(), dim=1)
        k = len(torch.unique(y[y >= 0])) if self.k is None else self.k
        if self.seeds < 1:
            raise UserError(f"clusters: seeds must be at least 1, got {self.seeds}")
        if not 2 <= k <= len(x):
            raise UserError(f"clusters: k is {k}, and must be from 2 to the number of training images, {len(x):,}")
        self.centroids_ = [kmeans(x, k, seed, ITERATIONS)[0] for seed in range(self.seeds)]  # (k, D) each
        self.inertia_ = [_inertia(x, centroids) for centroids in self.centroids_]
        return self

    def predict(self, h: Tensor) -> Tensor:
        """Returns the cluster of each of h (M, D): (M,) int64 in [0, k) on the device of `h`, by the seed of least
        inertia."""
        best = self.centroids_[int(np.argmin(self.inertia_))]
        return _assign(F.normalize(h.float(), dim=1), best)

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """Returns `nmi`, `ari`, `accuracy` and `silhouette`, means over the seeds, on h (M, D) with labels y (M,)."""
        from scipy.stats import t
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        x, labels = F.normalize(h[(y >= 0).to(h.device)].float(), dim=1), y[y >= 0].cpu().numpy()
        each: dict[str, list[float]] = {"nmi": [], "ari": [], "accuracy": [], "silhouette": []}
        for centroids in self.centroids_:
            found = _assign(x, centroids).cpu().numpy()
            each["nmi"].append(float(normalized_mutual_info_score(labels, found)))
            each["ari"].append(float(adjusted_rand_score(labels, found)))
            each["accuracy"].append(matched_accuracy(contingency(found, labels)))
            each["silhouette"].append(silhouette(x.cpu().numpy(), found))
        self.assigned_ = self.predict(h).cpu().numpy()
        n = self.seeds
        factor = float(t.ppf(0.975, n - 1)) / math.sqrt(n) if n > 1 else 0.0
        self.intervals_ = {name: factor * float(np.std(values, ddof=1)) for name, values in each.items()} if n > 1 else {}
        return {name: float(np.mean(values)) for name, values in each.items()}

    def draw(self, folder: Path, name: str, train: Shown, test: Shown) -> list[Path]:
        """Writes `NAME.png` and `NAME.json`: how many test images of each class are in each cluster, by the seed of
        least inertia, clusters in the order of the classes that they are matched with.

        The JSON holds `classes`, `clusters` (their numbers, by row), `matched` (index into `classes` by row, -1 for none)
        and `counts` (rows of clusters, columns of classes).
        """
        k, classes = len(self.centroids_[0]), list(test.source.classes)
        scored = test.y >= 0
        counts = contingency(self.assigned_[scored], test.y[scored], (k, len(classes)))
        partner = match(counts)
        order = sorted(range(k), key=lambda c: (partner[c] < 0, partner[c], c))
        counts, matched = counts[order], [partner[c] for c in order]
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"classes": classes, "clusters": order, "matched": matched, "counts": counts.tolist()}) + "\n"
        picture = heat_map(
            folder / f"{name}.png", counts, classes, [str(c) for c in order], x="class", y="cluster",
            title="Test images by cluster and class", share="share of the cluster",
        )  # fmt: skip
        return [picture, write_whole(folder / f"{name}.json", lambda p: p.write_text(text, encoding="utf-8"))]


def contingency(clusters: Array, y: Array, shape: tuple[int, int] | None = None) -> Array:
    """Counts the images, with clusters (M,) and labels y (M,), in each cluster and class: (clusters, classes)."""
    shape = shape or (int(clusters.max()) + 1, int(y.max()) + 1)
    counts = np.zeros(shape, np.int64)
    np.add.at(counts, (clusters, y), 1)
    return counts


def match(counts: Array) -> list[int]:
    """Returns the class of each cluster, -1 for none, that makes the most images of (clusters, classes) agree, one to
    one."""
    from scipy.optimize import linear_sum_assignment

    partner = np.full(len(counts), -1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    partner[rows] = columns
    return [int(p) for p in partner]


def matched_accuracy(counts: Array) -> float:
    """Returns the share of images whose cluster is matched with their class, from (clusters, classes)."""
    return float(sum(counts[c, p] for c, p in enumerate(match(counts)) if p >= 0) / counts.sum())


def silhouette(x: Array, clusters: Array) -> float:
    """Computes the mean silhouette in [-1, 1] of up to `SAMPLED` of x (M, D) in clusters (M,), the same ones each time; 0
    where it has no meaning: one cluster, or as many as images."""
    from sklearn.metrics import silhouette_score

    chosen = np.random.default_rng(0).permutation(len(x))[:SAMPLED]
    x, clusters = x[chosen], clusters[chosen]
    return float(silhouette_score(x, clusters)) if 2 <= len(np.unique(clusters)) < len(x) else 0.0


def _distances(x: Tensor, centroids: Tensor) -> Iterator[Tensor]:
    """Of x (M, D), in tiles, to centroids (k, D): (tile, k) float64, as centroids may lie very near each other."""
    for tile in torch.split(x, 4096):
        yield torch.cdist(tile.double(), centroids.to(x.device).double())


def _inertia(x: Tensor, centroids: Tensor) -> float:
    """Sum of the squared distances of x (N, D) to their nearest centroids."""
    return sum(float(far.amin(dim=1).square().sum()) for far in _distances(x, centroids))


def _assign(x: Tensor, centroids: Tensor) -> Tensor:
    """The nearest centroid of each of x (M, D): (M,) int64."""
    return torch.cat([far.argmin(dim=1) for far in _distances(x, centroids)])
