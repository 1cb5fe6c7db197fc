"""What formats beyond the everyday ones give: a picture that is not decoded yet, in values of any type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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

    def values(self, size: int = 1 << 30) -> Array:
        """Decodes it: (H, W, C) of its own type, perhaps reduced to what a square of side `size` wants."""
        return self.load(self.at, size)
