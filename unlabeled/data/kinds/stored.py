"""What formats beyond the everyday ones give: a picture that is not decoded yet, in values of any type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

MAX_PIXELS = 89_478_485
"""Pixels above which a picture is large: Pillow's own bound, a quarter of a GiB once decoded to RGB."""
SPARE = 4 / 3
"""A reduced size is this many times the wanted one, or more: what is left is for an antialiased resampling."""
WHOLE = 1 << 30
"""Side of a square for which no picture is reduced in decoding it."""
STRIP = 1 << 22
"""Pixels of a large picture that are converted at once."""

FINE = 257
"""Times which a grey value is kept where it is not rounded: 65535 is white. What that leaves changes features by less than
what `export` allows."""

Array = np.ndarray[Any, Any]


class BadImageError(ValueError):
    """A sample that cannot become pixels; the message is the reason, in words for the user."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A page of a file, or several as the channels of one picture.

    Attributes:
        height, width: in pixels, upright.
        channels: of a page.
        type: NumPy's, of the values.
        load: pages, and the side in pixels below which the picture need not be -> (H, W, C), the channels of one page after
            those of the other.
        weight: bytes that a page takes while it is decoded, for a picture of such a side at least.
        pages: how many the file has.
        noun: what a page is called.
        colour: whether three channels are red, green and blue.
        inverted: whether the largest value is black.
        window: values that the file itself says are black and white.
        patient: of whom the picture is, "" where the file does not say.
        said: what was decided in reading it, in words; "" for nothing.
        at: the pages that are taken.
        mapped: whether a page is decoded into a file, of which memory holds no more than what is looked at.
    """

    height: int
    width: int
    channels: int
    type: str
    load: Callable[[Sequence[int], int], Array]
    weight: Callable[[int], int]
    pages: int = 1
    noun: str = "page"
    colour: bool = False
    inverted: bool = False
    window: tuple[float, float] | None = None
    patient: str = ""
    said: str = ""
    at: tuple[int, ...] = (0,)
    mapped: bool = False

    def page(self, number: int) -> Stored:
        """Returns that page, as a file of its own."""
        return replace(self, at=(number,), pages=1)

    def stacked(self) -> Stored:
        """Returns all pages as the channels of one picture."""
        if self.pages == 1:
            return self
        return replace(self, at=tuple(range(self.pages)), channels=self.channels * self.pages, colour=False)

    def bytes(self, size: int) -> int:
        """Estimates what decoding for a square of side `size` takes."""
        return len(self.at) * self.weight(size)

    def values(self, size: int = WHOLE) -> Array:
        """Decodes it: (H, W, C) of its own type, perhaps reduced to what a square of side `size` wants."""
        return self.load(self.at, size)


def in_bytes(pixels: Array) -> Array:
    """Returns those that are kept finely rounded to bytes; others as they are."""
    return ((pixels.astype(np.uint32) + FINE // 2) // FINE).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def in_floats(pixels: Array) -> Array:
    """Returns those that are kept finely as floats in [0, 1]; others as they are."""
    return pixels.astype(np.float32) / (255 * FINE) if pixels.dtype == np.uint16 else pixels


def factor(height: int, width: int, least: int) -> int:
    """Returns the whole number by which the sides of a large picture may be divided for a square of side `least`; 1 for
    others."""
    return max(1, int(min(height, width) / (SPARE * least))) if height * width > MAX_PIXELS else 1


def in_strips(picture: Array, by: int, convert: Callable[[Array], Array] = lambda strip: strip) -> Array:
    """Converts a picture (H, W, C) strip by strip, and takes means of blocks of `by` × `by` pixels: (H // by, W // by, C').
    What is no whole block is left out, half of it at each end."""
    height, width = (length // by for length in picture.shape[:2])
    above, left = (length % by // 2 for length in picture.shape[:2])
    rows = max(1, STRIP // (by * picture.shape[1]))

    def part(top: int) -> Array:
        start, end = (above + by * row for row in (top, min(height, top + rows)))
        strip = convert(np.ascontiguousarray(picture[start:end, left : left + by * width]))
        if by == 1:
            return strip
        down = strip.reshape(-1, by, strip[0].size).sum(1, dtype=np.float64)
        means: Array = down.reshape(len(down), width, by, -1).sum(2) / by**2
        return means.astype(strip.dtype) if strip.dtype.kind == "f" else np.rint(means).astype(strip.dtype)

    first = part(0)
    made = np.empty((height, *first.shape[1:]), first.dtype)
    made[: len(first)] = first
    for top in range(rows, height, rows):
        made[top : top + rows] = part(top)
    return made
