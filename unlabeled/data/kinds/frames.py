"""Files whose pictures Pillow reads one after the other (GIF), or not in all their bits (PNG)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from unlabeled.data.kinds.stored import MAX_PIXELS, STRIP, Stored, factor, in_strips

ANIMATED = ("GIF", "TIFF")
_PNG = b"\x89PNG\r\n\x1a\n"
_COLOURS = {0: 1, 2: 3, 4: 2, 6: 4}
"""PNG's kind of colours -> samples a pixel; there is one of palettes besides."""
_GREY, _COLOUR = 0, 2

Array = np.ndarray[Any, Any]


def frames(image: Image.Image, source: bytes | Path) -> Stored | None:
    """Returns the frames of a file as Pillow composes them, in RGB on white; None for a single one."""
    count = int(getattr(image, "n_frames", 1)) if image.format in ANIMATED else 1
    if count == 1:
        return None
    noun = "frame" if image.format == "GIF" else "page"
    return Stored(
        image.height, image.width, 3, "uint8", partial(_load, source), lambda least: 12 * image.width * image.height,
        pages=count, noun=noun, colour=True,
    )  # fmt: skip


def _load(source: bytes | Path, pages: Sequence[int], least: int) -> Array:
    with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
        found = []
        for page in pages:
            image.seek(page)
            clear = image.convert("RGBA")
            found.append(np.asarray(Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB")))
    return found[0] if len(found) == 1 else np.concatenate(found, 2)


def own_png(data: bytes) -> Stored | None:
    """Returns a PNG of 16 bits and several samples a pixel, of which Pillow drops the lower 8, or a large one, which Pillow
    refuses; None for any other file, and for a large one of 16 bits with a transparent colour."""
    if not data.startswith(_PNG) or len(data) < 26:
        return None
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    bits, large, clear = data[24], width * height > MAX_PIXELS, b"tRNS" in data[: data.find(b"IDAT")]
    if large and bits <= 8 and (clear or bits < 8 or data[25] not in _COLOURS):
        return _to_convert(data, height, width, 1 if data[25] == _GREY else 3)
    if bits not in (8, 16) or data[25] not in _COLOURS or (large and clear):
        return None
    samples = _COLOURS[data[25]]
    if not large and (bits == 8 or samples == 1):
        return None
    channels = samples - (samples in (2, 4))

    def weight(least: int) -> int:
        by = factor(height, width, least)
        taken = samples + channels * (samples != channels) if by == 1 else samples + 3 * channels / by**2
        return int(taken * width * height * bits / 8) + 8 * samples * STRIP if large else 9 * width * height * samples

    return Stored(height, width, channels, f"uint{bits}", partial(_load_png, data), weight, colour=channels == 3)


def _to_convert(data: bytes, height: int, width: int, channels: int) -> Stored:
    """A large PNG of palette, few bits or a transparent colour, which Pillow holds as it is and converts strip by strip."""

    def weight(least: int) -> int:
        made = channels / factor(height, width, least) ** 2
        return int((4 if data[25] == _COLOUR else 1) * width * height + made * width * height) + 12 * STRIP

    return Stored(height, width, channels, "uint8", partial(_load_converted, data, channels), weight, colour=channels == 3)


def _load_converted(data: bytes, channels: int, pages: Sequence[int], least: int) -> Array:
    with PngImageFile(io.BytesIO(data)) as image:
        strips: Any = _Strips(image, channels)
        return in_strips(strips, factor(image.height, image.width, least))


class _Strips:
    """Parts of a picture as arrays in 8 bits, grey or RGB on white."""

    def __init__(self, image: Image.Image, channels: int) -> None:
        self._image, self._mode, self.shape = image, "L" if channels == 1 else "RGB", (image.height, image.width)

    def __getitem__(self, at: tuple[slice, slice]) -> Array:
        rows, columns = at
        part = self._image.crop((columns.start, rows.start, columns.stop, rows.stop))
        if "transparency" in self._image.info:
            part.info["transparency"] = self._image.info["transparency"]
            clear = part.convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
        array = np.asarray(part.convert(self._mode))
        return array[:, :, None] if array.ndim == 2 else array


def _load_png(data: bytes, pages: Sequence[int], least: int) -> Array:
    array = np.asarray(imagecodecs.png_decode(data))
    array = array[:, :, None] if array.ndim == 2 else array
    opaque = array.shape[2] in (1, 3)
    by = factor(len(array), array.shape[1], least)
    if opaque and by == 1:
        return array
    return in_strips(array, by) if opaque else in_strips(array, by, on_white)


def on_white(array: Array) -> Array:
    """Drops the last channel of whole numbers (H, W, C), transparency, before white."""
    white = np.iinfo(array.dtype).max
    share = array[..., -1:] / np.float32(white)
    flat: Array = (array[..., :-1] * share + white * (1 - share) + np.float32(0.5)).astype(array.dtype)
    return flat
