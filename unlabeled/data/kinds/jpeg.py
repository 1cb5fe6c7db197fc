"""JPEG files: libjpeg-turbo decodes them straight into an array, large ones at a reduced size."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

START = b"\xff\xd8\xff"
"""First bytes of every JPEG file."""
SPARE = 4 / 3
"""A reduced size is this many times the wanted one, or more: what is left is for an antialiased resampling."""
_ORIENTATION, _UPRIGHT = 0x0112, 1  # Exif
_PICTURE = b"\xda"
"""Marker of the segment after which the coded picture comes."""


class Jpeg:
    """The bytes of a JPEG file, not decoded yet.

    Args:
        data: the whole file.

    Attributes:
        height, width: in pixels, by its header, before any rotation.

    Raises:
        ValueError: a header that libjpeg-turbo does not understand.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.height, self.width, self._stored, _ = simplejpeg.decode_jpeg_header(data)

    def image(self) -> Image.Image:
        """Returns the same file as Pillow reads it, not decoded yet."""
        return Image.open(io.BytesIO(self._data))

    def pixels(self, channels: int, size: int) -> np.ndarray[Any, Any] | None:
        """Returns the picture for a square of side `size`: uint8 (H, W, channels), H and W halved up to three times if
        large.

        Where it will be made smaller, colour, stored at half the resolution, is not interpolated. None where it is for
        Pillow to decide: what is rotated, of four inks, neither grey nor RGB is wanted, or broken.
        """
        if channels not in (1, 3) or self._stored in ("CMYK", "YCCK") or self._rotated():
            return None
        times = min(self.height, self.width) / (SPARE * size)
        factor = next((f for f in (8, 4, 2) if times >= f), 1)
        try:
            pixels: np.ndarray[Any, Any] = simplejpeg.decode_jpeg(
                self._data,
                "GRAY" if channels == 1 else "RGB",
                fastupsample=times >= 1,
                min_height=math.ceil(self.height / factor),
                min_width=math.ceil(self.width / factor),
            )
        except ValueError:
            return None
        return pixels

    def _rotated(self) -> bool:
        """Whether a segment before the picture is Exif that says so. A segment: a marker, its length, its content."""
        data, at = self._data, len(START) - 1
        while data[at : at + 1] == b"\xff" and (marker := data[at + 1 : at + 2]) != _PICTURE:
            if data.startswith(b"Exif\0\0", at + 4):
                return bool(self.image().getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT)
            at += 1 if marker == b"\xff" else 2 + int.from_bytes(data[at + 2 : at + 4], "big")  # 255 twice: filler
        return False
