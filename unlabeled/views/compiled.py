"""A view on a processor: one picture after the other, each of its passes while the picture is in the caches.

What `resample` and `ops` do to whole batches, pass after pass, as a GPU wants it, is done here by loops that numba compiles
for the processor at hand: the same crops, kernels and matrices, and the same pixels to within rounding. Nothing is random.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from unlabeled.views.resample import CROP

Floats = NDArray[np.float32]
Pixels = NDArray[np.float32] | NDArray[np.uint8]
Indices = NDArray[np.int32]

WHITE = {torch.uint8: 255.0, torch.float32: 1.0}
"""What white is, by the type of pictures."""

FOUR = 4
"""Rows whose columns `_pick` picks at once, so that each weight is loaded for four sums; it names each of them."""

ALONE = 2**16
"""Values of views that a thread of their own is worth."""

F = TypeVar("F", bound=Callable[..., Any])


def _compile(function: F, keep: bool = False) -> F:
    """At its first call; `keep` keeps the result, beside this file or in the user's cache, if either can be written."""
    options: dict[str, Any] = {
        "nogil": True, "error_model": "numpy", "fastmath": {"nnan", "ninf", "nsz", "reassoc", "contract"},
    }  # fmt: skip
    try:
        compiled: F = njit(cache=keep, **options)(function)
    except RuntimeError:  # numba's word for no place to keep it
        compiled = njit(**options)(function)
    return compiled


@_compile
def _taps(start: float, length: float, reverse: bool, side: int, size: int) -> tuple[Indices, Floats]:
    """Along one axis, as `resample.crop_taps`: first pixels (size,) and weights (size, an even K), those outside being 0."""
    step = np.float32(length) / np.float32(size)
    width = max(step, np.float32(1))
    most = math.ceil(2 * width)
    first, band = np.zeros(size, np.int32), np.zeros((size, most + most % 2), np.float32)
    low, high = np.float32(max(start, 0.0)), np.float32(min(start + length, float(side)))
    for j in range(size):
        position = np.float32(size - j - 0.5 if reverse else j + 0.5)
        centre = start + step * position
        begin, total = math.floor(centre - width + np.float32(0.5)), np.float32(0)
        first[j] = min(max(begin, 0), side - 1)
        for k in range(most):
            pixel = np.float32(begin + k + 0.5)
            if low < pixel < high:
                weight = max(np.float32(0), 1 - abs(pixel - centre) / width)
                band[j, begin + k - first[j]] = weight
                total += weight
        band[j] /= max(total, np.float32(1e-6))
    return first, band


@_compile
def _mix(pixels: Pixels, side: int, start: int, weight: Floats, left: int, row: Floats) -> None:
    """row[i] = sum over k of weight[k] * x[start + k, left + i]; `pixels` are those of x, with rows of `side`."""
    n, last = len(row), len(pixels) // side - 1
    for k in range(0, len(weight), 2):
        w, v = weight[k], weight[k + 1]
        p, q = min(start + k, last) * side + left, min(start + k + 1, last) * side + left
        a, b = pixels[p : p + n], pixels[q : q + n]
        if k == 0:
            for i in range(n):
                row[i] = w * np.float32(a[i]) + v * np.float32(b[i])
        elif w != 0 or v != 0:
            for i in range(n):
                row[i] += w * np.float32(a[i]) + v * np.float32(b[i])


@_compile
def _pick(rows: Floats, start: NDArray[np.uint32], band: Floats, result: Floats) -> None:
    """result[i, j] = sum over k of band[j, k] * rows[i, start[j] + k], for the four rows i of `rows`."""
    r0, r1, r2, r3 = rows[0], rows[1], rows[2], rows[3]
    o0, o1, o2, o3 = result[0], result[1], result[2], result[3]
    for j in range(len(start)):
        s0 = s1 = s2 = s3 = np.float32(0)
        p, weight = start[j], band[j]
        for k in range(0, band.shape[1], 2):
            w, v = weight[k], weight[k + 1]
            q = p + np.uint32(1)
            s0 += w * r0[p] + v * r0[q]
            s1 += w * r1[p] + v * r1[q]
            s2 += w * r2[p] + v * r2[q]
            s3 += w * r3[p] + v * r3[q]
            p += np.uint32(2)
        o0[j], o1[j], o2[j], o3[j] = s0, s1, s2, s3


@_compile
def _reach(kernel: Floats) -> int:
    """Up to where a symmetric kernel is more than float32 can tell from nothing beside 1."""
    reach = len(kernel) // 2
    while reach and kernel[len(kernel) // 2 + reach] < 1e-8:
        reach -= 1
    return reach


@_compile
def _blur_row(row: Floats, kernel: Floats, reach: int, padded: Floats) -> None:
    """In place: row[j] = sum over t of kernel[t] * row[j + t - radius], reflected at both ends."""
    n, radius = len(row), len(kernel) // 2
    padded[reach : reach + n] = row
    for t in range(1, reach + 1):
        padded[reach - t], padded[reach + n - 1 + t] = row[t], row[n - 1 - t]
    for j in range(n):
        row[j] *= kernel[radius]
    for t in range(1, reach + 1):
        w, before, after = kernel[radius + t], padded[reach - t : reach - t + n], padded[reach + t : reach + t + n]
        for j in range(n):
            row[j] += w * (before[j] + after[j])


@_compile
def _blur_rows(source: Floats, kernel: Floats, reach: int, result: Floats) -> None:
    """result[j, :] = sum over t of kernel[t] * source[j + t - radius, :], reflected at both ends."""
    size, n = source.shape
    radius = len(kernel) // 2
    for j in range(size):
        target, middle, w = result[j], source[j], kernel[radius]
        for i in range(n):
            target[i] = w * middle[i]
        for t in range(1, reach + 1):
            w, before, after = kernel[radius + t], source[abs(j - t)], source[(size - 1) - abs(size - 1 - j - t)]
            for i in range(n):
                target[i] += w * (before[i] + after[i])


@_compile
def _recolour(x: Floats, matrix: Floats, lift: Floats) -> None:
    """In place: `matrix` (C, C) times each pixel of x (C, P), plus `lift` (C,) times the channels' means."""
    channels, pixels = x.shape
    offset = np.float32(0)
    for c in range(channels):
        total = np.float32(0)
        for p in range(pixels):
            total += x[c, p]
        offset += lift[c] * total / np.float32(pixels)
    if channels == 3:
        red, green, blue = x[0], x[1], x[2]
        for p in range(pixels):
            r, g, b = red[p], green[p], blue[p]
            red[p] = matrix[0, 0] * r + matrix[0, 1] * g + matrix[0, 2] * b + offset
            green[p] = matrix[1, 0] * r + matrix[1, 1] * g + matrix[1, 2] * b + offset
            blue[p] = matrix[2, 0] * r + matrix[2, 1] * g + matrix[2, 2] * b + offset
        return
    old = np.empty(channels, np.float32)
    for p in range(pixels):
        for c in range(channels):
            old[c] = x[c, p]
        for c in range(channels):
            total = offset
            for d in range(channels):
                total += matrix[c, d] * old[d]
            x[c, p] = total


@_compile
def _finish(x: Floats, matrix: Floats, lift: Floats, white: float) -> None:
    """In place: x (C, P) recoloured, if there is a matrix, from [0, white] to [0, 1], and clamped."""
    if matrix.shape[0]:
        _recolour(x, matrix[0], lift[0])
    for c in range(len(x)):
        values = x[c]
        for p in range(len(values)):
            values[p] = min(max(values[p] / np.float32(white), np.float32(0)), np.float32(1))


def _views(
    x: Pixels, white: float, top: Floats, height: Floats, flip: Floats, left: Floats, width: Floats, mirror: Floats,
    sigma: Floats, kernel: Floats, matrix: Floats, lift: Floats, out: Floats, first: int, last: int,
) -> None:  # fmt: skip
    """Samples `first` to `last` of what `view` says; `sigma` and `matrix` may be of no samples."""
    channels, side, size = x.shape[1], x.shape[3], out.shape[3]
    pixels = x.reshape(len(x), channels, x.shape[2] * side)
    rows = np.empty((FOUR, side + 2 * side // size + 4), np.float32)
    spare, padded = np.empty((size + FOUR - 1, size), np.float32), np.empty(size + kernel.shape[1], np.float32)
    for b in range(first, last):
        tops, weights = _taps(top[b], height[b], flip[b] > 0, side, size)
        starts, band = _taps(left[b], width[b], mirror[b] > 0, side, size)
        begin = starts.min()
        n = min(starts.max() + band.shape[1], side) - begin
        places = (starts - begin).astype(np.uint32)
        rows[:, n:] = 0
        blurred = len(sigma) > 0 and sigma[b] > 0
        for c in range(channels):
            for i in range(0, size, FOUR):
                for r in range(min(FOUR, size - i)):
                    _mix(pixels[b, c], side, tops[i + r], weights[i + r], begin, rows[r, :n])
                _pick(rows, places, band, spare[i : i + FOUR])
            if blurred:
                reach = _reach(kernel[b])
                for i in range(size):
                    _blur_row(spare[i], kernel[b], reach, padded)
                _blur_rows(spare[:size], kernel[b], reach, out[b, c])
            else:
                out[b, c] = spare[:size]
        _finish(out[b].reshape(channels, size * size), matrix[b : b + 1], lift[b : b + 1], white)


_compiled: Callable[..., None] = _compile(_views, keep=True)  # with all that it calls


def view(x: Tensor, planned: dict[str, Tensor], out: Tensor) -> Tensor:
    """Computes crop, mirror, resizing, blur, colours and clamp, on as many threads as torch has.

    Args:
        x: (B, C, S, S) on the CPU, uint8, or float32 in [0, 1].
        planned: of `View.plan`, with the crop.
        out: (B, C, size, size) float32, contiguous, to write to.

    Returns:
        `out`, in [0, 1]: the same bits whatever the threads and the samples beside a sample.

    Raises:
        ValueError: the three do not belong together.
    """
    count, channels = x.shape[:2]
    absent = {"sigma": (0,), "kernel": (0, 0), "matrix": (0, channels, channels), "lift": (0, channels)}
    crop = [name for axis in CROP for name in axis]
    arrays = [planned[n].numpy() if n in planned else np.empty(absent[n], np.float32) for n in (*crop, *absent)]
    crops = {len(planned[name]) for name in crop}
    if x.dtype not in WHITE or x.shape[2] != x.shape[3] or crops != {count}:
        raise ValueError(f"views planned for {crops} square pictures, not for {tuple(x.shape)} of {x.dtype}")
    if out.shape != (count, channels, out.shape[3], out.shape[3]) or out.dtype != torch.float32 or not out.is_contiguous():
        raise ValueError(f"views of {tuple(x.shape)} cannot be written to {tuple(out.shape)} of {out.dtype}")
    given = [np.ascontiguousarray(array) for array in arrays]
    make = partial(_compiled, np.ascontiguousarray(x.numpy()), WHITE[x.dtype], *given, out.numpy())
    with suppress(OSError):  # compiles if need be; a full disk keeps nothing
        make(0, 0)
    threads = max(1, min(torch.get_num_threads(), count, out.numel() // ALONE))
    bounds = [count * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        others = [pool.submit(make, *share) for share in pairwise(bounds[1:])]
        make(*bounds[:2])
    for other in others:
        other.result()
    return out
