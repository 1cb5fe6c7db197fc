"""Values of more than 8 bits: which range of them becomes 0 to 255, one for each channel, measured over the whole set."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from unlabeled.data.kinds.stored import BadImageError
from unlabeled.errors import UserError

CUSTOMARY = (255, 1023, 4095, 16383, 65535)
"""White in 8, 10, 12, 14 and 16 bits, whatever the type that holds them."""
USED, SHARED = 0.5, 0.25
"""Share of a customary range that values must take up: of all channels, and of one alone. Half is the highest bit."""
TYPE, WINDOW = "type", "window"
"""Ranges that have a name: as the type of the values has them, and as each file says itself."""
KEPT = 4096
"""Values of a picture and channel that percentiles are taken from, evenly spread."""
STRIP = 1 << 22
"""Values that are converted at once."""

Array = np.ndarray[Any, Any]
Pair = tuple[float, float]
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?"


class Values:
    """What was seen of the values of a set.

    Attributes:
        count: pictures seen.
        types: of their values.
    """

    def __init__(self) -> None:
        self.count = 0
        self.types: set[str] = set()
        self._seen: list[Array] = []  # each (C, k), its first and last column the smallest and largest values

    def add(self, picture: Array) -> None:
        """Looks at values (H, W, C), or (n, H, W, C); not at those of which some are no number."""
        flat = picture.reshape(-1, picture.shape[-1])
        low, high = flat.min(0), flat.max(0)
        if np.isfinite(low).all() and np.isfinite(high).all():
            pictures = len(picture) if picture.ndim == 4 else 1
            spread = flat[:: max(1, len(flat) // (KEPT * min(pictures, 256)))]
            self._seen.append(np.concatenate([low[None], spread, high[None]]).T.astype(np.float64))
            self.types.add(str(picture.dtype))
            self.count += pictures

    def range(self, asked: str | None) -> str:
        """Returns the range that is asked for, or the one that the values take up, spelled as `pairs` reads it."""
        if not self._seen or (asked and not asked.endswith("%")):
            return asked or TYPE
        channels = max(len(seen) for seen in self._seen)
        seen = [np.concatenate([s[c % len(s)] for s in self._seen]) for c in range(channels)]
        if asked:
            shares = [float(part.strip(" %")) for part in asked.split(",")]
            return spelled([(float(low), float(high)) for low, high in (np.percentile(s, shares) for s in seen)])
        ends = [(float(s.min()), float(s.max())) for s in seen]
        return spelled(_measured(ends, any(kind.startswith("float") for kind in self.types)))


def _measured(ends: Sequence[Pair], real: bool) -> list[Pair]:
    """Of each channel the customary range that it takes up, or else its own."""
    known = (1, *CUSTOMARY) if real else CUSTOMARY
    lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)

    def customary(low: float, high: float) -> int | None:
        return next((k for k in known if low >= 0 and high <= k and high - low >= USED * k), None)

    white = customary(lowest, highest)
    found = []
    for low, high in ends:
        own = white if white and high - low >= SHARED * white else customary(low, high)
        found.append((0.0, float(own)) if own else (low, high))
    return found


def spelled(pairs: Sequence[Pair]) -> str:
    """Returns ranges as `pairs` reads them: `0,4095` where all channels have that."""
    pairs = [(low, high if high > low else low + 1) for low, high in pairs]
    pairs = pairs[:1] if len(set(pairs)) == 1 else pairs
    return ",".join(f"{value:.9g}" for pair in pairs for value in pair)


def check(asked: str | None) -> None:
    """Checks a range that a user gives.

    Raises:
        UserError: neither two numbers, nor two percentages, the smaller first; nor such pairs for each channel.
    """
    if asked is None or asked in (TYPE, WINDOW):
        return
    numbers, shares = re.fullmatch(f"{_NUMBER}(,{_NUMBER})+", asked, re.I), re.fullmatch(r"([\d.]+)%,([\d.]+)%", asked)
    parts = [float(part.strip("%")) for part in asked.split(",")] if numbers or shares else []
    rising = all(low < high for low, high in zip(parts[::2], parts[1::2], strict=False))
    if not parts or len(parts) % 2 or not rising or (shares and parts[1] > 100):
        raise UserError(
            f"range {asked!r}: give the values that become black and white, the smaller first (0,4095), one pair for each "
            "channel (0,255,0,4095), percentages of the values (1%,99%), or type"
        )


@lru_cache(64)
def pairs(text: str) -> Array | None:
    """Reads a range: (k, 2) for k channels, k 1 for all alike; None for the type's own."""
    if text in ("", TYPE, WINDOW):
        return None
    return np.array(list(map(float, text.split(",")))).reshape(-1, 2)


def as_bytes(array: Array, text: str = "") -> Array:
    """Returns values (..., C) as 0..255: bytes as they are, others by their range; what lies outside is clipped.

    Raises:
        BadImageError: a value that is not a number, or a type without a range.
    """
    ranges = pairs(text)
    if ranges is None or array.dtype in (np.uint8, np.bool_):
        return as_uint8(array)
    if array.dtype.kind not in "iuf":
        raise BadImageError(f"values of type {array.dtype}; give whole or real numbers")
    fits = len(ranges) in (1, array.shape[-1])
    low, high = ranges.T if fits else (ranges[:, 0].min(), ranges[:, 1].max())
    result = np.empty(array.shape, np.uint8)
    rows = max(1, STRIP * len(array) // max(1, array.size))
    for start in range(0, len(array), rows):
        part: Any = array[start : start + rows].astype(np.float32 if array.dtype.itemsize <= 2 else np.float64)
        if array.dtype.kind == "f" and not np.isfinite(part).all():
            raise BadImageError("contains NaN or infinite values")
        part -= low
        part *= 255
        part /= high - low
        result[start : start + rows] = np.clip(part, 0, 255, out=part) + 0.5
    return result


def as_uint8(array: Array) -> Array:
    """Returns grey values as 0..255: uint8 as it is, uint16 / 257, float in [0, 1] x 255, bool x 255; any shape.

    Raises:
        BadImageError: another type, a value outside [0, 1], or one that is not a number.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        scaled: Array = (array.astype(np.uint32) + 128) // 257
        return scaled.astype(np.uint8)
    if array.dtype.kind == "f":
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 0.0)
        if not (math.isfinite(low) and math.isfinite(high)):
            raise BadImageError("contains NaN or infinite values")
        if low < 0 or high > 1:
            raise BadImageError(
                f"float values from {low:.4g} to {high:.4g}; give uint8 in 0..255 or floats in [0, 1], not normalised"
            )
        scaled = array * array.dtype.type(255) + array.dtype.type(0.5)
        return scaled.astype(np.uint8)
    raise BadImageError(f"values of type {array.dtype}; give uint8, uint16, bool, or floats in [0, 1]")
