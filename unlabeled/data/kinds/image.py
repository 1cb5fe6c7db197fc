"""Still images: from bytes, a PIL image or an array of any usual kind to uint8 (C, S, S)."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional as F

from unlabeled import registry
from unlabeled.batch import Fields, Progress
from unlabeled.data.kinds.jpeg import ORIENTATION, SPARE, START, UPRIGHT, Jpeg
from unlabeled.data.kinds.kind import Form
from unlabeled.data.reader import NATURAL, Raw, Reader, in_a_line
from unlabeled.data.room import DECODING, RAW, decoding_room
from unlabeled.errors import UserError
from unlabeled.files import open_regular
from unlabeled.registry import Choice, Range, register

if TYPE_CHECKING:
    from unlabeled.encoders import Encoder

MAX_PIXELS = 89_478_485  # Pillow's own bound: a quarter of a GiB once decoded to RGB
_SMALLER = "make it smaller, or cut it into several"
_READ_BY_PARTS = ("TIFF", "BMP", "PNG", "PPM")
_DECODER = {"WEBP": 9, "AVIF": 6}
"""Bytes a pixel that decoders take beside the picture, measured with Pillow 12.1; JPEG 2000 takes 4 a channel, and 4."""
STRIP = 1 << 22
"""Pixels of an image that are converted at once."""
_KNOWN = "jpg jpeg jpe jfif png bmp dib gif webp tif tiff ppm pgm pbm pnm jp2 j2k avif tga ico"
SUFFIXES = frozenset(f".{s}" for s in _KNOWN.split(" "))

_GREY = frozenset({"1", "L", "LA", "La", "I", "F"})


_SAMPLED, _COLOUR_SAMPLED = 256, 64  # headers read, images decoded, to find what a source is
MILD_CROP, MILD_COLOURS = 0.5, 0.5
"""Least area of a crop, and strength of the colour jitter, of views that are mild. The area is ours; the strength is half of
SimCLR's, as in MoCo v2 and in SimCLR's experiments on CIFAR-10 (appendix B.9)."""
USUAL_CROP = 0.2
"""Least area of a crop where nothing is asked for: MoCo's (He et al. 2020, published code) in place of SimCLR's 0.08, which
loses what small pictures show."""
AFFINE = {"name": "affine"}
SMALLEST, LARGEST = 16, 224
"""Bounds of the default side of a view, in pixels: a ResNet halves 16 three times; 224 is ImageNet's custom."""


@register("image")
class ImageKind:
    """Still images, kept as squares of uint8.

    Args:
        size: side of a view in pixels; none given: the data's own, between 16 and 224.
        first_size: side of a view in the first epoch, from which it grows to `size`, reached after four fifths of the run;
            none given: `size` throughout. Small views cost less, and early training needs no more (Tan and Le 2021,
            "EfficientNetV2", on progressive learning; by how much is ours).
        eval_size: side in pixels at which images are judged after training; none given: `size`. Somewhat more than that
            helps, as crops show things enlarged (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
    """

    name, noun, nouns, raw = "image", "image", "images", "pixels"
    suffixes = SUFFIXES
    invariances = NATURAL
    version = 2  # raise it whenever `to_pixels` gives other pixels than before
    method, policy, encoder_name = "simclr", "simclr", "resnet18"

    def __init__(
        self,
        *,
        size: Annotated[int, Range(4)] | None = None,
        first_size: Annotated[int, Range(4)] | None = None,
        eval_size: Annotated[int, Range(4)] | None = None,
    ) -> None:
        self.size, self.first_size, self.eval_size = size, first_size, eval_size

    def open(self, source: bytes | Path) -> Image.Image | Jpeg:
        """Does what `open_image` says."""
        return open_image(source)

    def native(self, raw: Raw) -> tuple[int, int]:
        """Returns (H, W), without decoding."""
        return native_size(raw)

    def survey(self, reader: Reader, name: str, channels: int | None) -> Form:
        """Finds channels, native size and canonical size from images spread over the split."""
        sizes, found, reason, decoded = [], 0, "", 0
        for index in np.unique(np.linspace(0, len(reader) - 1, min(len(reader), _SAMPLED)).astype(int)).tolist():
            try:
                raw = reader.read(index)
                sizes.append(native_size(raw))  # before the look at its colours, which decodes at a reduced size
                if reader.channels is None and found != 3 and decoded < _COLOUR_SAMPLED:
                    found, decoded = max(found, native_channels(raw)), decoded + 1
            except Exception as error:  # decoders raise anything on broken data; the check counts them
                reason = reason or f"{reader.path(index)}: {in_a_line(error)}"
        if not sizes:
            raise UserError(f"{name}: none of its images can be read ({reason}); check that these are image files")
        native = (int(np.median([h for h, _ in sizes])), int(np.median([w for _, w in sizes])))
        alike = len(set(sizes)) == 1 and native[0] == native[1]
        own = _wanted(reader.channels, channels) or channels or found or 3
        side = _canonical_size(native, alike, self.size)
        return Form({self.name: ("uint8", (own, side, side))}, own, side, native)

    def like(self, reader: Reader, form: Form, name: str, channels: int | None) -> None:
        """Checks the channels of an array."""
        own = _wanted(reader.channels, channels)
        if own is not None and own != form.channels:
            raise UserError(f"{name}: test has {own} channels and train {form.channels}: give both alike")

    def ready(self, reader: Reader, form: Form) -> dict[str, np.ndarray[Any, Any]] | None:
        """Returns arrays of the right size."""
        held = reader.held
        if held is None or held.shape[1:] != (form.size, form.size, form.channels):
            return None
        return {self.name: np.ascontiguousarray(held.transpose(0, 3, 1, 2))}

    def decode(self, raw: Raw, form: Form) -> dict[str, np.ndarray[Any, Any]]:
        """Does what `to_pixels` says, when there is room for it."""
        with decoding_room.hold(weight(raw, form.size)):
            return {self.name: to_pixels(raw, form.channels, form.size)}

    def resolved(self, form: Form) -> Choice:
        """Returns this kind with the side of a view."""
        size = self.size or max(SMALLEST, min(LARGEST, form.size))
        return Choice(self.name, {"size": size, "first_size": self.first_size, "eval_size": self.eval_size})

    def view_size(self, at: Progress) -> int:
        """Returns `first_size` at the beginning, linearly to `size` after four fifths of the run, in whole pixels."""
        assert self.size is not None
        first = self.first_size or self.size
        return first + round((self.size - first) * min(1.0, at.fraction / 0.8))

    def usual(self, views: Choice, form: Form, invariances: frozenset[str]) -> tuple[str, Mapping[str, Any]] | None:
        """Moves and bends grey pictures that may not be mirrored, crops small ones less, changes colours by half."""
        policy = registry.get("views", views.name).make
        pair = getattr(policy, "distorts_whole", False) and views.options.get("views", 2) == 2
        if pair and form.channels == 1 and "mirror" not in invariances:
            return "shifted, turned and sheared, as grey pictures that may not be mirrored bear little else", AFFINE
        scale, strength = views.options.get("scale"), views.options.get("strength", 0.0)
        given: dict[str, Any] = {}
        if isinstance(scale, tuple | list) and scale[0] < USUAL_CROP:
            given["scale"] = (USUAL_CROP, 1.0)
        if strength > MILD_COLOURS:
            given["strength"] = MILD_COLOURS
        return (f"crops of {USUAL_CROP:.0%} of the picture at least, and half of the jitter", given) if given else None

    def milder(self, views: Choice) -> tuple[str, dict[str, str]] | None:
        """Advises crops of half of the picture at least, where they may show less; else weaker colours."""
        scale, strength = views.options.get("scale"), views.options.get("strength", 0.0)
        if isinstance(scale, tuple | list) and scale[0] < MILD_CROP:
            return "crops that keep what the picture shows, however small it is", {"scale": f"{MILD_CROP:g},1"}
        if strength > MILD_COLOURS:
            return "weaker changes of colour and brightness", {"strength": f"{MILD_COLOURS:g}"}
        return None

    def allowed(self, invariances: frozenset[str], form: Form) -> frozenset[str]:
        """Allows colour only where there are three channels."""
        return invariances - ({"colour"} if form.channels != 3 else set())

    def fitted(self, choice: Choice, form: Form) -> Choice:
        """Chooses a ResNet's stem."""
        from unlabeled.encoders.image import with_stem

        assert self.size is not None
        return with_stem(choice, form.channels, self.size)

    def encoder(self, choice: Choice, channels: int, sample: Fields | None) -> Encoder:
        """Normalises by the sample's mean and standard deviation of each channel."""
        from unlabeled.encoders.image import build_encoder, price

        assert self.size is not None
        if sample is None:
            return build_encoder(choice, channels, self.size, torch.zeros(channels), torch.zeros(channels), self.eval_size)
        pixels = sample[self.name].float().div_(255)
        encoder = build_encoder(choice, channels, self.size, pixels.mean((0, 2, 3)), pixels.std((0, 2, 3)), self.eval_size)
        encoder.notes += price(choice, channels, self.size)
        return encoder

    def describe(self, form: Form) -> str:
        """Returns `640×480, 3 channels`."""
        return f"{form.native[0]}×{form.native[1]}, {form.channels} channel{'s' * (form.channels > 1)}"

    def views(self) -> str:
        """Returns `24 px`, or `16 to 24 px`."""
        grows = f"{self.first_size} to " if self.first_size not in (None, self.size) else ""
        return f"{grows}{self.size} px"

    def pictures(self, x: Fields, form: Form) -> Tensor:
        """Returns the images themselves."""
        return x[self.name]

    def shown(self, view: Tensor, form: Form) -> Tensor:
        """Returns the values in [0, 1] as bytes."""
        return (view * 255).round().to(torch.uint8)

    def features(self, x: Fields, form: Form) -> Tensor:
        """Returns the pixels, (B, C * S * S) in [0, 1]."""
        return x[self.name].flatten(1).float().div_(255)


def _wanted(own: int | None, wanted: int | None) -> int | None:
    """An array's own channels, or those that are wanted if grey and colour can become one another."""
    return wanted if own in (1, 3) and wanted in (1, 3) else own


def _canonical_size(native: tuple[int, int], alike: bool, image_size: int | None) -> int:
    """Native where all are one small square; otherwise an eighth more than the view's share, or 256, never enlarged."""
    if alike and native[0] <= max(64, image_size or 0):
        return native[0]
    return max(1, min(*native, 256 if image_size is None else round(image_size * 8 / 7)))


class BadImageError(ValueError):
    """A sample that cannot become pixels; the message is the reason, in words for the user."""


def open_image(source: bytes | Path) -> Image.Image | Jpeg:
    """Reads the header of an image file; the pixels are decoded when they are needed.

    Raises:
        BadImageError: empty, not an image, or by its header larger than `MAX_PIXELS` or than what there is room to decode.
        OSError: the file cannot be read, or is none.
    """
    if isinstance(source, Path):
        with open_regular(source) as file:
            if os.fstat(file.fileno()).st_size > RAW:
                return _not_read_yet(source)
            data = file.read()
    else:
        data = source
    if not data:
        raise BadImageError("empty file (0 bytes)")
    jpeg = None
    if data.startswith(START):
        with suppress(ValueError):  # Pillow may know better, or what is wrong
            jpeg = Jpeg(data)
    image = jpeg or _by_pillow(io.BytesIO(data))
    _check(image)
    return image


def _not_read_yet(path: Path) -> Image.Image:
    """An image whose file is larger than what is held of files at a time."""
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


def _check(image: Image.Image | Jpeg) -> None:
    """Refuses one that is too large."""
    if image.width * image.height > MAX_PIXELS:
        raise BadImageError(f"{image.width}x{image.height} pixels by its header, more than {MAX_PIXELS:,}: {_SMALLER}")
    if isinstance(image, Image.Image) and (needed := weight(image, 1)) > DECODING:
        raise BadImageError(
            f"{image.width}x{image.height} pixels of {image.format} take {needed >> 20:,} MiB to decode, more than "
            f"{DECODING >> 20}: {_SMALLER}"
        )


def weight(raw: Raw, size: int) -> int:
    """Estimates the bytes that decoding a sample takes for a square of side `size`; none for an array, which is there."""
    if isinstance(raw, Jpeg):
        return raw.weight(size)
    if not isinstance(raw, Image.Image):
        return 0
    pixels = raw.width * raw.height
    kept = {"1": 1, "L": 1, "P": 1}.get(raw.mode, 2 if raw.mode.startswith("I;16") else 4)
    decoder = 4 * len(raw.getbands()) + 4 if raw.format == "JPEG2000" else _DECODER.get(str(raw.format), 0)
    return pixels * (kept + decoder) + 3 * min(raw.size) ** 2 + 12 * min(pixels, STRIP)


def native_size(raw: Raw) -> tuple[int, int]:
    """Returns (H, W) of a raw sample, without decoding it."""
    return (int(raw.shape[0]), int(raw.shape[1])) if isinstance(raw, np.ndarray) else (raw.height, raw.width)


def native_channels(raw: Raw) -> int:
    """Returns 1 if the sample shows no colour, whatever its storage; 3 if it does; an array's own number of channels.

    May leave an image decoded at a reduced size: the sample is of no further use.
    """
    if isinstance(raw, np.ndarray):
        return 1 if raw.ndim == 2 else int(raw.shape[2])
    if isinstance(raw, Jpeg):
        raw = raw.image()
    if raw.mode in _GREY or raw.mode.startswith("I;"):
        return 1
    raw.draft("RGB", (64, 64))
    small = np.asarray(_eight_bit(raw.resize((64, 64), Image.Resampling.NEAREST), 3)).astype(np.int16)
    return 1 if int(np.ptp(small, axis=2).max()) <= 2 else 3


def to_pixels(raw: Raw, channels: int, size: int) -> np.ndarray[Any, Any]:
    """Returns the central square of a sample, resized (bilinear, antialiased), as uint8 (channels, size, size).

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
    """Returns grey values as 0..255: uint8 as it is, uint16 / 257, float in [0, 1] x 255, bool x 255; any shape.

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
    """The central square of the upright image as (S, S, channels) or (S, S); of a JPEG for a square of side `size`, perhaps
    reduced."""
    scale = SPARE * size / min(image.size)
    if scale < 1:
        image.draft("L" if channels == 1 else "RGB", (math.ceil(image.width * scale), math.ceil(image.height * scale)))
    turned = image.getexif().get(ORIENTATION, UPRIGHT) if "exif" in image.info else UPRIGHT
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)  # of the upright image, so counted from its own ends
    left = image.width - side - left if turned in (2, 3, 7, 8) else left
    top = image.height - side - top if turned in (3, 4, 6, 7) else top
    return _upright(_square_of(image, left, top, side, channels), turned)


def _upright(square: np.ndarray[Any, Any], turned: int) -> np.ndarray[Any, Any]:
    """A square turned by what Exif calls its orientation."""
    square = square.swapaxes(0, 1) if turned in (5, 6, 7, 8) else square
    square = square[::-1] if turned in (3, 4, 7, 8) else square
    return square[:, ::-1] if turned in (2, 3, 6, 7) else square


def _square_of(image: Image.Image, left: int, top: int, side: int, channels: int) -> np.ndarray[Any, Any]:
    """A part of the image in 8 bits, as (S, S, channels) or (S, S). Of a large one not all is converted at once: on the way
    it may be several times as large."""
    rows = max(1, STRIP // side)

    def part(start: int) -> np.ndarray[Any, Any]:
        box = (left, start, left + side, min(top + side, start + rows))
        strip = image if box == (0, 0, *image.size) else image.crop(box)
        return np.asarray(_eight_bit(strip, channels) if channels in (1, 3) else strip)

    first = part(top)
    if len(first) == side:
        return first
    square = np.empty((side, *first.shape[1:]), first.dtype)
    square[: len(first)] = first
    for start in range(top + rows, top + side, rows):
        square[start - top : start - top + rows] = part(start)
    return square


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
