"""Pictures that are there twice: exact copies by a hash of their pixels, changed ones by what is too near to be chance."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, DIMENSIONS = 8, 64
"""Side of a thumbnail in pixels: re-encoding and resizing change what is smaller, and little else. Principal components of
thumbnails that are compared: those of colour hold 97% of CIFAR-10's variance."""

NEIGHBOURS = 10
"""The distance to this neighbour is the measure of what is near in a picture's surroundings; of more copies than these none
stands out."""

FEWEST = 3 * NEIGHBOURS
"""Different pictures without which there are no surroundings to speak of."""

FALSE_ALARMS, NEAREST = 0.5, 0.5
"""Pictures that may be reported by chance, expected in the whole of the data. Largest ratio of distances that is reported
however improbable chance is: pictures of one scene are no copies of each other."""

Array = np.ndarray[Any, Any]


def digests(samples: Tensor) -> list[bytes]:
    """Returns a hash of each of the samples (B, ...): the same for the same values, whatever file they came from."""
    return [hashlib.blake2b(sample.tobytes(), digest_size=16).digest() for sample in samples.numpy()]


def first_of(keys: list[bytes]) -> Array:
    """Returns (n,) int64: the position at which each key occurs first."""
    seen: dict[bytes, int] = {}
    return np.array([seen.setdefault(key, i) for i, key in enumerate(keys)], np.int64)


class Thumbnails:
    """Images as points that a slight change moves little: 8×8 means, without brightness and contrast, in the sample's
    principal components.

    Attributes:
        mean: (d,) of the sample's thumbnails.
        basis: (d, D) orthonormal columns, D at most 64; None where thumbnails have no more than 64 values themselves.
    """

    mean: Array
    basis: Array | None

    def fit(self, sample: Iterable[Tensor]) -> Self:
        """Takes the components from a sample: batches (B, C, S, S) of uint8 images."""
        flat = np.concatenate([_standardised(images) for images in sample])
        self.mean, self.basis = flat.mean(0), None
        if flat.shape[1] > DIMENSIONS:
            centred = (flat - self.mean).astype(np.float64)
            _, vectors = np.linalg.eigh(centred.T @ centred)  # by growing eigenvalue
            self.basis = vectors[:, -DIMENSIONS:].astype(np.float32)
        return self

    def __call__(self, images: Tensor) -> Array:
        """Points (B, D) float32 of images (B, C, S, S) uint8. Those of images of a single value are all the same."""
        flat = _standardised(images)
        return flat if self.basis is None else (flat - self.mean) @ self.basis


@dataclass(frozen=True)
class Near:
    """Pairs of points that are nearer to each other than chance brings them.

    Attributes:
        pairs: (p, 2) positions, the smaller first; the nearest pair first.
        ratio: (p,) distance over that to the 10th neighbour, the smaller of the two; below `threshold`.
        threshold: the largest ratio reported.
        dimension: intrinsic dimension of the points.
        expected: points that chance alone would bring below the threshold, in all of the data.
        nearest: (n,) position of the point that is nearest to each.
    """

    pairs: Array
    ratio: Array
    threshold: float
    dimension: float
    expected: float
    nearest: Array


def near(points: Array, tell: Callable[[int], None] = lambda done: None) -> Near | None:
    """Finds near-duplicates by exact search (faiss).

    How near is too near depends on the data: any two digits are more alike than two photographs are. So a distance is
    measured by that to the 10th neighbour. Where points lie evenly in m dimensions, the ratio of both falls below r
    with probability 1 - (1 - r^m)^9, the volumes of balls about a point being the order statistics of a uniform
    distribution (as in Levina & Bickel 2005, "Maximum Likelihood Estimation of Intrinsic Dimension"). m follows from the
    median of the ratio of 5th to 10th distance, for which r^m is distributed as Beta(5, 5) with the median 1/2: up to four
    copies of every image do not change it. The threshold is the r at which half an image of all is expected by chance.

    Args:
        points: (n, D) float32, exact copies left out.
        tell: called now and then with how many points are done.

    Returns:
        The pairs; None for fewer than 30 points, or points that are nearly all the same.
    """
    n = len(points)
    if n < FEWEST:
        return None
    neighbour, distance = _neighbours(points, tell)
    reach = distance[:, -1]
    middle = distance[:, NEIGHBOURS // 2 - 1]
    known = middle > 0
    median = float(np.median(middle[known] / reach[known])) if known.sum() >= n / 2 else 1.0
    if median >= 1:
        return None
    m = math.log(2) / -math.log(median)
    others = NEIGHBOURS - 1
    threshold = min(NEAREST, (1 - (1 - FALSE_ALARMS / n) ** (1 / others)) ** (1 / m))
    scale = np.minimum(reach[:, None], reach[neighbour])
    ratio = np.divide(distance, scale, out=np.full_like(distance, np.inf), where=scale > 0)
    a, at = np.nonzero(ratio < threshold)
    pairs = np.sort(np.stack([a, neighbour[a, at]], 1), axis=1)
    pairs, first = np.unique(pairs, axis=0, return_index=True)
    found = ratio[a, at][first]
    order = np.argsort(found, kind="stable")
    expected = n * (1 - (1 - threshold**m) ** others)
    return Near(pairs[order], found[order], threshold, m, expected, neighbour[:, 0])


def _neighbours(points: Array, tell: Callable[[int], None], rows: int = 2048) -> tuple[Array, Array]:
    """Positions and distances (n, 10) of the nearest other points, the nearest first."""
    import faiss

    faiss.omp_set_num_threads(torch.get_num_threads())
    points = np.ascontiguousarray(points, np.float32)
    index = faiss.IndexFlatL2(points.shape[1])
    index.add(points)
    neighbour = np.empty((len(points), NEIGHBOURS), np.int64)
    distance = np.empty((len(points), NEIGHBOURS), np.float32)
    for start in range(0, len(points), rows):
        here = points[start : start + rows]
        found = index.search(here, NEIGHBOURS + 1)[1]
        own = found == np.arange(start, start + len(here))[:, None]
        own[:, -1] |= ~own.any(1)  # crowded out by equal points: then the farthest goes
        found = found[~own].reshape(len(here), NEIGHBOURS)
        exact = np.linalg.norm(points[found] - here[:, None], axis=2)  # faiss subtracts squares, which costs digits
        order = np.argsort(exact, axis=1, kind="stable")
        neighbour[start : start + rows] = np.take_along_axis(found, order, 1)
        distance[start : start + rows] = np.take_along_axis(exact, order, 1)
        tell(start + len(here))
    return neighbour, distance


def _standardised(images: Tensor) -> Array:
    """Thumbnails (B, C * s * s) float32 of mean 0 and length 1; zero where there is nothing but one value."""
    small = images.float()
    if small.shape[-1] > SIDE:
        small = F.interpolate(small, size=(SIDE, SIDE), mode="area")
    flat = small.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    length = flat.norm(dim=1, keepdim=True)
    result: Array = torch.where(length > 1e-3, flat / length.clamp_min(1e-3), torch.zeros(())).numpy()
    return result
