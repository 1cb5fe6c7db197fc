"""Memory that threads take to decode: bounded, whatever headers promise."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from unlabeled.data.kinds import pixels as images
from unlabeled.data.kinds.pixels import open_image, to_pixels, weight
from unlabeled.data.kinds.stored import BadImageError
from unlabeled.data.room import Room

from .pictures import noise


def test_no_more_is_held_than_there_is_and_all_get_their_turn() -> None:
    room, held, most, lock = Room(100), [0], [0], threading.Lock()

    def take(count: int) -> None:
        with room.hold(count):
            with lock:
                held[0] += min(count, 100)
                most[0] = max(most[0], held[0])
            time.sleep(0.002)
            with lock:
                held[0] -= min(count, 100)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(take, [30, 30, 30, 250, 100, 1, 0, 60, 60] * 5))
    assert 60 < most[0] <= 100


def test_what_is_raised_inside_gives_the_room_back() -> None:
    room = Room(10)
    for _ in range(3):
        with pytest.raises(KeyError), room.hold(10):
            raise KeyError
    with room.hold(10):
        pass


MODES = {
    "RGB": lambda rgb: Image.fromarray(rgb),
    "L": lambda rgb: Image.fromarray(rgb).convert("L"),
    "1": lambda rgb: Image.fromarray(rgb).convert("1"),
    "P": lambda rgb: Image.fromarray(rgb).convert("P"),
    "CMYK": lambda rgb: Image.fromarray(rgb).convert("CMYK"),
    "LA": lambda rgb: Image.fromarray(np.dstack([rgb, rgb[..., :1]])).convert("LA"),
    "RGBA": lambda rgb: Image.fromarray(np.dstack([rgb, rgb[..., :1]])),
    "I;16": lambda rgb: Image.fromarray(rgb[..., 0].astype(np.uint16) * 200),
    "F": lambda rgb: Image.fromarray(rgb[..., 0].astype(np.float32) / 255),
}


@pytest.mark.parametrize("mode", MODES)
def test_an_image_in_strips_has_the_bits_of_one_that_is_converted_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside Pillow's own turning by Exif, in all eight orientations, of pictures that are wide, and high."""
    for size in ((37, 52), (53, 38)):
        for turned in range(1, 9):
            picture = MODES[mode](noise(turned, size))
            exif = Image.Exif()
            exif[0x0112] = turned
            picture.info["exif"] = exif.tobytes()
            for channels in (1, 3):
                upright = np.asarray(images._eight_bit(ImageOps.exif_transpose(picture), channels))
                upright = upright if channels == 3 else upright[:, :, None]
                side = min(size)
                top, left = ((length - side) // 2 for length in upright.shape[:2])
                central = upright[top : top + side, left : left + side].transpose(2, 0, 1)
                for strip in (64, 5 * 37, 1 << 22):
                    monkeypatch.setattr(images, "STRIP", strip)
                    assert np.array_equal(to_pixels(picture.copy(), channels, side), central)


PEAK = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import torch
from unlabeled.data.kinds.image import ImageKind
from unlabeled.data.kinds.pixels import open_image
from unlabeled.data.kinds.kind import Form

def status(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key)) << 10

torch.set_num_threads(1)
form = Form({"image": ("uint8", (3, 64, 64))}, 3, 64, (1, 1))
small, *large = sys.argv[1:]
ImageKind().decode(open_image(Path(small)), form)
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
with ThreadPoolExecutor(16) as pool:
    for _ in pool.map(lambda path: ImageKind().decode(open_image(Path(path)), form), large):
        pass
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure memory")
def test_sixteen_threads_of_hostile_images_take_a_gibibyte(tmp_path: Path) -> None:
    """89 million pixels by the header, of the forms that take most; small files, as most of the pictures is not there."""
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    side = 9_400
    for name, mode in (("a.png", "RGBA"), ("b.png", "LA"), ("c.png", "P")):
        Image.new(mode, (side, side)).save(tmp_path / name, compress_level=1)
    Image.new("RGB", (4_000, 4_000)).save(tmp_path / "d.webp")
    names = [tmp_path / name for name in ("a.png", "b.png", "c.png", "d.webp")] * 2
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "small.png", *names], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) < 1 << 30


def test_what_would_take_more_than_there_is_room_for_is_refused_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = io.BytesIO()
    Image.fromarray(noise(0, (64, 64))).save(encoded, "JPEG2000")
    monkeypatch.setattr(images, "DECODING", weight(open_image(encoded.getvalue()), 1) - 1)
    with pytest.raises(BadImageError, match=r"64x64 pixels of JPEG2000 take 0 MiB to decode, more than .*: make it smaller"):
        open_image(encoded.getvalue())


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_is_decoded_at_a_reduced_size_takes_less(progressive: bool) -> None:
    encoded = io.BytesIO()
    Image.fromarray(noise(0, (512, 512))).save(encoded, "JPEG", progressive=progressive)
    raw = open_image(encoded.getvalue())
    kept = 6 * 512 * 512 * progressive
    assert weight(raw, 512) == kept + 8 * 512 * 512
    assert weight(raw, 48) == kept + 8 * 64 * 64


def test_files_too_large_to_be_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow reads those of some formats by parts; others are refused."""
    monkeypatch.setattr(images, "RAW", 100)
    for name in ("a.png", "a.tif", "a.bmp"):
        Image.fromarray(noise()).save(tmp_path / name)
        assert np.array_equal(to_pixels(open_image(tmp_path / name), 3, 16), noise().transpose(2, 0, 1))
    for name in ("a.jpg", "a.webp"):
        Image.fromarray(noise()).save(tmp_path / name)
        with pytest.raises(BadImageError, match="a file of more than 0 MiB: make it smaller"):
            open_image(tmp_path / name)
