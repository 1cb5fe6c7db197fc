"""One image: from bytes, a PIL image or an array of any usual kind to uint8 (C, S, S)."""

from __future__ import annotations

import io
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn import functional as F

from unlabeled.data.kinds.jpeg import SPARE, START, Jpeg
from unlabeled.data.reader import Raw

MAX_PIXELS = 89_478_485  # Pillow's own bound: a quarter of a GiB once decoded to RGB
_KNOWN = "jpg jpeg jpe jfif png bmp dib gif webp tif tiff ppm pgm pbm pnm jp2 j2k avif tga ico"
SUFFIXES = frozenset(f".{s}" for s in _KNOWN.split(" "))

_GREY = frozenset({"1", "L", "LA", "La", "I", "F"})


class BadImageError(ValueError):
    """A sample that cannot become pixels; the message is the reason, in words for the user."""


def open_image(source: bytes | Path) -> Image.Image | Jpeg:
    """Reads the header of an image file; the pixels are decoded when they are needed.

    Raises:
        BadImageError: empty, not an image, or larger than `MAX_PIXELS` by its header.
        OSError: the file cannot be read.
    """
    if isinstance(source, Path):
        with source.open("rb", buffering=0) as file:
            data = file.read()
    else:
        data = source
    if not data:
        raise BadImageError("empty file (0 bytes)")
    image: Image.Image | Jpeg | None = None
    if data.startswith(START):
        with suppress(ValueError):  # Pillow may know better, or what is wrong
            image = Jpeg(data)
    try:
        image = image or Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(f"more than {MAX_PIXELS:,} pixels by its header (a decompression bomb?)") from None
    except UnidentifiedImageError:
        raise BadImageError("not an image, or of a format that Pillow does not know") from None
    if image.width * image.height > MAX_PIXELS:
        raise BadImageError(f"{image.width}x{image.height} pixels by its header, more than {MAX_PIXELS:,}")
    return image


def native_size(raw: Raw) -> tuple[int, int]:
    """(H, W) of a raw sample, without decoding it."""
    return (int(raw.shape[0]), int(raw.shape[1])) if isinstance(raw, np.ndarray) else (raw.height, raw.width)


def native_channels(raw: Raw) -> int:
    """1 if the sample shows no colour, whatever its storage; 3 if it does; an array's own number of channels.

    May leave an image decoded at a reduced size: the sample is of no further use.
    """
    if isinstance(raw, np.ndarray):
        return 1 if raw.ndim == 2 else int(raw.shape[2])
    if isinstance(raw, Jpeg):
        raw = raw.image()
    if raw.mode in _GREY or raw.mode.startswith("I;"):
        return 1
    raw.draft("RGB", (64, 64))
    small = np.asarray(_eight_bit(raw, 3).resize((64, 64), Image.Resampling.NEAREST)).astype(np.int16)
    return 1 if int(np.ptp(small, axis=2).max()) <= 2 else 3


def to_pixels(raw: Raw, channels: int, size: int) -> np.ndarray[Any, Any]:
    """The central square of a sample, resized (bilinear, antialiased), as uint8 (channels, size, size).

    Transparency is flattened on white, CMYK and palettes become RGB, 16 bits are divided by 257, EXIF rotation is applied.

    Raises:
        BadImageError: an array of another kind, or a number of channels that cannot be converted.
        OSError: a truncated or broken file.
    """
    if isinstance(raw, Jpeg):
        decoded = raw.pixels(channels, size)
        raw = raw.image() if decoded is None else decoded
    if isinstance(raw, Image.Image):
        raw = _decoded(raw, channels, size)
    array = as_uint8(raw)
    return _square(_match_channels(array[:, :, None] if array.ndim == 2 else array, channels), size)


def as_uint8(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Grey values as 0..255: uint8 as it is, uint16 / 257, float in [0, 1] x 255, bool x 255; any shape.

    Raises:
        BadImageError: another type, a value outside [0, 1], or one that is not a number.
    """
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        scaled: np.ndarray[Any, Any] = (array.astype(np.uint32) + 128) // 257
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


def _decoded(image: Image.Image, channels: int, size: int) -> np.ndarray[Any, Any]:
    """The upright image as (H, W, channels) or (H, W); a JPEG for a square of side `size`, perhaps reduced."""
    scale = SPARE * size / min(image.size)
    if scale < 1:
        image.draft("L" if channels == 1 else "RGB", (math.ceil(image.width * scale), math.ceil(image.height * scale)))
    image = ImageOps.exif_transpose(image) if "exif" in image.info else image
    return np.asarray(_eight_bit(image, channels) if channels in (1, 3) else image)


def _eight_bit(image: Image.Image, channels: int) -> Image.Image:
    """The image in mode L (channels 1) or RGB (channels 3)."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        values = np.asarray(image)
        if values.dtype.kind != "f":
            if values.min() < 0 or values.max() > 65535:
                raise BadImageError(f"integer values from {values.min()} to {values.max()}, more than 16 bits")
            values = values.astype(np.uint16)
        return Image.fromarray(as_uint8(values)).convert(mode)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image.convert(mode)


def _square(array: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """The central square of uint8 (H, W, C), resized in one resampling, as (C, size, size)."""
    height, width = array.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = array[top : top + side, left : left + side]
    if side == size:
        return np.ascontiguousarray(square.transpose(2, 0, 1))
    pixels = torch.from_numpy(np.require(square, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)  # channels last: faster
    resized: np.ndarray[Any, Any] = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)[0].numpy()
    return resized


def _match_channels(array: np.ndarray[Any, Any], channels: int) -> np.ndarray[Any, Any]:
    """uint8 (H, W, C) with C brought to `channels` where that has a meaning (grey, RGB, RGBA)."""
    if array.ndim != 3:
        raise BadImageError(f"an array of shape {array.shape}; an image is (H, W) or (H, W, C)")
    found = array.shape[2]
    if found == channels:
        return array
    if found not in (1, 3, 4) or channels not in (1, 3):
        raise BadImageError(f"{found} channels where the others have {channels}")
    image = Image.fromarray(array[:, :, 0] if found == 1 else np.ascontiguousarray(array))
    result = np.asarray(_eight_bit(image, channels))
    return result[:, :, None] if result.ndim == 2 else result
