"""Images, from bytes, a PIL image or an array of any usual kind to uint8 (C, S, S)."""

from __future__ import annotations

import io
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from unlabeled.data.kinds import medical
from unlabeled.data.kinds.fit import Fit, central, fitted, resized
from unlabeled.data.kinds.frames import frames, own_png
from unlabeled.data.kinds.jpeg import ORIENTATION, START, UPRIGHT, Jpeg, upright
from unlabeled.data.kinds.stored import FINE, MAX_PIXELS, SPARE, STRIP, WHOLE, BadImageError, Stored
from unlabeled.data.kinds.tiff import START as TIFF
from unlabeled.data.kinds.tiff import open_tiff
from unlabeled.data.kinds.values import TYPE, WINDOW, as_bytes, spelled
from unlabeled.data.reader import Raw
from unlabeled.data.room import DECODING, RAW
from unlabeled.files import open_regular

MAX_JPEG = 1 << 30
"""Pixels of a JPEG, which is decoded at an eighth of its sides where it is large. Ours."""
_SMALLER = "make it smaller, or cut it into several"
_READ_BY_PARTS = ("TIFF", "BMP", "PNG", "PPM")
_DECODER = {"WEBP": 9, "AVIF": 6}
"""Bytes a pixel that decoders take beside the picture, measured with Pillow 12.1; JPEG 2000 takes 4 a channel, and 4."""
_GREY = frozenset({"1", "L", "LA", "La", "I", "F"})

Array = np.ndarray[Any, Any]
Opened = Image.Image | Jpeg | Stored


def open_image(source: bytes | Path) -> Opened:
    """Reads the header of an image file; the pixels are decoded when they are needed.

    Raises:
        BadImageError: empty, not an image, or by its header larger than `MAX_PIXELS` or than what there is room to decode.
            TIFF and most PNG have the latter bound alone.
        MissingPackage: a medical image, without the packages that read those.
        OSError: the file cannot be read, or is none.
    """
    if isinstance(source, Path):
        with open_regular(source) as file:
            if os.fstat(file.fileno()).st_size > RAW:
                return _not_read_yet(source, file.read(len(TIFF[0])))
            data = file.read()
    else:
        data = source
    if not data:
        raise BadImageError("empty file (0 bytes)")
    made: Opened | None = None
    if data.startswith(START):
        with suppress(ValueError):  # Pillow may know better, or what is wrong
            made = Jpeg(data)
    elif data.startswith(TIFF):
        made = open_tiff(data)
    elif medical.is_one(data):
        made = medical.open_medical(data)
    made = made or own_png(data)
    if made is None:
        image = _by_pillow(io.BytesIO(data))
        made = frames(image, data) or image
    _check(made)
    return made


def _not_read_yet(path: Path, start: bytes) -> Opened:
    """An image whose file is larger than what is held of files at a time."""
    stored = open_tiff(path) if start.startswith(TIFF) else None
    if stored is not None:
        _check(stored)
        return stored
    image = _by_pillow(path)
    try:
        if image.format not in _READ_BY_PARTS:
            raise BadImageError(f"a file of more than {RAW >> 20} MiB: {_SMALLER}")
        _check(image)
    except BadImageError:
        image.close()
        raise
    return image


def _by_pillow(source: io.BytesIO | Path) -> Image.Image:
    try:
        image: Image.Image = Image.open(source)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImageError(f"more than {MAX_PIXELS:,} pixels by its header (a decompression bomb?): {_SMALLER}") from None
    except UnidentifiedImageError:
        raise BadImageError("not an image, or of a format that Pillow does not know") from None
    return image


def _check(image: Opened) -> None:
    """Refuses one that is too large."""
    most = MAX_JPEG if isinstance(image, Jpeg) else MAX_PIXELS
    if image.width * image.height > most and not isinstance(image, Stored):
        raise BadImageError(f"{image.width}x{image.height} pixels by its header, more than {most:,}: {_SMALLER}")
    if (needed := weight(image, 1)) > DECODING:
        form = image.format if isinstance(image, Image.Image) else "JPEG" if isinstance(image, Jpeg) else image.type
        raise BadImageError(
            f"{image.width}x{image.height} pixels of {form} take {needed >> 20:,} MiB to decode, more than "
            f"{DECODING >> 20}: {_SMALLER}"
        )


def weight(raw: Raw, size: int, *, finely: bool = False) -> int:
    """Estimates the bytes that decoding a sample takes for a square of side `size`; none for an array, which is there.

    Args:
        raw: the sample.
        size: side of the square in pixels.
        finely: whether nothing is saved; see `to_pixels`.
    """
    if isinstance(raw, Jpeg):
        return raw.weight(WHOLE if finely else size)
    if isinstance(raw, Stored):
        return raw.bytes(size)
    if not isinstance(raw, Image.Image):
        return 0
    pixels = raw.width * raw.height
    kept = {"1": 1, "L": 1, "P": 1}.get(raw.mode, 2 if raw.mode.startswith("I;16") else 4)
    decoder = 4 * len(raw.getbands()) + 4 if raw.format == "JPEG2000" else _DECODER.get(str(raw.format), 0)
    return pixels * (kept + decoder + 3) + 12 * min(pixels, STRIP)


def native_size(raw: Raw) -> tuple[int, int]:
    """Returns (H, W) of a raw sample, upright, without decoding it."""
    if isinstance(raw, np.ndarray):
        return int(raw.shape[0]), int(raw.shape[1])
    return (raw.width, raw.height) if isinstance(raw, Image.Image) and _turned(raw) > 4 else (raw.height, raw.width)


def _turned(image: Image.Image) -> int:
    """What Exif calls the orientation of a picture that Pillow reads."""
    return int(image.getexif().get(ORIENTATION, UPRIGHT)) if "exif" in image.info else UPRIGHT


def channels_of(raw: Raw) -> int:
    """Returns how many channels `whole` gives, without decoding the sample."""
    if isinstance(raw, np.ndarray):
        return 1 if raw.ndim == 2 else int(raw.shape[2])
    if isinstance(raw, Image.Image):
        return 1 if raw.mode in _GREY or raw.mode.startswith("I;") else 3
    return int(raw.grey) or 3 if isinstance(raw, Jpeg) else int(raw.channels)


def whole(raw: Raw) -> Array:
    """Decodes a sample at its full size: (H, W, C), of values as they are stored.

    Raises:
        BadImageError: there is no room for it.
    """
    if whole_weight(raw) > DECODING:
        height, width = native_size(raw)
        raise BadImageError(
            f"{width}x{height} pixels take {whole_weight(raw) >> 20:,} MiB at once, more than {DECODING >> 20}: leave "
            "--tiles out, so that it is read at a reduced size, or cut it into several files"
        )
    if isinstance(raw, Jpeg):
        decoded = raw.whole()
        raw = raw.image() if decoded is None else decoded
    if isinstance(raw, Stored):
        return raw.values()
    array = deep(raw)
    if isinstance(raw, Image.Image) and array is None:
        array = upright(_part_of(raw, (0, 0, *raw.size), channels_of(raw), ""), _turned(raw))
    array = np.asarray(raw) if array is None else array
    return array[:, :, None] if array.ndim == 2 else array


def whole_weight(raw: Raw) -> int:
    """Estimates the bytes that `whole` takes."""
    if isinstance(raw, Stored) and raw.mapped and len(raw.at) == 1:
        return 0
    return raw.whole_weight() if isinstance(raw, Jpeg) else weight(raw, min(native_size(raw)))


def native_channels(raw: Raw) -> int:
    """Returns 1 if the sample shows no colour, whatever its storage; 3 if it does; an array's own number of channels.

    May leave an image decoded at a reduced size: the sample is of no further use.
    """
    if isinstance(raw, np.ndarray):
        return 1 if raw.ndim == 2 else int(raw.shape[2])
    if isinstance(raw, Stored):
        return _coloured(raw.values(64)[::4, ::4]) if raw.colour and raw.type == "uint8" else raw.channels
    if isinstance(raw, Jpeg):
        small = None if raw.grey else raw.pixels(3, 64)
        if raw.grey or small is not None:
            return 1 if small is None else _coloured(small)
        raw = raw.image()
    if raw.mode in _GREY or raw.mode.startswith("I;"):
        return 1
    raw.draft("RGB", (64, 64))
    return _coloured(np.asarray(_eight_bit(raw.resize((64, 64), Image.Resampling.NEAREST), 3)))


def _coloured(picture: Array) -> int:
    """3 if uint8 (H, W, 3) shows colour, else 1."""
    return 1 if int(np.ptp(picture.astype(np.int16), axis=2).max()) <= 2 else 3


def deep(raw: Raw) -> Array | None:
    """Returns the values (H, W, C) of a sample that has more than bytes and says nothing of their range; None for others."""
    if isinstance(raw, np.ndarray):
        array = raw[:, :, None] if raw.ndim == 2 else raw
    elif isinstance(raw, Stored):
        if raw.type in ("uint8", "bool") or raw.window is not None:
            return None
        array = raw.values()
    elif isinstance(raw, Image.Image) and (raw.mode in ("I", "F") or raw.mode.startswith("I;")):
        array = np.asarray(raw)[:, :, None]
    else:
        return None
    return array if array.dtype.kind in "iuf" and array.dtype != np.uint8 and array.ndim == 3 and array.size else None


def to_pixels(raw: Raw, channels: int, size: int, fit: Fit = "crop", values: str = "", *, finely: bool = False) -> Array:
    """Returns a sample as a square, resized (bilinear, antialiased): uint8 (channels, size, size).

    Transparency is flattened on white, CMYK and palettes become RGB, values of more than 8 bits are brought to 0..255, EXIF
    rotation is applied.

    Args:
        raw: the sample.
        channels: wanted.
        size: side in pixels.
        fit: what becomes of a picture that is not square.
        values: the range that becomes 0..255; see `unlabeled.data.kinds.values.pairs`.
        finely: whether nothing is saved in decoding, as far as memory allows, and what is resized is not rounded to bytes:
            uint16, of which 65535 is white.

    Raises:
        BadImageError: an array of another kind, or a number of channels that cannot be converted.
        OSError: a truncated or broken file.
    """
    if isinstance(raw, Jpeg):
        decoded = raw.pixels(channels, WHOLE if finely else size)
        raw = raw.image() if decoded is None else decoded
    if isinstance(raw, Image.Image):
        raw = _decoded(raw, channels, WHOLE if finely else size, fit, values)
    inverted = False
    if isinstance(raw, Stored):
        inverted, windowed = raw.inverted, raw.window is not None and values in ("", TYPE, WINDOW)
        values = spelled([raw.window]) if raw.window and windowed else values
        raw = raw.values(size)
    raw = raw[:, :, None] if raw.ndim == 2 else raw
    if raw.ndim != 3:
        raise BadImageError(f"an array of shape {raw.shape}; an image is (H, W) or (H, W, C)")
    array = as_bytes(_central(raw) if fit == "crop" else raw, values)
    array = _match_channels(255 - array if inverted else array, channels)
    if not finely and array.shape[:2] == (size, size):
        return np.ascontiguousarray(array.transpose(2, 0, 1))
    pixels = torch.from_numpy(np.require(array, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)  # channels last: faster
    rest: Fit = "stretch" if fit == "crop" else fit  # it is cropped
    if not finely:
        made: Array = fitted(pixels, size, rest)[0].contiguous().numpy()
        return made
    return np.rint(fitted(pixels, size, rest, _by_strips)[0].numpy().astype(np.float32) * FINE).astype(np.uint16)


def _decoded(image: Image.Image, channels: int, size: int, fit: Fit, values: str) -> Array:
    """The central square of the upright image as (S, S, channels) or (S, S), or all of it; of a JPEG for a square of side
    `size`, perhaps reduced."""
    scale = SPARE * size / min(image.size)
    if scale < 1:
        image.draft("L" if channels == 1 else "RGB", (math.ceil(image.width * scale), math.ceil(image.height * scale)))
    turned = _turned(image)
    if fit != "crop":
        return upright(_part_of(image, (0, 0, *image.size), channels, values), turned)
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)  # of the upright image, so counted from its own ends
    left = image.width - side - left if turned in (2, 3, 7, 8) else left
    top = image.height - side - top if turned in (3, 4, 6, 7) else top
    return upright(_part_of(image, (left, top, left + side, top + side), channels, values), turned)


def _part_of(image: Image.Image, wanted: tuple[int, int, int, int], channels: int, values: str) -> Array:
    """A part of the image in 8 bits, as (H, W, channels) or (H, W). Of a large one not all is converted at once: on the way
    it may be several times as large."""
    left, top, right, bottom = wanted
    rows = max(1, STRIP // (right - left))

    def part(start: int) -> Array:
        box = (left, start, right, min(bottom, start + rows))
        strip = image if box == (0, 0, *image.size) else image.crop(box)
        return np.asarray(_eight_bit(strip, channels, values) if channels in (1, 3) else strip)

    first = part(top)
    if len(first) == bottom - top:
        return first
    whole = np.empty((bottom - top, *first.shape[1:]), first.dtype)
    whole[: len(first)] = first
    for start in range(top + rows, bottom, rows):
        whole[start - top : start - top + rows] = part(start)
    return whole


def _eight_bit(image: Image.Image, channels: int, values: str = "") -> Image.Image:
    """The image in mode L (channels 1) or RGB (channels 3)."""
    mode = "L" if channels == 1 else "RGB"
    if image.mode == mode and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        deep_values = np.asarray(image)
        if values in ("", TYPE, WINDOW) and deep_values.dtype.kind != "f":
            if deep_values.min() < 0 or deep_values.max() > 65535:
                raise BadImageError(f"integer values from {deep_values.min()} to {deep_values.max()}, more than 16 bits")
            deep_values = deep_values.astype(np.uint16)
        return Image.fromarray(as_bytes(deep_values[:, :, None], values)[:, :, 0]).convert(mode)
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")
    return image.convert(mode)


def _central(array: Array) -> Array:
    """The central square of a picture (H, W, C)."""
    top, left, side = central(*array.shape[:2])
    return array[top : top + side, left : left + side]


def _by_strips(x: Tensor, height: int, width: int) -> Tensor:
    """Resizes bytes (1, C, H, W) to floats, as `resized` does, without holding the whole as floats."""
    rows = max(1, STRIP // x.shape[3])
    strips = [resized(strip.float(), strip.shape[2], width) for strip in torch.split(x, rows, 2)]
    return resized(torch.cat(strips, 2), height, width)


def _match_channels(array: Array, channels: int) -> Array:
    """uint8 (H, W, C) with C brought to `channels` where that has a meaning (grey, RGB, RGBA)."""
    found = array.shape[2]
    if found == channels:
        return array
    if found not in (1, 3, 4) or channels not in (1, 3):
        raise BadImageError(f"{found} channels where the others have {channels}")
    image = Image.fromarray(array[:, :, 0] if found == 1 else np.ascontiguousarray(array))
    result = np.asarray(_eight_bit(image, channels))
    return result[:, :, None] if result.ndim == 2 else result
