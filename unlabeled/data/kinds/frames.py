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

from unlabeled.data.kinds.stored import Stored

ANIMATED = ("GIF", "TIFF")
_PNG = b"\x89PNG\r\n\x1a\n"
_COLOURS = {2: 3, 4: 2, 6: 4}
"""PNG's kind of colours -> samples a pixel, of those that Pillow makes 8 bits of."""

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


def deep_png(data: bytes) -> Stored | None:
    """Returns a PNG of 16 bits and several samples a pixel, of which Pillow drops the lower 8; None for any other file."""
    if not data.startswith(_PNG) or len(data) < 26 or data[24] != 16 or data[25] not in _COLOURS:
        return None
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    samples = _COLOURS[data[25]]
    channels = samples - (samples != 3)
    pixels = width * height * samples
    return Stored(
        height, width, channels, "uint16", partial(_load_png, data), lambda least: 9 * pixels, colour=channels == 3
    )


def _load_png(data: bytes, pages: Sequence[int], least: int) -> Array:
    array = np.asarray(imagecodecs.png_decode(data))
    if array.shape[-1] == 3:
        return array
    return on_white(array)


def on_white(array: Array) -> Array:
    """Drops the last channel of whole numbers (H, W, C), transparency, before white."""
    white = np.iinfo(array.dtype).max
    share = array[..., -1:] / np.float32(white)
    flat: Array = (array[..., :-1] * share + white * (1 - share) + np.float32(0.5)).astype(array.dtype)
    return flat
