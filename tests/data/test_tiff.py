"""TIFF files: pages, planes and channels as the tags say, values as they are stored."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from command import ONE, ok
from PIL import Image

from unlabeled.data import open_data
from unlabeled.data.kinds import stored
from unlabeled.data.kinds.image import ImageKind
from unlabeled.data.kinds.pixels import open_image, to_pixels, whole, whole_weight
from unlabeled.data.kinds.stored import Stored
from unlabeled.probes.paired import unpacked
from unlabeled.registry import Choice

from .pictures import noise

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 4096, (12, 12, 3)).astype(np.uint16)


def tiff(array: np.ndarray, **how: Any) -> Stored:
    """Written by tifffile, and opened by us."""
    file = io.BytesIO()
    tifffile.imwrite(file, array, **how)
    opened = open_image(file.getvalue())
    assert isinstance(opened, Stored)
    return opened


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "lzw", "predictor": 2}, {"tile": (16, 16)}])
@pytest.mark.parametrize("plane", ["contig", "separate"])
def test_values_are_those_that_were_written(plane: str, how: dict[str, Any]) -> None:
    """Of planar files of 16 bits Pillow 13 makes half of the picture from bytes."""
    array = DEEP if plane == "contig" else DEEP.transpose(2, 0, 1)
    opened = tiff(array, photometric="rgb", planarconfig=plane, **how)
    assert (opened.height, opened.width, opened.channels, opened.type) == (12, 12, 3, "uint16")
    assert np.array_equal(opened.values(), DEEP)


def test_white_that_is_zero() -> None:
    """Pillow 13 gives a picture of 16 bits as its negative."""
    grey = np.zeros((8, 8), np.uint16)
    grey[:4] = 65535
    pixels = to_pixels(tiff(grey, photometric="miniswhite"), 1, 8)
    assert (pixels[0, :4] == 0).all()
    assert (pixels[0, 4:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "F"])
def test_what_pillow_writes_and_reads_well_is_the_same(mode: str) -> None:
    picture = Image.fromarray(noise(3))
    if mode in ("I;16", "F"):
        values = noise(3, channels=1)
        picture = Image.fromarray(values.astype(np.uint16) * 257 if mode == "I;16" else values.astype(np.float32) / 255)
    else:
        picture = picture.convert("RGBA" if mode == "LA" else "RGB").convert(mode)
    file = io.BytesIO()
    picture.save(file, "TIFF")
    ours = to_pixels(open_image(file.getvalue()), 3, 16)
    assert np.array_equal(ours, to_pixels(Image.open(io.BytesIO(file.getvalue())), 3, 16))


def test_planes_pages_and_channels_are_told_apart() -> None:
    many = RNG.integers(0, 256, (5, 32, 40)).astype(np.uint8)
    pages = tiff(many)  # pages of one channel each, as tifffile writes an array
    assert (pages.pages, pages.channels) == (5, 1)
    assert np.array_equal(pages.page(3).values()[:, :, 0], many[3])
    assert np.array_equal(pages.stacked().values(), many.transpose(1, 2, 0))
    planes = tiff(many, photometric="minisblack", planarconfig="separate")
    assert (planes.pages, planes.channels) == (1, 5)
    assert np.array_equal(planes.values(), many.transpose(1, 2, 0))
    named = tiff(many, imagej=True, metadata={"axes": "CYX"})
    assert (named.pages, named.channels) == (1, 5)
    assert "axis C (5) is read as channels" in named.said
    last = tiff(many.transpose(1, 2, 0))
    assert (last.pages, last.channels, last.height, last.width) == (1, 5, 32, 40)
    assert np.array_equal(last.values(), many.transpose(1, 2, 0))
    hyper = RNG.integers(0, 4096, (4, 3, 16, 20)).astype(np.uint16)
    stack = tiff(hyper, imagej=True, metadata={"axes": "ZCYX"})
    assert (stack.pages, stack.channels) == (4, 3)
    assert np.array_equal(stack.page(2).values(), hyper[2].transpose(1, 2, 0))


@pytest.mark.filterwarnings("ignore:.*data with shape:DeprecationWarning")
@pytest.mark.parametrize("count", [3, 4])
def test_slices_that_the_tags_call_colours_are_said_and_can_be_had(count: int) -> None:
    """tifffile writes 3 planes as a colour picture and 4 as one with transparency, which Pillow flattens on white."""
    many = RNG.integers(0, 256, (count, 16, 16)).astype(np.uint8)
    opened = tiff(many)
    assert np.array_equal(opened.values(), many.transpose(1, 2, 0))
    assert "which the tags call red, green" in opened.said
    kind = ImageKind(pages="all")
    assert kind.parts(opened) == count
    assert np.array_equal(to_pixels(kind.part(opened, 2, lambda: many), 1, 16)[0], many[2])


def test_a_turned_file_is_upright() -> None:
    file = io.BytesIO()
    tifffile.imwrite(file, noise(0, (8, 12)), extratags=[(274, "H", 1, 6, True)])
    opened = open_image(file.getvalue())
    assert (opened.height, opened.width) == (12, 8)
    assert np.array_equal(opened.values(), np.rot90(noise(0, (8, 12)), -1))


def test_a_slide_is_read_at_the_size_that_will_do(tmp_path: Path) -> None:
    """Stored in several sizes, as slides are: of the smaller ones the first that is large enough."""
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(np.zeros((256, 256, 3), np.uint8), subifds=2, photometric="rgb")
        file.write(np.full((128, 128, 3), 100, np.uint8), subfiletype=1, photometric="rgb")
        file.write(np.full((64, 64, 3), 200, np.uint8), subfiletype=1, photometric="rgb")
    opened = open_image(tmp_path / "slide.tif")
    assert [opened.values(side).shape[0] for side in (256, 90, 48, 8)] == [256, 128, 64, 64]
    assert opened.bytes(48) * 16 == opened.bytes(256)


@pytest.mark.parametrize("inside", [True, False])
def test_a_slide_in_jpeg_is_read_at_the_size_that_will_do_and_cut_from_the_full_one(inside: bool, tmp_path: Path) -> None:
    """As scanners write them: YCbCr in JPEG, the smaller sizes in the full one's directory or after it."""
    picture = np.kron(RNG.integers(40, 216, (8, 12, 3), dtype=np.uint8), np.ones((32, 32, 1), np.uint8))
    how: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "tile": (64, 64)}
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(picture, **how, **({"subifds": 2} if inside else {}))
        file.write(picture[::2, ::2], subfiletype=1, **how)
        file.write(picture[::4, ::4], subfiletype=1, **how)
    with tifffile.TiffFile(tmp_path / "slide.tif") as made:
        assert made.series[0].keyframe.photometric == tifffile.PHOTOMETRIC.YCBCR
    opened = open_image(tmp_path / "slide.tif")
    assert isinstance(opened, Stored) and opened.pages == 1 and opened.colour
    assert [opened.values(side).shape[0] for side in (256, 90, 48)] == [256, 128, 64]
    assert np.abs(opened.values() - picture.astype(int)).mean() < 6
    tiles = open_data(tmp_path, kind=Choice("image", {"tiles": 64}), seed=None).train
    assert len(tiles) == 4 * 6
    assert np.abs(tiles.seen([0])[0].permute(1, 2, 0).numpy().astype(int) - picture[:64, :64]).mean() < 6


def test_of_several_series_the_first_is_read_and_said(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "slide.tif") as file:
        file.write(DEEP, photometric="rgb")
        file.write(np.zeros((5, 9), np.uint8), photometric="minisblack")
    opened = open_image(tmp_path / "slide.tif")
    assert isinstance(opened, Stored)
    assert np.array_equal(opened.values(), DEEP)
    assert opened.said == "TIFF of 2 series is read as the first of them, such as the slide without its label"


@pytest.mark.parametrize("how", [{}, {"compression": "zlib", "tile": (16, 16)}, {"byteorder": ">"}])
def test_a_large_page_is_read_in_strips(how: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of blocks of 4×4, of a file on disk; the whole without room for it."""
    array = RNG.integers(0, 4096, (67, 66, 3)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "x.tif", array, photometric="rgb", **how)
    monkeypatch.setattr(stored, "MAX_PIXELS", 1000)
    monkeypatch.setattr("unlabeled.data.kinds.tiff.MAX_PIXELS", 1000)
    monkeypatch.setattr(stored, "STRIP", 500)
    opened = open_image(tmp_path / "x.tif")
    assert isinstance(opened, Stored)
    means = array[1:65, 1:65].reshape(16, 4, 16, 4, 3).mean((1, 3))
    assert np.array_equal(opened.values(12), np.rint(means))
    assert np.array_equal(whole(opened), array)
    assert whole_weight(opened) == 0
    assert whole_weight(opened.stacked()) == 0


def test_pages_are_read_as_asked_and_said(tmp_path: Path) -> None:
    for i in range(4):
        tifffile.imwrite(tmp_path / f"{i}.tif", noise(i, (16, 16), 7).transpose(2, 0, 1))
    first = open_data(tmp_path, seed=None)
    assert len(first.train) == 4
    assert "4 of the 4 files looked at have several pages, up to 7, of which the first is read; --pages all" in " ".join(
        first.remarks()
    )
    every = open_data(tmp_path, kind=Choice("", {"pages": "all"}), seed=None).train
    assert len(every) == 28
    assert every.notices[-1] == "4 files hold 28 pages, each of them a sample."
    assert every.path(9).endswith("1.tif[page 2]")
    assert np.array_equal(every.seen([9])[0, 0].numpy(), noise(1, (16, 16), 7)[:, :, 2])
    assert every.columns["page"].tolist()[:8] == [0, 1, 2, 3, 4, 5, 6, 0]
    stacked = open_data(tmp_path, kind=Choice("", {"pages": "channels"}), seed=None)
    assert stacked.train.channels == 7
    assert "pages" not in " ".join(stacked.remarks())
    assert np.array_equal(stacked.train.seen([2])[0].numpy(), noise(2, (16, 16), 7).transpose(2, 0, 1))


def test_of_two_splits_each_says_how_many_pages_it_holds(tmp_path: Path) -> None:
    for split, files, pages in (("train", 4, 7), ("test", 3, 1)):
        (tmp_path / split).mkdir()
        for i in range(files):
            tifffile.imwrite(tmp_path / split / f"{i}.tif", noise(i, (16, 16), 7).transpose(2, 0, 1)[:pages])
    data = open_data(tmp_path, kind=Choice("", {"pages": "all"}))
    assert [line for line in data.remarks() if "hold" in line] == ["4 files hold 28 pages, each of them a sample."]
    tifffile.imwrite(tmp_path / "test" / "0.tif", noise(0, (16, 16), 2).transpose(2, 0, 1))
    data = open_data(tmp_path, kind=Choice("", {"pages": "all"}))
    assert "3 files of the test split hold 4 pages, each of them a sample." in data.remarks()


def test_figures_of_pages_have_the_interval_of_files(tmp_path: Path) -> None:
    for i in range(40):
        bright = np.full((12, 16, 16), 60 + 120 * (i % 2), np.uint8) + noise(i, (12, 16), 16) // 8
        (tmp_path / "d" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / "d" / "ab"[i % 2] / f"{i}.tif", bright, photometric="minisblack")
    for pages, said in (("all", "intervals are of {n} clusters by file, whose samples are not independent"), ("first", "")):
        run = tmp_path / pages
        ok("pretrain", tmp_path / "d", *ONE, "--kind.pages", pages, "--out", run)
        shown = ok("evaluate", run, "--protocol", "knn:100%", "--against", "pixels")
        found = json.loads((run / "evaluation.json").read_text())["scores"]
        clusters = len({*unpacked(found[0]["clusters"])}) if found[0]["clusters"] else 0
        assert (said.format(n=clusters) in shown) if said else ("clusters by" not in shown)
        assert clusters == (found[0]["tested"] // 12 if said else 0)


def test_pages_of_a_file_are_held_out_together(tmp_path: Path) -> None:
    for i in range(12):
        tifffile.imwrite(tmp_path / f"{i}.tif", noise(i, (16, 16), 5).transpose(2, 0, 1))
    data = open_data(tmp_path, kind=Choice("", {"pages": "all"}))
    assert data.test is not None
    assert not set(data.train.columns["source"]) & set(data.test.columns["source"])


def test_frames_of_a_gif(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    for i in range(3):
        frames[0].save(tmp_path / f"{i}.gif", save_all=True, append_images=frames[1:])
    assert "several frames, up to 3" in " ".join(open_data(tmp_path, seed=None).remarks())
    every = open_data(tmp_path, kind=Choice("", {"pages": "all"}), seed=None).train
    assert every.seen([0, 1, 2])[:, :, 0, 0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_a_truncated_file_is_a_bad_image(tmp_path: Path) -> None:
    for i in range(20):
        tifffile.imwrite(tmp_path / f"{i}.tif", noise(i, (32, 32)))
    (tmp_path / "7.tif").write_bytes((tmp_path / "7.tif").read_bytes()[:1000])
    assert [Path(one.path).name for one in open_data(tmp_path, seed=None).train.skipped] == ["7.tif"]
