"""JPEG files: libjpeg-turbo decodes them straight into an array, large ones at a reduced size."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

from unlabeled.data.kinds.stored import SPARE
from unlabeled.data.room import DECODING

START = b"\xff\xd8\xff"
"""First bytes of every JPEG file."""
ORIENTATION, UPRIGHT = 0x0112, 1
"""Exif's key, and its value of a picture that is not turned."""
_FOUR_INKS = ("CMYK", "YCCK")
_PICTURE = 0xDA
"""Marker of the segment after which the coded picture comes."""
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
"""Markers of the segment that describes a picture coded in several scans."""


class Jpeg:
    """The bytes of a JPEG file, not decoded yet.

    Args:
        data: the whole file.

    Attributes:
        height, width: in pixels, by its header, upright.
        damaged: whether decoding found that it is, once it was tried; Pillow may make a picture of it all the same.

    Raises:
        ValueError: a header that libjpeg-turbo does not understand.
    """

    def __init__(self, data: bytes) -> None:
        self._data, self.damaged = data, False
        *lies, self._stored, _ = simplejpeg.decode_jpeg_header(data)
        self._turned = self._orientation()
        self.height, self.width = reversed(lies) if self._turned > 4 else lies

    def image(self) -> Image.Image:
        """Returns the same file as Pillow reads it, not decoded yet."""
        return Image.open(io.BytesIO(self._data))

    def pixels(self, channels: int, size: int) -> np.ndarray[Any, Any] | None:
        """Returns the picture for a square of side `size`: uint8 (H, W, channels), H and W halved up to three times if
        large.

        Where it will be made smaller, colour, stored at half the resolution, is not interpolated. It is upright. None where
        it is for Pillow to decide: what is of four inks, neither grey nor RGB is wanted, or broken.
        """
        if channels not in (1, 3):
            return None
        fast = min(self.height, self.width) >= SPARE * size
        try:
            if self._stored in _FOUR_INKS:
                self._decode("CMYK", 8, True)  # whether it can be
                return None
            factor = self._factor(size)
            return upright(self._decode("GRAY" if channels == 1 else "RGB", factor, fast), self._turned)
        except ValueError:
            self.damaged = True
            return None

    def _decode(self, colours: str, factor: int, fast: bool) -> np.ndarray[Any, Any]:
        """The picture, its sides divided by `factor`. ValueError where libjpeg-turbo has anything to say against it."""
        height, width = math.ceil(self.height / factor), math.ceil(self.width / factor)
        height, width = (width, height) if self._turned > 4 else (height, width)
        pixels: np.ndarray[Any, Any] = simplejpeg.decode_jpeg(
            self._data, colours, fastupsample=fast, min_height=height, min_width=width
        )
        return pixels

    def whole(self) -> np.ndarray[Any, Any] | None:
        """Returns the picture at its full size, upright: (H, W, 3), or (H, W, 1) where it is grey. None as `pixels` does."""
        if self._stored in _FOUR_INKS:
            return None
        try:
            return upright(self._decode("GRAY" if self.grey else "RGB", 1, False), self._turned)
        except ValueError:
            self.damaged = True
            return None

    def whole_weight(self) -> int:
        """Estimates the bytes that this takes."""
        pixels: int = self.height * self.width
        return 4 * pixels + self._coefficients()

    def weight(self, size: int) -> int:
        """Estimates the bytes that decoding for a square of side `size` takes: of the pixels on their way, and of a
        progressive file of every coefficient."""
        pixels: int = self.height * self.width
        return self._coefficients() + 8 * pixels // self._factor(size) ** 2

    def _factor(self, size: int) -> int:
        """By how much the sides are divided in decoding for a square of side `size`: more where memory is short."""
        times = min(self.height, self.width) / (SPARE * size)
        wanted = next((f for f in (8, 4, 2) if times >= f), 1)
        room, pixels = DECODING - self._coefficients(), self.height * self.width
        return next(f for f in (1, 2, 4, 8) if f >= wanted and (f == 8 or 8 * pixels // f**2 <= room))

    def _coefficients(self) -> int:
        progressive = any(marker in _PROGRESSIVE for marker, _ in self._segments())
        return int(2 * (4 if self._stored in _FOUR_INKS else 3) * progressive * self.height * self.width)

    def _orientation(self) -> int:
        """What Exif calls its orientation, in a segment before the picture."""
        for _, at in self._segments():
            if self._data.startswith(b"Exif\0\0", at + 4):
                exif = Image.Exif()
                with suppress(SyntaxError, ValueError, struct.error, KeyError):  # then the picture is as it lies
                    exif.load(self._data[at + 4 : at + 2 + int.from_bytes(self._data[at + 2 : at + 4], "big")])
                    return int(exif.get(ORIENTATION, UPRIGHT))
        return UPRIGHT

    @property
    def grey(self) -> bool:
        """Whether it is stored without colours."""
        return bool(self._stored == "GRAY")

    def _segments(self) -> Iterator[tuple[int, int]]:
        """Marker and place of those before the picture. A segment: 255 and its marker, its length, its content."""
        data, at = self._data, len(START) - 1
        while data[at : at + 1] == b"\xff" and at + 1 < len(data) and (marker := data[at + 1]) != _PICTURE:
            yield marker, at
            at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")  # 255 twice: filler


def upright(picture: np.ndarray[Any, Any], turned: int) -> np.ndarray[Any, Any]:
    """Turns a picture (H, W, ...) by what Exif calls its orientation."""
    picture = picture.swapaxes(0, 1) if turned in (5, 6, 7, 8) else picture
    picture = picture[::-1] if turned in (3, 4, 7, 8) else picture
    return picture[:, ::-1] if turned in (2, 3, 6, 7) else picture
