"""PIRL's patches: where they come from, in which order, of which size, how they are lit; joined to a picture; and the sheet
that shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE, file, mistake, ok
from PIL import Image, ImageEnhance, ImageOps

from unlabeled.batch import DataShape
from unlabeled.errors import UserError
from unlabeled.run import Run
from unlabeled.views.policies.patches import Pirl
from unlabeled.views.policies.photographs import Distorted
from unlabeled.views.sheet import _mosaic, contact_sheet

STILL = {"patch_scale": (1.0, 1.0), "mirror": 0.0, "jitter": 0.0, "photometric": 0.0, "grey": 0.0}


def policy(size: int, **options: object) -> Pirl:
    return Pirl(DataShape(9, 3, size), **options)  # type: ignore[arg-type]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("size", "patch", "cell"), [(224, 64, 85), (96, 27, 36), (32, 9, 12), (24, 7, 9), (16, 5, 6), (8, 4, 4)]
)
def test_sizes(size: int, patch: int, cell: int) -> None:
    made = policy(size)
    assert (made.parts[1].size, made.cell) == (patch, cell)
    assert made.parts[0].size == size


def test_each_patch_shows_the_cell_that_the_permutation_names() -> None:
    """Red falls from left to right, green from top to bottom: a patch's mean says where it is from."""
    side = 90
    ramp = torch.arange(side, dtype=torch.uint8) * 2
    x = torch.stack([ramp.expand(side, side), ramp[:, None].expand(side, side), torch.zeros(side, side, dtype=torch.uint8)])
    (_, patches), targets = policy(side, **STILL)({"image": x.expand(200, -1, -1, -1)}, seeded())
    order = targets["permutation"]
    assert order.dtype == torch.int64
    assert torch.equal(order.sort(1).values, torch.arange(9).expand(200, 9))
    assert len({tuple(row) for row in order.tolist()}) > 190
    red, green = patches[:, :, 0].mean((2, 3)) * 255 / 2, patches[:, :, 1].mean((2, 3)) * 255 / 2  # centres, in pixels
    cell = side / 3
    assert torch.equal((red / cell).floor().long(), order % 3)
    assert torch.equal((green / cell).floor().long(), order // 3)
    places = red / cell % 1  # of a patch's centre within its cell
    half = policy(side).parts[1].size / policy(side).cell / 2
    assert half - 0.03 < float(places.min()) < half + 0.05
    assert 1 - half - 0.05 < float(places.max()) < 1 - half + 0.03


def test_a_patch_that_fills_its_cell_is_that_part_of_the_picture() -> None:
    x = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=seeded())
    (_, patches), targets = policy(8, **STILL, patch=4)({"image": x}, seeded())
    for b in range(6):
        for j, place in enumerate(targets["permutation"][b].tolist()):
            row, column = 4 * (place // 3), 4 * (place % 3)
            expected = x[b, :, row : row + 4, column : column + 4].float() / 255
            torch.testing.assert_close(patches[b, j], expected, rtol=0, atol=1e-5)


def test_patches_are_lit_each_by_itself_and_stay_within_the_crop() -> None:
    x = torch.full((4, 3, 32, 32), 100, dtype=torch.uint8)
    (_, patches), _ = policy(32, photometric=0.0)({"image": x}, seeded())
    assert len({round(float(p.mean()), 5) for p in patches.flatten(0, 1)}) > 30
    made = policy(32, patch_scale=(0.6, 0.6))
    drawn, _ = made.draw(300, 32, seeded())
    assert float(drawn["top"].min()) >= 0
    assert float((drawn["top"] + drawn["height"]).max()) <= 32
    heights = drawn["height"].view(300, 9)
    assert torch.equal(heights, heights[:, :1].expand(-1, 9))
    assert 0.2 < float(heights.mean()) * 36 / 9 / 32 < 1


def test_large_batches_are_cut_in_pieces_without_a_seam() -> None:
    x = torch.randint(0, 256, (60, 3, 64, 64), dtype=torch.uint8, generator=seeded())
    made = policy(64)
    (_, patches), _ = made({"image": x}, seeded(1))
    (_, again), _ = made({"image": x.clone()}, seeded(1))
    assert torch.equal(patches, again)
    other = x.clone()
    other[7] = 0
    (_, changed), _ = made({"image": other}, seeded(1))
    same = [i for i in range(60) if torch.equal(changed[i], patches[i])]
    assert same == [i for i in range(60) if i != 7]


def test_a_patch_larger_than_its_cell_is_refused() -> None:
    with pytest.raises(UserError, match=r"patch 10 .*cell of 9 pixels"):
        policy(24, patch=10)


def test_patches_are_shown_as_a_mosaic(tmp_path: Path) -> None:
    patches = torch.arange(9.0).view(9, 1, 1, 1).expand(9, 3, 4, 4) / 10
    mosaic = _mosaic(patches)
    assert mosaic.shape == (3, 14, 14)
    assert [float(mosaic[0, 5 * i, 5 * j]) for i in range(3) for j in range(3)] == pytest.approx([i / 10 for i in range(9)])
    assert torch.equal(_mosaic(patches[0]), patches[0])
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=seeded())
    sheet = contact_sheet({"image": x}, policy(32), seeded(), tmp_path / "sheet.png", draws=2)
    assert np.asarray(Image.open(sheet)).std() > 10


def test_joined_patches_are_the_picture_with_its_parts_in_another_order() -> None:
    """The paper's patches, put together: cell `order[j]` of the picture stands in place j."""
    x = torch.randint(0, 256, (6, 3, 12, 12), dtype=torch.uint8, generator=seeded())
    made = policy(12, joined=True, scale=(1.0, 1.0), **STILL)
    made.cell = made.parts[1].size  # no gap, so that a patch is all of its cell
    (joined, whole), targets = made({"image": x}, seeded())
    for b in range(6):
        assert sorted(targets["permutation"][b].tolist()) == list(range(9))
        for j, place in enumerate(targets["permutation"][b].tolist()):
            row, column = 4 * (place // 3), 4 * (place % 3)
            expected = x[b, :, row : row + 4, column : column + 4].float() / 255
            found = joined[b, :, 4 * (j // 3) : 4 * (j // 3) + 4, 4 * (j % 3) : 4 * (j % 3) + 4]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(whole, x.float() / 255, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("size", "side", "cell"), [(224, 75, 100), (96, 32, 42), (32, 11, 15), (8, 3, 4)])
def test_joined_patches_fill_the_view_and_leave_gaps_as_the_papers_do(size: int, side: int, cell: int) -> None:
    made = policy(size, joined=True)
    assert (made.parts[1].size, made.cell) == (side, cell)
    assert [view.shape for view in made({"image": torch.zeros(2, 3, 9, 9, dtype=torch.uint8)}, seeded())[0]] == [
        (2, 3, size, size)
    ] * 2
    with pytest.raises(UserError, match="patch 5 is not possible"):
        policy(size, joined=True, patch=5)


def test_moco_learns_from_joined_patches_and_the_views_can_be_looked_at(tmp_path: Path) -> None:
    data, out = file(tmp_path / "a.npz"), tmp_path / "run"
    ok("pretrain", data, *ONE, "--method", "moco", "--method.queue", 32, "--views", "jigsaw", "--out", out)
    assert Run.open(out).recipe.views.options["joined"] is True
    assert all(np.isfinite(line["loss"]) for line in Run.open(out).history if "loss" in line)
    ok("views", data, "--policy", "jigsaw", "--out", tmp_path / "views.png")
    assert np.asarray(Image.open(tmp_path / "views.png")).std() > 10
    cases = {
        ("pirl", "--views", "jigsaw"): "an image with 9 patches of it: give --views pirl",
        ("moco", "--method.queue", 32, "--views", "pirl"): "takes whole images: give other --views, such as jigsaw",
        ("rotation", "--views", "simclr", "--views.views", 1): "give --views turns",
    }
    for words, said in cases.items():
        assert said in mistake("pretrain", data, *ONE, "--method", *words, "--out", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def lit(x: np.ndarray, bits: int, sharp: float, threshold: int) -> np.ndarray:
    """The published code's operations, by PIL: x uint8 (S, S, 3)."""
    image = ImageOps.posterize(Image.fromarray(x), bits)
    image = ImageEnhance.Sharpness(image).enhance(sharp)
    return np.asarray(ImageOps.autocontrast(ImageOps.solarize(image, threshold)))


def test_the_photometric_transformation_is_the_published_one() -> None:
    """PIRL's code (VISSL): with probability 0.66 posterise to 4 to 8 bits, sharpen by 0.1 to 1.9, solarise, autocontrast;
    with 0.2 grey. Pictures whose draws are known are held to PIL's, within two levels, as blends may be fused."""
    light = policy(32).light
    assert (light.chance, light.grey) == (0.66, 0.2)
    drawn = light.draw(4000, seeded())
    bits, sharp, threshold = (drawn[f"magnitude {place}"] for place in range(3))
    assert sorted(set(bits.floor().int().tolist())) == [4, 5, 6, 7, 8]
    assert 0.1 <= float(sharp.min()) < 0.12 < 1.88 < float(sharp.max()) <= 1.9
    assert 0 <= float(threshold.min()) < 0.01 < 0.99 < float(threshold.max()) <= 1
    assert float(drawn["light"].mean()) == pytest.approx(0.66, abs=0.03)
    assert float(drawn["grey"].mean()) == pytest.approx(0.2, abs=0.03)
    x = torch.randint(30, 200, (40, 3, 16, 16), dtype=torch.uint8, generator=seeded())
    first = {name: values[:40] for name, values in drawn.items()} | {"grey": torch.zeros(40)}
    found = light.apply(x.float() / 255, first)
    changed = 0
    for i in range(40):
        expected = x[i].permute(1, 2, 0).numpy()
        if drawn["light"][i]:
            changed += 1
            expected = lit(expected, int(bits[i]), float(sharp[i]), int(np.ceil(256 * float(threshold[i]))))
        error = np.abs(255 * found[i].permute(1, 2, 0).numpy() - expected)
        assert np.quantile(error, 0.99) <= 2, i  # at the threshold of solarise a level decides
    assert 10 < changed < 40
    grey = light.apply(x.float() / 255, first | {"light": torch.zeros(40), "grey": torch.ones(40)})
    luma = (x * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True) / 255
    torch.testing.assert_close(grey, luma.expand_as(grey), rtol=0, atol=1e-5)


def test_the_patches_and_the_image_are_lit_each_by_itself_and_only_as_the_data_allow() -> None:
    x = torch.randint(60, 120, (40, 3, 32, 32), dtype=torch.uint8, generator=seeded())
    bare = {"mirror": 0.0, "jitter": 0.0, "grey": 0.0, "scale": (1.0, 1.0), "patch_scale": (1.0, 1.0)}
    (image, patches), _ = policy(32, **bare, photometric=1.0)({"image": x}, seeded())
    assert float(image.flatten(1).amax(1).min()) == 1.0, "the contrast of each is stretched"
    assert float(patches.flatten(2).amax(2).min()) == 1.0
    (plain, _), _ = policy(32, **bare, photometric=0.0)({"image": x}, seeded())
    torch.testing.assert_close(plain, x.float() / 255, rtol=0, atol=1e-5)
    names = {
        frozenset[str](): ["sharpness"],
        frozenset({"intensity"}): ["posterize", "sharpness", "solarize"],
        frozenset({"colour"}): ["posterize", "sharpness", "solarize", "autocontrast"],
    }
    for invariances, expected in names.items():
        made = Pirl(DataShape(9, 3, 16, invariances=invariances))
        assert [operation.apply.__name__ for operation in made.light.operations] == expected
        assert (made.light.grey > 0) == ("colour" in invariances)
    with pytest.raises(UserError, match=r"photometric 1.5"):
        policy(24, photometric=1.5)


def test_one_policy_draws_as_many_views_as_asked() -> None:
    for views in (1, 3):
        made = Distorted(DataShape(9, 3, 16), views=views)
        assert len(made({"image": torch.zeros(2, 3, 16, 16, dtype=torch.uint8)}, seeded())[0]) == views
    with pytest.raises(UserError, match="views 0"):
        Distorted(DataShape(9, 3, 16), views=0)
