"""Values of more than 8 bits: their range is measured over the set, or given, and said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from unlabeled.data import Data, open_data
from unlabeled.data.kinds.pixels import open_image, to_pixels
from unlabeled.data.kinds.values import Values, as_bytes, spelled
from unlabeled.errors import UserError
from unlabeled.recipe import Recipe
from unlabeled.registry import Choice
from unlabeled.training.setup import resolved

RNG = np.random.default_rng(0)


def opened(data: Any, **options: Any) -> Data:
    return open_data(data, kind=Choice("", options), seed=None)


def measured(*pictures: np.ndarray, asked: str | None = None) -> str:
    values = Values()
    for picture in pictures:
        values.add(picture)
    return values.range(asked)


@pytest.mark.parametrize(("bits", "white"), [(8, 255), (10, 1023), (12, 4095), (14, 16383), (16, 65535)])
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_the_bits_that_are_used_are_the_range(bits: int, white: int, kind: type) -> None:
    picture = RNG.integers(0, 2**bits, (64, 64, 1)).astype(kind)
    assert measured(picture) == f"0,{white}"
    assert as_bytes(picture, f"0,{white}").max() == 255


def test_other_values_have_the_range_that_they_take_up() -> None:
    assert measured(np.array([[[-100.0], [600.0]]])) == "-100,600"
    assert measured(np.array([[[10]], [[110]]], np.uint16)) == "10,110"
    assert measured(np.array([[[0.1], [0.9]]])) == "0,1"


def test_each_channel_has_one_range_for_the_whole_set() -> None:
    dim, bright = np.zeros((8, 8, 2), np.uint16), np.zeros((8, 8, 2), np.uint16)
    dim[0, 0], bright[0, 0] = (50, 20_000), (90, 60_000)
    assert measured(dim, bright) == "0,90,0,65535"
    assert as_bytes(bright, "0,90,0,65535")[0, 0].tolist() == [255, 233]
    assert as_bytes(dim, "0,90,0,65535")[0, 0].tolist() == [142, 78]


def test_percentages_leave_out_what_is_rare() -> None:
    picture = np.arange(1000, dtype=np.uint16).reshape(25, 40, 1)
    picture[0, 0] = 60_000  # a hot pixel
    low, high = map(float, measured(picture, asked="1%,99%").split(","))
    assert 5 < low < 20
    assert 980 < high < 1000


def test_what_lies_outside_is_clipped_and_bytes_stay() -> None:
    assert as_bytes(np.array([[[-5], [0], [50], [100], [200]]]), "0,100").ravel().tolist() == [0, 0, 128, 255, 255]
    assert as_bytes(np.array([[[0], [200]]], np.uint8), "0,4095").ravel().tolist() == [0, 200]


@pytest.mark.parametrize("wrong", ["5", "9,1", "a,b", "0,1,2", "99%,1%", "1%,120%"])
def test_what_is_no_range_is_refused(wrong: str) -> None:
    with pytest.raises(UserError, match="give the values that become black and white"):
        opened(np.zeros((4, 8, 8), np.uint16), range=wrong)


def test_pictures_of_10_bits_keep_what_they_show(tmp_path: Path) -> None:
    """Divided by 257, classes at 20 and 100 would be one."""
    for i in range(20):
        level = 20 if i < 10 else 100
        picture = (level + RNG.integers(-10, 11, (16, 16))).astype(np.uint16)
        folder = tmp_path / ("dim" if i < 10 else "bright")
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / f"{i}.png")
    data = opened(tmp_path)
    said = " ".join(data.remarks())
    assert "Values are uint16, and the range that becomes black and white is 10 to 110" in said
    assert "measured over 20 of 20 images; --range LOW,HIGH or --range 1%,99% sets another" in said
    means = data.train.seen(np.arange(20)).float().mean((1, 2, 3))
    assert means[:10].min() > means[10:].max() + 150  # bright comes first
    given = opened(tmp_path, range="0,1023").train
    assert given.seen(np.arange(20)).max() <= 28


def test_real_numbers_beyond_1_are_measured(tmp_path: Path) -> None:
    """As of computed tomography."""
    for i in range(10):
        tifffile.imwrite(tmp_path / f"{i}.tif", RNG.uniform(-100, 600, (16, 16)).astype(np.float32))
    data = opened(tmp_path)
    pixels = data.train.seen(np.arange(10))
    assert pixels.min() == 0
    assert pixels.max() == 255
    assert abs(float(pixels.float().mean()) - 127.5) < 5
    assert "Values are float32" in " ".join(data.remarks())


def test_a_run_keeps_the_range_for_other_data() -> None:
    """Of its recipe, by which other images are decoded as those that it was trained on were."""
    train = opened(RNG.integers(0, 1024, (8, 16, 16)).astype(np.uint16)).train
    kind = resolved(Recipe(), train).kind
    assert kind.options["range"] == "0,1023"
    dim = open_data(np.full((4, 16, 16), 100, np.uint16), kind=kind, seed=None).train
    assert dim.seen([0]).unique().tolist() == [25]
    plain = opened(np.zeros((8, 16, 16), np.uint8)).train
    assert resolved(Recipe(), plain).kind.options["range"] is None


def test_bytes_in_a_range_of_more_bits_and_colours_made_grey_are_told() -> None:
    train = opened(RNG.integers(0, 1024, (8, 16, 16)).astype(np.uint16)).train
    kind = resolved(Recipe(), train).kind
    other = open_data(RNG.integers(0, 256, (4, 16, 16, 3), np.uint8), kind=kind, channels=1, seed=None)
    said = " ".join(other.remarks())
    assert "Values are bytes, 0 black and 255 white: the range 0,1023 is for numbers of more bits." in said
    assert "Images have 3 channels, and the encoder takes 1: they are made grey." in said
    grey = open_data(RNG.integers(0, 256, (4, 16, 16), np.uint8), channels=3, seed=None)
    assert "Images have 1 channel, and the encoder takes 3: they are made colour, alike in each channel." in grey.remarks()
    assert not open_data(RNG.integers(0, 256, (4, 16, 16), np.uint8), channels=1, seed=None).remarks()


def test_a_png_of_16_bits_in_colour_keeps_them(tmp_path: Path) -> None:
    """Pillow 13 drops the lower 8 bits."""
    import imagecodecs

    deep = RNG.integers(0, 1024, (16, 16, 3)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    pixels = to_pixels(open_image(tmp_path / "a.png"), 3, 16, values="0,1023")
    assert np.abs(pixels.transpose(1, 2, 0) - deep.astype(float) * 255 / 1023).max() <= 0.5


def test_the_test_split_has_the_range_of_the_training_split() -> None:
    train = RNG.integers(0, 4096, (10, 16, 16)).astype(np.uint16)
    data = open_data({"x_train": train, "x_test": train // 4}, seed=None)
    assert data.test is not None
    assert 60 <= int(data.test.seen(np.arange(10)).max()) <= 64


def test_message_of_many_bad_files_names_three(tmp_path: Path) -> None:
    for i in range(75):
        tifffile.imwrite(tmp_path / f"{i}.tif", np.full((8, 8), np.nan, np.float32))
    with pytest.raises(UserError) as caught:
        opened(tmp_path)
    message = str(caught.value)
    assert len(message) < 1000
    assert " more. Repair or remove them" in message
    assert message.count(".tif") == 3


def test_spelling_of_ranges() -> None:
    assert spelled([(0.0, 1.0), (0.0, 1.0)]) == "0,1"
    assert spelled([(0.0, 1.0), (5.0, 5.0)]) == "0,1,5,6"
