"""Every mode that Pillow reads becomes uint8 of the wanted shape, with the values that one expects."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageOps

from unlabeled.data.kinds import stored
from unlabeled.data.kinds.jpeg import Jpeg
from unlabeled.data.kinds.pixels import (
    MAX_PIXELS,
    native_channels,
    native_size,
    open_image,
    to_pixels,
)
from unlabeled.data.kinds.stored import BadImageError
from unlabeled.data.kinds.values import as_uint8

from .pictures import encoded, noise, write


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "F", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode(mode: str, channels: int) -> None:
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 257 * 90, np.uint16))
    elif mode == "F":
        image = Image.fromarray(np.full((8, 8), 0.5, np.float32))
    else:
        image = Image.new("RGB", (8, 8), (200, 100, 50)).convert("L" if mode == "I" else "RGB").convert(mode)
    pixels = to_pixels(image, channels, 8)
    assert pixels.shape == (channels, 8, 8)
    assert pixels.dtype == np.uint8
    if mode in ("RGB", "RGBA", "P", "CMYK") and channels == 3:
        assert np.abs(pixels[:, 4, 4].astype(int) - [200, 100, 50]).max() <= 6
    if mode == "I;16":
        assert (pixels == 90).all()
    if mode == "F":
        assert (pixels == 128).all()


def test_transparency_is_flattened_on_white() -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[:2, :, 3] = 255
    pixels = to_pixels(Image.fromarray(clear), 3, 4)
    assert (pixels[:, :2] == 0).all()
    assert (pixels[:, 2:] == 255).all()
    palette = Image.new("P", (4, 4), 0)
    palette.info["transparency"] = 0
    assert (to_pixels(palette, 3, 4) == 255).all()


def test_files_of_each_format(tmp_path: Path) -> None:
    for suffix in ("png", "jpg", "bmp", "gif", "webp", "tif", "ppm"):
        assert to_pixels(open_image(write(tmp_path / f"a.{suffix}")), 3, 16).shape == (3, 16, 16)
    cmyk = io.BytesIO()
    Image.new("CMYK", (32, 32), (0, 255, 255, 0)).save(cmyk, "JPEG")
    red = to_pixels(open_image(cmyk.getvalue()), 3, 32)[:, 5, 5]
    assert red[0] > 200
    assert red[1:].max() < 60


def test_a_16_bit_png() -> None:
    buffer = io.BytesIO()
    Image.fromarray((np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)).save(buffer, "PNG")
    assert np.array_equal(to_pixels(open_image(buffer.getvalue()), 1, 16).ravel(), np.arange(256))


def test_the_central_square_is_cut_and_resized() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = 255
    assert (to_pixels(Image.fromarray(wide), 3, 20) == 255).all()
    assert to_pixels(Image.fromarray(wide), 3, 10)[:, 5, 5].min() == 255
    same = to_pixels(wide, 3, 10)
    assert np.array_equal(same, to_pixels(Image.fromarray(wide), 3, 10))


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Uint8 (H, W, 3) with the spectrum of a photograph: amplitude falls with frequency to the power of 1.2."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = 1
    waves = np.exp(2j * np.pi * rng.random((3, *frequency.shape))) / frequency**1.2
    planes = np.fft.irfft2(waves, (height, width))
    planes = 0.8 * planes[:1] + 0.35 * planes
    return np.clip(120 + 50 * planes / planes.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def full(data: bytes, channels: int, size: int) -> np.ndarray:
    """The central square of the whole picture, as Pillow decodes it and resizes it without any short cut."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("L" if channels == 1 else "RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    array = np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))
    return (array[None] if array.ndim == 2 else array.transpose(2, 0, 1)).astype(int)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "size", "bound"),
    [
        (32, 32, 32, 0.1),  # as it is
        (96, 128, 74, 0.1),  # resized only
        (480, 640, 400, 0.1),
        (480, 640, 256, 1.0),  # its colour is not interpolated
        (480, 640, 128, 1.5),  # at half, a quarter and an eighth of its size
        (768, 512, 74, 1.5),
        (1024, 1024, 64, 1.5),
    ],
)
def test_a_jpeg_is_near_the_full_decoding_and_resizing(
    height: int, width: int, size: int, bound: float, channels: int
) -> None:
    data = encoded(photograph(height, width), "JPEG")
    difference = np.abs(to_pixels(open_image(data), channels, size) - full(data, channels, size))
    assert difference.mean() < bound  # grey values out of 255; bilinear and bicubic are 2 apart on such pictures
    assert difference.max() <= 16


@pytest.mark.parametrize(("height", "width", "size", "decoded"), [
    (1500, 2000, 256, (375, 500)), (375, 500, 256, (375, 500)), (375, 500, 128, (188, 250)), (375, 500, 16, (47, 63)),
    (32, 32, 32, (32, 32)), (32, 32, 64, (32, 32)),
])  # fmt: skip
def test_a_large_jpeg_is_decoded_at_a_reduced_size(height: int, width: int, size: int, decoded: tuple[int, int]) -> None:
    raw = open_image(encoded(np.zeros((height, width, 3), np.uint8), "JPEG"))
    assert isinstance(raw, Jpeg)
    assert native_size(raw) == (height, width)
    assert raw.pixels(3, size).shape == (*decoded, 3)
    assert raw.pixels(1, size).shape == (*decoded, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_turned_upright(orientation: int) -> None:
    image = Image.fromarray(photograph(64, 96))
    exif = image.getexif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    data = buffer.getvalue()
    first = b"\xff\xe5\x00\x06\xff\xda\x00\x00"  # another segment, in whose content a picture seems to begin; then a filler
    for each in (data, data[:2] + first + b"\xff" + data[2:]):
        assert np.abs(to_pixels(open_image(each), 3, 50) - full(each, 3, 50)).max() <= 2


def test_what_libjpeg_turbo_will_not_take_is_left_to_pillow() -> None:
    data = encoded(noise(0, (64, 64)), "JPEG")
    odd = data[:-2] + b"\0\0\0" + data[-2:]  # extraneous bytes before the end
    assert np.abs(to_pixels(open_image(odd), 3, 64) - full(data, 3, 64)).max() <= 2
    with pytest.raises(OSError, match="truncated"):
        to_pixels(open_image(data[:900]), 3, 64)
    height = data.index(b"\xff\xc0") + 5
    with pytest.raises(BadImageError, match="pixels by its header"):
        open_image(data[:height] + b"\xea\x60\xea\x60" + data[height + 4 :])


def test_exif_rotation_is_applied() -> None:
    image = Image.fromarray(np.concatenate([np.zeros((8, 16), np.uint8), np.full((8, 16), 255, np.uint8)]))
    exif = image.getexif()
    exif[0x0112] = 3  # upside down
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=exif)
    pixels = to_pixels(open_image(buffer.getvalue()), 1, 16)
    assert pixels[0, 0, 0] > 200
    assert pixels[0, 15, 0] < 50


def test_grey_is_seen_whatever_the_storage() -> None:
    grey = np.repeat(noise(1, channels=1)[:, :, None], 3, 2)
    assert native_channels(Image.fromarray(grey)) == 1
    assert native_channels(Image.fromarray(noise())) == 3
    assert native_channels(Image.fromarray(noise()).convert("P")) == 3
    assert native_channels(np.zeros((4, 4, 7), np.uint8)) == 7


def test_arrays_of_many_channels_are_resized_channel_by_channel() -> None:
    array = noise(3, (12, 12), 7)
    assert np.array_equal(to_pixels(array, 7, 12), array.transpose(2, 0, 1))
    assert to_pixels(array, 7, 6).shape == (7, 6, 6)
    with pytest.raises(BadImageError, match="7 channels"):
        to_pixels(array, 3, 12)


def test_values() -> None:
    assert as_uint8(np.array([0, 257, 65535], np.uint16)).tolist() == [0, 1, 255]
    assert as_uint8(np.array([0, 0.5, 1], np.float32)).tolist() == [0, 128, 255]
    assert as_uint8(np.array([False, True])).tolist() == [0, 255]
    for values, why in (([0.0, 2.0], "normalised"), ([np.nan], "NaN"), ([1], "int64")):
        wrong = np.array(values)
        with pytest.raises(BadImageError, match=why):
            as_uint8(wrong)


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises many pixels, and which has none."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [20_000, 60_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    assert side**2 > MAX_PIXELS
    with pytest.raises(BadImageError, match=r"pixels of uint8 take .* MiB to decode, more than 768"):
        open_image(bomb(side, side))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_large_png_is_read_in_means_of_blocks(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture = noise(0, (64, 72), channels).reshape(64, 72, channels)
    picture[..., -1] |= 255 * (channels % 2 == 0)  # opaque
    data = imagecodecs.png_encode(picture)
    before = to_pixels(open_image(data), 1 + 2 * (channels > 2), 64)
    monkeypatch.setattr(stored, "MAX_PIXELS", 1000)
    monkeypatch.setattr("unlabeled.data.kinds.frames.MAX_PIXELS", 1000)
    monkeypatch.setattr(stored, "STRIP", 500)
    opened = open_image(data)
    assert isinstance(opened, stored.Stored)
    shown = picture[..., : channels - (channels % 2 == 0)]
    assert np.array_equal(opened.values(24), np.rint(shown.reshape(32, 2, 36, 2, -1).mean((1, 3))))
    assert np.array_equal(to_pixels(opened, len(before), 64), before)


@pytest.mark.parametrize(("data", "why"), [(b"", "0 bytes"), (b"hello, I am text", "not an image")])
def test_what_is_no_image(data: bytes, why: str) -> None:
    with pytest.raises(BadImageError, match=why):
        open_image(data)
