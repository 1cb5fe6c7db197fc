"""PNG files of palettes, few bits or a transparent colour above Pillow's bound: converted strip by strip, and reduced."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unlabeled.data.kinds import frames, stored
from unlabeled.data.kinds.pixels import open_image, to_pixels, whole
from unlabeled.data.kinds.stored import Stored

RNG = np.random.default_rng(0)
KINDS: list[tuple[str, dict[str, Any]]] = [
    ("P", {}),
    ("P", {"transparency": 3}),
    ("P", {"transparency": bytes(range(256))}),
    ("1", {}),
    ("L", {"transparency": 7}),
    ("RGB", {"transparency": (9, 9, 9)}),
]


def encoded(mode: str, **how: Any) -> bytes:
    picture = Image.fromarray(RNG.integers(0, 16, (150, 210), dtype=np.uint8))
    if mode == "P":
        picture.putpalette(RNG.integers(0, 256, 768).astype(np.uint8).tobytes())
    picture = picture.point(lambda value: 255 * (value > 7)).convert("1") if mode == "1" else picture
    file = io.BytesIO()
    (picture.convert("RGB") if mode == "RGB" else picture).save(file, "PNG", **how)
    return file.getvalue()


@pytest.mark.parametrize(("mode", "how"), KINDS)
def test_the_pixels_are_those_of_a_small_one(mode: str, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(mode, **how)
    usual = open_image(data)
    assert isinstance(usual, Image.Image)
    expected = {size: to_pixels(open_image(data), 3, size) for size in (150, 15)}
    for module in (frames, stored):
        monkeypatch.setattr(module, "MAX_PIXELS", 1000)
    monkeypatch.setattr(frames, "STRIP", 5000)
    monkeypatch.setattr(stored, "STRIP", 5000)
    large = open_image(data)
    assert isinstance(large, Stored) and large.channels == (1 if mode in ("1", "L") else 3)
    np.testing.assert_array_equal(to_pixels(large, 3, 150), expected[150])
    assert large.values(15).shape[:2] == (150 // 7, 210 // 7)  # means of 7×7, and 1.4 times what is wanted
    assert np.abs(to_pixels(large, 3, 15).astype(int) - expected[15]).mean() < 12
    assert whole(large).shape == (150, 210, large.channels)


def test_one_above_the_bound_is_read_and_its_room_is_known() -> None:
    picture = Image.new("P", (9500, 9500), 1)
    picture.putpalette([0, 0, 0, 10, 200, 30])
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    raw = open_image(file.getvalue())
    assert isinstance(raw, Stored) and raw.bytes(64) < 300 << 20
    assert to_pixels(raw, 3, 64)[:, 5, 5].tolist() == [10, 200, 30]
