"""What views take to keep the meaning of an image is said before anything is trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from command import ONE, file, folder, images, ok

from unlabeled.data import open_data
from unlabeled.recipe import Roles, compose
from unlabeled.training.defaults import rests_on


@pytest.mark.parametrize(
    ("channels", "invariances", "method", "more", "said"),
    [
        (3, "", "simclr", {}, "mirrored, in other colours, brighter or darker"),
        (1, "", "simclr", {}, "mirrored, brighter or darker"),
        (1, "intensity", "simclr", {}, "brighter or darker"),
        (3, "", "simclr", {"views.mirror": 0}, "in other colours, brighter or darker"),
        (3, "mirror,flip", "simclr", {"views.flip": 0.5}, "mirrored, upside down"),
        (3, "rotation", "simclr", {"views.turn": 0.5}, "turned by quarters"),
        (3, "mirror", "simclr", {}, "mirrored"),
        (3, "", "siamese", {}, "mirrored"),
    ],
)  # fmt: skip
def test_what_views_may_show_follows_from_the_data_and_the_views(
    channels: int, invariances: str, method: str, more: dict[str, float], said: str
) -> None:
    source = open_data(images(channels=channels), roles=Roles(invariances=invariances)).train
    line = rests_on(compose({"method": method, **more}).views, source)
    assert line.startswith(f"Views may show images {said}. ")
    assert "--invariances, some of mirror, flip, rotation, colour, intensity, or none" in line


def test_nothing_is_claimed_of_views_that_rest_on_nothing() -> None:
    source = open_data(images(), roles=Roles(invariances="none")).train
    assert rests_on(compose({"method": "simclr"}).views, source).startswith("Views change nothing")
    assert rests_on(compose({"method": "random"}).views, source) == ""


def test_pretrain_says_it_before_the_first_step_and_inspect_with_its_suggestion(tmp_path: Path) -> None:
    digits = file(tmp_path / "x.npz", channels=1)
    said = ok("pretrain", digits, *ONE, "--out", tmp_path / "run")
    line = "Views may show images mirrored, brighter or darker. Where that changes what they mean, declare what does not:"
    assert line in said
    assert said.index(line) < said.index("written: ")
    declared = ok("pretrain", digits, *ONE, "--invariances", "mirror", "--out", tmp_path / "declared")
    assert "Views may show images mirrored." in declared and "declare what does not" not in declared
    assert "--invariances" in ok("inspect", folder(tmp_path / "d"), "--minutes", "0.01", "--out", tmp_path / "i")
