"""Pictures that are not square, that are too large, or whose channels come first."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from unlabeled.data import Data, open_data
from unlabeled.data.formats.arrays import channels_last
from unlabeled.data.kinds import jpeg
from unlabeled.data.kinds.jpeg import Jpeg
from unlabeled.data.kinds.pixels import native_size, open_image, to_pixels
from unlabeled.errors import UserError
from unlabeled.inspecting.census import take
from unlabeled.inspecting.duplicates import Thumbnails
from unlabeled.inspecting.leakage import find
from unlabeled.registry import Choice

from .pictures import encoded, noise, write


def opened(data: Any, **options: Any) -> Data:
    return open_data(data, kind=Choice("", options), seed=None)


WIDE = np.zeros((8, 32, 3), np.uint8)
WIDE[:, :16], WIDE[:, 16:] = (200, 0, 0), (0, 0, 200)


@pytest.mark.parametrize("form", ["PNG", "array"])
def test_a_wide_picture_is_cropped_padded_or_stretched(form: str) -> None:
    raw = WIDE if form == "array" else open_image(encoded(WIDE))
    cropped, padded, stretched = (to_pixels(raw, 3, 16, fit).astype(int) for fit in ("crop", "pad", "stretch"))
    assert cropped[:, 8, 0].tolist() == [200, 0, 0]
    assert stretched[:, 0, 0].tolist() == [200, 0, 0]
    assert stretched[:, 15, 15].tolist() == [0, 0, 200]
    assert (padded[:, :6] == 0).all()
    assert (padded[:, 10:] == 0).all()
    assert padded[:, 8, 0].tolist() == [200, 0, 0]
    assert padded[:, 8, 15].tolist() == [0, 0, 200]


@pytest.mark.parametrize(("shape", "fit", "said"), [
    ((16, 16), "crop", ""), ((16, 17), "crop", "nothing of 6% of the median image"),
    ((24, 32), "crop", "only the central square is used, and views show nothing of 25% of the median image"),
    ((16, 64), "stretch", "far from square (16×64): each is squashed to one, whole; --fit pad"),
])  # fmt: skip
def test_what_becomes_of_pictures_follows_from_their_shape_and_is_said(shape: tuple[int, int], fit: str, said: str) -> None:
    data = opened(np.stack([noise(i, shape) for i in range(6)]))
    assert data.train.form.fit == fit
    assert said in " ".join(data.remarks())
    assert bool(said) == bool(data.remarks())


def test_nothing_of_0_percent_is_not_said(tmp_path: Path) -> None:
    for i in range(6):
        Image.fromarray(noise(i, (16, 16 + 4 * (i == 0)))).save(tmp_path / f"{i}.png")
    assert open_data(tmp_path, seed=None).remarks() == [
        "Not all images are square: only the central square is used; --fit pad or --fit stretch uses all of them."
    ]


def test_what_is_asked_for_is_done_and_kept() -> None:
    data = opened(np.stack([noise(i, (16, 64)) for i in range(6)]), fit="pad")
    assert not data.remarks()
    assert data.train.size == 64
    assert data.train.kind.resolved(data.train.form).options["fit"] == "pad"


@pytest.mark.parametrize(("shape", "options", "word"), [
    ((16, 16), {}, "original"), ((96, 96), {}, "original"), ((16, 20), {}, "central square"), ((16, 60), {}, "squashed"),
    ((16, 60), {"fit": "pad"}, "padded"), ((96, 96), {"size": 32}, "resized"),
])  # fmt: skip
def test_only_what_is_as_it_was_is_called_original(shape: tuple[int, int], options: dict[str, Any], word: str) -> None:
    assert opened(np.zeros((6, *shape, 3), np.uint8), **options).train.form.shown == word


def test_strips_that_differ_outside_their_central_square_are_no_copies(tmp_path: Path) -> None:
    """Seen whole; of the central squares alone they would be."""
    middle = noise(99, (8, 8))
    for i in range(4):
        strip = noise(i, (8, 40))
        strip[:, 16:24] = middle
        write(tmp_path / f"{i}.png", strip)
    for fit, pairs in (("crop", 3), ("stretch", 0)):
        source = opened(tmp_path, fit=fit).train
        thumbnails = Thumbnails().fit([source.pictures(np.arange(4))])
        assert len(find({"all": take(source, thumbnails)}).pairs) == pairs


def test_colour_is_looked_for_in_the_whole_listing(tmp_path: Path) -> None:
    for i in range(80):
        grey = np.repeat(noise(i, (8, 8), 1)[:, :, None], 3, 2)
        write(tmp_path / "a" / f"{i:02d}.png", grey)
    write(tmp_path / "b" / "last.png", noise(0, (8, 8)))
    assert opened(tmp_path).train.channels == 3


def large(pixels: int = 1 << 12) -> bytes:
    picture = Image.fromarray(np.kron(noise(0, (8, 8)), np.ones((pixels // 8, pixels // 8, 1), np.uint8)))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=95)
    return file.getvalue()


def test_a_jpeg_too_large_for_memory_is_read_at_a_reduced_size(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = open_image(large(512))
    assert isinstance(raw, Jpeg)
    monkeypatch.setattr(jpeg, "DECODING", 8 * 512 * 512 // 16)
    assert raw.pixels(3, 512).shape == (128, 128, 3)
    assert raw.weight(512) == 8 * 512 * 512 // 16


def test_tiles_cover_the_whole_picture(tmp_path: Path) -> None:
    picture = noise(5, (40, 70))
    for name in ("a.png", "b.tif", "c.png"):
        write(tmp_path / name, picture if name != "c.png" else noise(6, (16, 10)))
    data = opened(tmp_path, tiles=32)
    source = data.train
    assert len(source) == 2 * 2 * 3 + 1  # the small one is a tile
    assert "3 files hold 13 tiles, each of them a sample." in data.remarks()
    assert source.path(5).endswith("a.png[tile 5]")
    assert source.path(12).endswith("c.png")
    tiles = opened(tmp_path, tiles=32, size=32).train.seen(np.arange(12)).numpy().transpose(0, 2, 3, 1)
    seen = np.zeros((40, 70), bool)
    for k in range(6):
        top, left = (0, 8)[k // 3], (0, 19, 38)[k % 3]
        seen[top : top + 32, left : left + 32] = True
        if source.size == 32:
            assert np.array_equal(tiles[k], picture[top : top + 32, left : left + 32])
        assert np.array_equal(tiles[k], tiles[k + 6])
    assert seen.all()


def test_a_file_is_decoded_once_for_all_its_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unlabeled.data.kinds import image

    for i in range(3):
        write(tmp_path / f"{i}.png", noise(i, (64, 64)))
    decoded: list[int] = []
    decode = image.whole
    monkeypatch.setattr(image, "whole", lambda raw: decoded.append(1) or decode(raw))
    source = opened(tmp_path, tiles=16).train
    decoded.clear()
    source.fetch(np.arange(len(source)))
    assert len(source) == 48
    assert len(decoded) <= 6  # by each of two threads


def test_tiles_and_pages_are_not_both_had() -> None:
    with pytest.raises(UserError, match="pages 'all' and tiles: give one of them"):
        opened(np.zeros((4, 32, 32), np.uint8), tiles=16, pages="all")


@pytest.mark.parametrize(("shape", "channels"), [
    ((13, 64, 64), 13), ((64, 64, 13), 13), ((13, 64, 80), 13), ((64, 80, 13), 13), ((64, 16, 16), 64), ((3, 4, 4), 3),
    ((1, 28, 28), 1), ((28, 28, 1), 1), ((4, 6, 3), 3), ((3, 6, 4), 3),
])  # fmt: skip
def test_channels_first_is_told_from_channels_last(shape: tuple[int, int, int], channels: int) -> None:
    array = np.zeros((5, *shape), np.uint8)
    assert channels_last(array).shape[-1] == channels
    assert opened(array).train.channels == channels
    assert opened([array[0], array[1]]).train.channels == channels
    assert opened(TensorDataset(torch.from_numpy(array))).train.channels == channels


def test_where_the_shape_does_not_tell_it_is_asked_for() -> None:
    cube = np.zeros((5, 8, 20, 8), np.uint8)
    with pytest.raises(UserError, match="are the channels first or last"):
        opened(cube)
    assert opened(cube, channels="first").train.native == (20, 8)
    assert opened(cube, channels="last").train.native == (8, 20)
    assert opened(torch.from_numpy(cube)).train.native == (20, 8)  # as is PyTorch's custom


def test_a_turned_jpeg_has_the_size_of_the_upright_picture() -> None:
    picture = Image.fromarray(noise(0, (32, 64)))
    exif = picture.getexif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif)
    raw = open_image(file.getvalue())
    assert native_size(raw) == (64, 32)
    assert isinstance(raw, Jpeg)
    assert raw.whole().shape == (64, 32, 3)
