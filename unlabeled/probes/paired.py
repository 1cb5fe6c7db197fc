"""The difference of two figures of the same test samples: sample by sample, so that what is hard for both cancels."""

from __future__ import annotations

import base64
import zlib
from functools import lru_cache
from typing import Any

import numpy as np

from unlabeled.forms import FormError

Array = np.ndarray[Any, Any]

RESAMPLES = 2000
"""Of the bootstrap; its error is then some 2% of the interval."""
Z = 1.96


def paired(ours: Array, theirs: Array) -> tuple[float, float]:
    """Returns the mean difference of two figures, and half the width of its 95% confidence interval.

    By the percentile bootstrap (Efron and Tibshirani 1993, chapter 13) over samples, and over draws of the labels where
    there are several: what is given is the distance to the farther end. It is at least the share of samples that may
    differ though none of so many did, z²/(M + z²) (Wilson 1927): a bootstrap of equal values has no width.

    Args:
        ours: (R, M) of R draws of the labels and M test samples: 1 where right, 0 where wrong, or any figure of a sample.
        theirs: (R, M) of the same draws and samples.
    """
    difference = np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)
    draws, samples = difference.shape
    rng = np.random.default_rng(0)
    means = np.empty(RESAMPLES)
    for i in range(RESAMPLES):
        rows = difference[rng.integers(draws, size=draws)].mean(0) if draws > 1 else difference[0]
        means[i] = rows[rng.integers(samples, size=samples)].mean()
    gap = float(difference.mean())
    low, high = np.quantile(means, [0.025, 0.975])
    return gap, max(gap - float(low), float(high) - gap, Z * Z / (samples + Z * Z))


@lru_cache(maxsize=256)  # an answer asks for the same pair several times
def apart(ours: tuple[str, ...], theirs: tuple[str, ...]) -> tuple[float, float]:
    """Returns what `paired` does, of packed values, one text a draw.

    Raises:
        ValueError: values of other draws or samples, or none.
    """
    one, other = (np.stack([unpacked(text) for text in texts]) for texts in (ours, theirs))
    if one.shape != other.shape:
        raise ValueError(f"figures of (draws, samples) {one.shape} and {other.shape} are no pairs")
    return paired(one, other)


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
