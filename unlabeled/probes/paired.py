"""The difference of two figures of the same test samples: sample by sample, so that what is hard for both cancels."""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from unlabeled.forms import FormError

Array = np.ndarray[Any, Any]

RESAMPLES = 2000
"""Of the bootstrap; its error is then some 2% of the interval."""
Z = 1.96


@dataclass(frozen=True, eq=False)
class Clusters:
    """Samples that are not independent of each other, as pages of one file, or slices of one patient.

    Attributes:
        by: what those of one cluster share, in a word.
        of: (M,) int64, the cluster of each of M test samples.
    """

    by: str
    of: Array

    def at(self, rows: Array) -> Clusters:
        """Returns those of some of the samples."""
        return Clusters(self.by, self.of[rows])


def paired(ours: Array, theirs: Array, clusters: Array | None = None) -> tuple[float, float]:
    """Returns the mean difference of two figures, and half the width of its 95% confidence interval.

    By the percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over samples, and over draws of the labels where
    there are several: what is given is the distance to the farther end. It is at least the share of samples that may
    differ though none of so many did, z²/(M + z²) (Wilson 1927): a bootstrap of equal values has no width. Where samples are
    not independent of each other, whole clusters are drawn in their place (Davison and Hinkley 1997, §3.8): of few of G such
    the bootstrap is too narrow, so that its width is brought to that of Student's t with G - 1 degrees of freedom (as
    Cameron and Miller 2015 advise for few clusters), and has a least one only where all differ alike; of a single one it is
    infinite.

    Args:
        ours: (R, M) of R draws of the labels and M test samples: 1 where right, 0 where wrong, or any figure of a sample.
        theirs: (R, M) of the same draws and samples.
        clusters: (M,) of which cluster each sample is; None where each stands alone.
    """
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    if clusters is not None:
        return _of_clusters(difference, clusters)
    draws, samples = difference.shape
    rng = np.random.default_rng(0)
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        rows = difference[rng.integers(draws, size=draws)].mean(0) if draws > 1 else difference[0]
        means[i] = rows[rng.integers(samples, size=samples)].mean()
    gap = float(difference.mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return gap, max(gap - float(low), float(high) - gap, Z * Z / (samples + Z * Z))


def _of_clusters(difference: Array, clusters: Array) -> tuple[float, float]:
    """`paired` of differences (R, M), by clusters."""
    from scipy.stats import t  # which takes a moment to import

    draws = len(difference)
    _, which, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    count, gap = len(sizes), float(difference.mean())
    if count < 2:
        return gap, math.inf
    sums = np.stack([np.bincount(which, row, count) for row in difference])  # (R, clusters)
    rng = np.random.default_rng(0)
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        rows = sums[rng.integers(draws, size=draws)].mean(0)
        drawn = rng.integers(count, size=count)
        means[i] = rows[drawn].sum() / sizes[drawn].sum()
    low, high = np.quantile(means, [0.025, 0.975])
    few = float(t.ppf(0.975, count - 1)) / Z * math.sqrt(count / (count - 1))
    least = Z * Z / (count + Z * Z) if np.ptp(means) < 1e-12 else 0.0
    return gap, max(few * (gap - float(low)), few * (float(high) - gap), least)


@lru_cache(maxsize=256)  # an answer asks for the same pair several times
def apart(ours: tuple[str, ...], theirs: tuple[str, ...], clusters: str = "") -> tuple[float, float]:
    """Returns what `paired` does, of packed values, one text a draw; of packed clusters, "" where each stands alone.

    Raises:
        ValueError: values of other draws or samples, or none.
    """
    one, other = (np.stack([unpacked(text) for text in texts]) for texts in (ours, theirs))
    if one.shape != other.shape:
        raise ValueError(f"figures of (draws, samples) {one.shape} and {other.shape} are no pairs")
    return paired(one, other, unpacked(clusters) if clusters else None)


def packed(values: Array) -> str:
    """Returns (M,) values as text: float32, deflated, in base64; some 2 KB of 10,000 rights and wrongs.

    >>> unpacked(packed(np.array([1, 0, 0.5])))
    array([1. , 0. , 0.5], dtype=float32)
    """
    return base64.b64encode(zlib.compress(np.asarray(values, "<f4").tobytes(), 9)).decode()


def unpacked(text: str) -> Array:
    """Returns the values of `packed`.

    Raises:
        FormError: text of another kind.
    """
    try:
        return np.frombuffer(zlib.decompress(base64.b64decode(text, validate=True)), "<f4")
    except (zlib.error, ValueError) as error:
        raise FormError(f"no packed values: {error}") from error
