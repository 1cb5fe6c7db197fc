"""What a run does where nothing is said, and the paper's settings, which `--paper` keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import ONE, file, ok

from unlabeled.data import Source, open_data
from unlabeled.recipe import Recipe, compose, difference, packaged, read
from unlabeled.run import Run
from unlabeled.training.defaults import batch_size, defaults


def source(n: int, side: int = 32, channels: int = 3) -> Source:
    return open_data(np.zeros((n, side, side, channels), np.uint8), seed=None).train


def by_default(images: Source, *layers: dict[str, Any]) -> Recipe:
    return compose(*layers, usual=defaults(images))


def test_simclr_has_no_crops_of_a_twelfth_and_no_tiny_steps_unless_asked() -> None:
    """Both were measured to learn little or nothing from a few thousand images in batches of hundreds."""
    mine, paper = by_default(source(5000)), compose()
    assert (mine.optimizer.options["trust"], paper.optimizer.options["trust"]) == (0.02, 0.001)
    assert (mine.views.options["scale"], paper.views.options["scale"]) == ((0.2, 1.0), (0.08, 1.0))
    assert (mine.views.options["strength"], paper.views.options["strength"]) == (0.5, 1.0)
    assert by_default(source(5000), {"paper": True}) == replace(paper, paper=True)


def test_an_epoch_has_some_batches() -> None:
    assert [by_default(source(n)).batch_size for n in (5000, 1437, 100, 10)] == [128, 64, 16, 10]
    assert [batch_size(n) for n in (50_000, 1437, 100, 10)] == [256, 64, 16, 10]


def test_grey_images_that_may_not_be_mirrored_are_moved_and_bent() -> None:
    digits = open_data("digits", seed=0).train
    assert by_default(digits).views.name == "affine"
    assert by_default(digits, {"method": "swav"}).views.name == "multi-crop"  # nothing stands in for sizes
    assert by_default(source(500, channels=1)).views.name == "simclr"


def test_what_is_said_counts(tmp_path: Path) -> None:
    said = {"optimizer": {"name": "lars", "lr": 0.7}, "views": {"name": "byol", "scale": (0.5, 0.9)}, "batch_size": 32}
    mine = by_default(source(5000), said)
    assert (mine.optimizer.name, mine.optimizer.options["lr"]) == ("lars", 0.7)
    assert (mine.views.name, mine.views.options["scale"], mine.batch_size) == ("byol", (0.5, 0.9), 32)
    assert by_default(source(5000), mine.to_dict()) == mine


def test_a_recipe_that_comes_with_the_package_is_what_it_was() -> None:
    """Its figures were measured with the paper's settings in what it leaves open."""
    assert all(read(name).get("paper") is True for name in packaged())


def test_encoders_other_than_those_measured_keep_the_papers_optimiser() -> None:
    assert by_default(source(5000), {"encoder": "vit_tiny_patch16_224"}).optimizer == compose().optimizer


def test_the_difference_of_two_recipes_can_be_typed() -> None:
    mine, paper = by_default(source(1437)), compose()
    words = difference(mine, paper)
    assert words["optimizer.trust"] == "0.02"
    assert compose(words) == mine
    assert difference(mine, mine) == {}


@pytest.mark.parametrize("asked", [(), ("--paper",)])
def test_a_run_says_what_is_not_the_papers(tmp_path: Path, asked: tuple[str, ...]) -> None:
    data = file(tmp_path / "x.npz")
    said = ok("pretrain", data, "--out", tmp_path / "run", *asked, *ONE)
    assert ("in place of the paper's (--paper keeps those): --views.scale 0.2,1.0" in said) == (not asked)
    recipe = Run.open(tmp_path / "run").recipe
    assert (recipe.paper, recipe.optimizer.options["trust"]) == ((True, 0.001) if asked else (False, 0.02))
    assert "is finished" in ok("pretrain", data, "--out", tmp_path / "run", "--resume", *asked, *ONE)
