"""Views by compiled loops on a processor are those of the batched operations, which have oracles of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from unlabeled.batch import DataShape
from unlabeled.views import compiled
from unlabeled.views.resample import blur_radius
from unlabeled.views.view import RATIO, Parameters, View, of

ROOT = Path(__file__).parents[2]
CROP = {"scale": (0.08, 1.0), "ratio": RATIO, "mirror": 0.5}
COLOURS = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.2, "grey": 0.2}
KINDS: dict[str, dict[str, object]] = {
    "resized": {},
    "crop": CROP,
    "small crops": {**CROP, "scale": (0.01, 0.05)},
    "shifted beyond the border": {"pad": 0.6, "mirror": 0.5, "flip": 0.5},
    "blurred": {**CROP, "blur": 0.5},
    "all blurred, barely or strongly": {"blur": 1.0, "sigma": (0.0, 9.0)},
    "light": {**CROP, "brightness": 0.8, "contrast": 0.8},
    "everything": {**CROP, **COLOURS, "flip": 0.5, "turn": 0.5, "blur": 0.5, "solarise": 0.5, "cutout": 0.3, "pad": 0.2},
}
SIZES = [(32, 32), (256, 96), (61, 224), (40, 41), (7, 3), (1, 5), (9, 1)]
CASES = [
    (kind, *size, channels)
    for kind in KINDS
    for size in SIZES
    for channels in (1, 3, 5)
    if (kind != "resized" or size[0] != size[1]) and (channels == 3 or max(size) < 60)
]


def images(count: int, channels: int, side: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(side)
    return torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, generator=generator)


def planned(view: View, count: int, channels: int, side: int) -> Parameters:
    return view.plan(view.draw(count, side, torch.Generator().manual_seed(1)), side, channels)


def batched(view: View, x: torch.Tensor, plan: Parameters) -> torch.Tensor:
    """As a GPU does it."""
    return view.finish(view.resample(x, plan), plan)


@pytest.mark.parametrize(("kind", "side", "size", "channels"), CASES)
def test_they_are_the_batched_ones_to_within_rounding(kind: str, side: int, size: int, channels: int) -> None:
    shape = DataShape(9, channels, size, 10, frozenset({"mirror", "flip", "rotation", "colour", "intensity"}))
    view = View(size, **KINDS[kind]).within(shape)
    x, plan = images(9, channels, side), planned(view, 9, channels, side)
    assert "top" in plan
    for pixels in (x, x.float() / 255):
        kept = pixels.clone()
        made = view.apply(pixels, plan)
        expected = batched(view, pixels, plan)
        assert torch.equal(pixels, kept)
        near = (expected - 0.5).abs() < 1e-4 if "threshold" in plan else torch.zeros_like(expected, dtype=torch.bool)
        torch.testing.assert_close(made[~near], expected[~near], atol=4e-6, rtol=0)  # solarising jumps at a half


def test_a_sample_is_the_same_bits_alone_in_a_batch_in_place_and_on_any_number_of_threads() -> None:
    view = View(64, blur=0.5, **CROP, **COLOURS)
    x, plan = images(40, 3, 80), planned(view, 40, 3, 80)
    made = view.apply(x, plan)
    assert made.numel() > 2 * compiled.ALONE
    out = torch.full((40, 3, 64, 64), 7.0)
    assert view.apply(x, plan, out) is out
    assert torch.equal(out, made)
    for i in (0, 17, 39):
        assert torch.equal(view.apply(x[i : i + 1], of(plan, slice(i, i + 1))), made[i : i + 1])
    threads = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert torch.equal(view.apply(x, plan), made)
    finally:
        torch.set_num_threads(threads)


def test_an_image_that_lies_otherwise_in_memory_gives_the_same() -> None:
    view = View(16, **CROP)
    x, plan = images(4, 3, 20), planned(view, 4, 3, 20)
    assert torch.equal(view.apply(x.contiguous(memory_format=torch.channels_last), plan), view.apply(x, plan))


def test_what_changes_nothing_gives_the_picture_exactly() -> None:
    x = images(5, 3, 24)
    whole = View(24, mirror=1e-9).within(DataShape(5, 3, 24, 10, frozenset({"mirror"})))
    assert torch.equal(whole.apply(x, planned(whole, 5, 3, 24)), x.float() / 255)


def test_no_batch_is_no_view() -> None:
    view = View(8, **CROP)
    assert view.apply(images(0, 3, 16), planned(view, 0, 3, 16)).shape == (0, 3, 8, 8)


def test_a_single_pixel_is_not_blurred() -> None:
    assert [blur_radius(side) for side in (1, 2, 32, 96, 224)] == [0, 1, 1, 4, 11]


def test_what_does_not_belong_together_is_refused_before_a_pixel_is_read() -> None:
    view = View(8, **CROP)
    x, plan = images(4, 3, 16), planned(view, 4, 3, 16)
    out = torch.empty(4, 3, 8, 8)
    for wrong in (x[:, :, :12], x[:3], x.double(), x.to(torch.int16)):
        with pytest.raises(ValueError, match="planned for"):
            compiled.view(wrong, plan, out)
    for other in (torch.empty(4, 3, 9, 8), torch.empty(4, 3, 8, 8).mT, torch.empty(4, 3, 8, 8).double(), out[:3]):
        with pytest.raises(ValueError, match="cannot be written"):
            compiled.view(x, plan, other)


CHECK = """
from tests.views.test_compiled import CASES, compiled, test_they_are_the_batched_ones_to_within_rounding as check
for case in CASES:
    check(*case)
print(type(compiled._compiled._cache).__name__)
"""


def test_no_index_leaves_its_array_and_it_works_where_nothing_can_be_kept(tmp_path: Path) -> None:
    """In a process of its own, which finds nothing compiled: one compilation for both."""
    given = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_LOCATOR_CLASSES": "ZipCacheLocator", "NUMBA_OPT": "1"}
    given["NUMBA_CACHE_DIR"] = str(tmp_path)
    made = subprocess.run([sys.executable, "-c", CHECK], env=given, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (made.returncode, made.stdout.strip()) == (0, "NullCache"), made.stderr
