"""How well a query ranks the images of its class: average precision over the whole gallery, and what the k nearest hold."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = np.ndarray[Any, Any]

LEAST, LEVELS = 2.0**-20, 1 << 16
"""The least difference of two cosines that counts, above their errors of rounding, and how many levels a query knows."""


def rank(
    queries: Tensor, own: Array, gallery: Tensor, starts: Array, k: int, *, query_tile: int = 64
) -> tuple[Array, Array]:
    """Ranks the whole gallery for each query, by the cosine in `LEVELS` equal steps from its greatest to its least, of
    `LEAST` or more; what is on one level is equally similar.

    The images of each level are counted, as that is less work than sorting them. Memory: `query_tile` × N floats, and a few
    N for each thread.

    Args:
        queries: (M, D) float32 of length 1.
        own: (M,) integers in [0, K), the classes of the queries.
        gallery: (N, D) float32 of length 1, on the queries' device, in the order of its classes.
        starts: (K + 1,) where each class of the gallery starts, and N; no class is empty.
        k: in [1, N].
        query_tile: queries at a time.

    Returns:
        The average precision of each query, (M,) float64: the mean, over the images of its class, of the share of its class
        among the images that are at least as similar. And how many of its class are among its k nearest, (M,) float64:
        expected over all orders of equally similar ones.
    """
    found: list[tuple[float, float]] = []
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for start in range(0, len(queries), query_tile):
            cosine = (queries[start : start + query_tile] @ gallery.T).cpu().numpy()  # (tile, N)
            classes = own[start : start + query_tile]
            found += pool.map(lambda row, c: _rank_one(row, slice(starts[c], starts[c + 1]), k), cosine, classes)
    precision, hits = np.array(found, dtype=np.float64).reshape(-1, 2).T
    return precision, hits


def _rank_one(cosine: Array, own: slice, k: int) -> tuple[float, float]:
    """Average precision and hits of one query, from cosine (N,) and where its class is."""
    nearest = cosine.max()
    step = max(LEAST, float(nearest - cosine.min()) / (LEVELS - 1))
    level = ((nearest - cosine) * np.float32(1 / step) + np.float32(0.5)).astype(np.int64)  # (N,), 0 the nearest
    count = np.bincount(level)
    upto = count.cumsum()  # images on this level or nearer
    own_count = np.bincount(level[own], minlength=len(count))
    own_upto = own_count.cumsum()
    precision = (own_upto[level[own]] / upto[level[own]]).mean()
    last = np.searchsorted(upto, k)  # the level of the kth nearest: what is nearer counts whole, what ties in part
    part = (k - upto[last] + count[last]) / count[last]
    return float(precision), float(own_upto[last] - own_count[last] * (1 - part))
