"""TIFF files: pages, planes and channels are told apart by the tags (tifffile)."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unlabeled.data.kinds.frames import on_white
from unlabeled.data.kinds.jpeg import ORIENTATION, UPRIGHT, upright
from unlabeled.data.kinds.stored import MAX_PIXELS, STRIP, BadImageError, Stored, factor, in_strips
from unlabeled.words import counted

START = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of every TIFF file."""
FEW = 16
"""Samples a pixel, at most, that the last axis of an array in a file is taken for. Ours."""
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
SEPARATE, JPEG = 2, 7

Array = np.ndarray[Any, Any]
logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # what is wrong with a file is said by us


def open_tiff(source: bytes | Path) -> Stored | None:
    """Reads the tags of a file.

    Returns:
        The picture; None where its colours are for Pillow to convert: 8 bits with transparency, or of four inks, YCbCr, Lab;
        but slides, large or in several sizes, are YCbCr in JPEG, which becomes RGB.

    Raises:
        BadImageError: a form that is no picture.
        tifffile.TiffFileError: damaged.
    """
    with _opened(source) as file:
        series = file.series[0]
        key: Any = series.keyframe
        known = key.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE) or _is_slide(series)
        if not series.shape or not known:
            return None
        separate = key.planarconfig == SEPARATE
        alpha = any(extra in (1, 2) for extra in key.extrasamples) and not separate
        if alpha and key.bitspersample == 8:
            return None
        if key.axes not in ("YX", "YXS", "SYX"):
            raise BadImageError(f"a TIFF of axes {series.axes} and shape {series.shape}, which is no picture")
        outer = dict(zip(series.axes, series.shape, strict=True))
        height, width = outer.pop("Y"), outer.pop("X")
        samples = outer.pop("S", 1)
        channels = outer.pop("C", 1) * (3 if key.photometric == PALETTE else samples - alpha)
        pages = math.prod(outer.values())
        shaped = _last_axis_is_channels(series, pages, height, width, samples)
        levels = [(level.keyframe.imagelength, level.keyframe.imagewidth) for level in series.levels]
        sizes = series.dtype.itemsize * channels * (9 if alpha else 3)
        several = len(file.series)
        planes = separate and samples in (3, 4) and channels == samples and pages == 1
        mapped = _is_mapped(series) and not shaped and not alpha and channels == samples
    turned = _turned(key)
    if shaped:
        height, width, channels, pages, levels = pages, height, width, 1, [(pages, height)]
    return Stored(
        *((width, height) if turned > 4 else (height, width)),
        channels,
        "uint8" if key.photometric == PALETTE else str(series.dtype),
        partial(_load, source, turned, shaped),
        lambda least: _weight(levels[_level(levels, least)], sizes, least, mapped),
        pages=pages,
        noun="plane" if planes else "page",
        colour=channels == 3 and not shaped and key.photometric in (RGB, PALETTE, YCBCR),
        inverted=key.photometric == WHITE_IS_ZERO,
        said=_said(series.axes, planes, samples, shaped, channels, several),
        mapped=mapped,
    )


def _is_slide(series: Any) -> bool:
    """Whether it is a slide of a scanner: in JPEG, and large or in several sizes."""
    key = series.keyframe
    jpeg = key.photometric == YCBCR and key.compression == JPEG and key.bitspersample == 8 and key.axes == "YXS"
    return bool(jpeg and (len(series.levels) > 1 or key.imagelength * key.imagewidth > MAX_PIXELS))


def _is_mapped(series: Any) -> bool:
    """Whether a page is decoded into a file: a large one, in the order of pixels."""
    key = series.keyframe
    return key.imagelength * key.imagewidth > MAX_PIXELS and key.axes in ("YX", "YXS") and key.photometric != PALETTE


def _weight(size: tuple[int, int], bytes_a_pixel: int, least: int, mapped: bool) -> int:
    """Bytes that decoding a page of such a size takes: of one in a file, those of strips and of what they become."""
    pixels = math.prod(size)
    if not mapped or pixels <= MAX_PIXELS:
        return bytes_a_pixel * pixels
    return bytes_a_pixel * (min(pixels, 2 * STRIP) + pixels // factor(*size, least) ** 2)


def _said(axes: str, planes: bool, samples: int, shaped: bool, channels: int, several: int) -> str:
    """What the tags leave open, in words."""
    if several > 1:
        return f"TIFF of {several} series is read as the first of them, such as the slide without its label"
    if shaped:
        return f"TIFF whose last axis is short is read as one picture of {counted(channels, 'channels')}"
    if planes:
        colours = {3: "red, green and blue", 4: "red, green, blue and transparency"}[samples]
        read = "read as that" if samples == 3 else "read as 4 channels"
        return (
            f"TIFF of {counted(samples, 'planes')}, which the tags call {colours}, is {read}; where they are slices, "
            "give --pages all"
        )
    return f"TIFF's axis C ({channels}) is read as channels" if "C" in axes else ""


def _last_axis_is_channels(series: Any, pages: int, height: int, width: int, samples: int) -> bool:
    """Whether an array (H, W, C) was written by tifffile as H pages of W x C."""
    plain = series.kind == "shaped" and len(series.axes) == 3 and samples == 1 and "C" not in series.axes
    return bool(plain and 1 < width <= FEW and 2 * width < min(pages, height))


def planes_as_pages(picture: Stored) -> Stored:
    """Returns the planes of a file that the tags call colours as its pages."""
    if picture.noun != "plane":
        return picture

    def load(pages: Sequence[int], least: int) -> Array:
        return picture.load((0,), least)[..., list(pages)]

    return Stored(
        picture.height, picture.width, 1, picture.type, load, picture.weight, pages=picture.channels,
        inverted=picture.inverted, noun="plane",
    )  # fmt: skip


def _opened(source: bytes | Path) -> tifffile.TiffFile:
    return tifffile.TiffFile(io.BytesIO(source) if isinstance(source, bytes) else source)


def _level(levels: Sequence[tuple[int, int]], least: int) -> int:
    """Of a picture that is stored in several sizes the smallest that will do."""
    return max(i for i, size in enumerate(levels) if i == 0 or min(size) >= 4 / 3 * least)


def _load(source: bytes | Path, turned: int, shaped: bool, pages: Sequence[int], least: int) -> Array:
    """The channels of some pages, (H, W, C), upright."""
    with _opened(source) as file:
        whole = file.series[0]
        sizes = [(level.keyframe.imagelength, level.keyframe.imagewidth) for level in whole.levels]
        series = whole.levels[_level(sizes, least)] if not shaped else whole
        if shaped:
            return upright(np.asarray(series.asarray(maxworkers=1)), turned)
        outer = [(axis, length) for axis, length in zip(series.axes, series.shape, strict=True) if axis not in "YXS"]
        numbers = np.arange(math.prod(length for _, length in outer)).reshape([length for _, length in outer])
        axes = [axis for axis, _ in outer]
        if "C" in axes:
            numbers = np.moveaxis(numbers, axes.index("C"), -1)
        numbers = numbers.reshape(-1, numbers.shape[-1] if "C" in axes else 1)
        planes = [_plane(series, int(number), least) for page in pages for number in numbers[page]]
    return upright(planes[0] if len(planes) == 1 else np.concatenate(planes, 2), turned)


def _plane(series: Any, number: int, least: int) -> Array:
    """What one directory of the file describes: (H, W, samples), of a large one perhaps reduced."""
    key = series.keyframe
    array: Array
    if _is_mapped(series):
        array = _reduced(series.pages[number].asarray(maxworkers=1, out="memmap"), key.dtype, least)
    elif series.dataoffset is not None and series.kind != "uniform":
        count = math.prod(key.shape)
        file = key.parent.filehandle
        file.seek(series.dataoffset + number * count * key.dtype.itemsize)
        flat = np.frombuffer(file.read(count * key.dtype.itemsize), key.parent.byteorder + key.dtype.char)
        if len(flat) < count:
            raise BadImageError("truncated")
        array = flat.astype(key.dtype, copy=False).reshape(key.shape)
    else:
        array = np.asarray(series.pages[number].asarray(maxworkers=1))
    if key.photometric == PALETTE:
        colours: Array = (key.colormap.T >> 8).astype(np.uint8)[array]
        return colours
    if key.axes == "SYX":
        return array.transpose(1, 2, 0)
    array = array.reshape(*array.shape[:2], -1)
    if key.planarconfig != SEPARATE and any(extra in (1, 2) for extra in key.extrasamples):
        return on_white(array) if array.dtype.kind == "u" else array[..., :-1]
    return array


def _reduced(array: Array, dtype: Any, least: int) -> Array:
    """A large page in a file as (H, W, samples), or if that will do, means of its blocks."""
    array = array.reshape(*array.shape[:2], -1)
    by = factor(len(array), array.shape[1], least)
    return in_strips(array, by, lambda strip: strip.astype(dtype, copy=False)) if by > 1 else array


def _turned(page: Any) -> int:
    tag = page.tags.get(ORIENTATION)
    return int(tag.value) if tag is not None and tag.value in range(1, 9) else UPRIGHT
