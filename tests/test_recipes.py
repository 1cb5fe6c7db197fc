"""Every recipe that comes with the package is started as `--speed auto` starts it: steps are timed, and one is taken."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from unlabeled.compute.speed import Speed, usual
from unlabeled.data import Data, open_data
from unlabeled.recipe import Recipe, compose, packaged, read
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric, planned_steps, resolved
from unlabeled.training.timed_steps import TimedSteps
from unlabeled.training.train import train
from unlabeled.training.tuning import WORTH_STEPS, settled

IMAGES, CLASSES, BATCH = 1280, 10, 8
KNOWN = {"digits": (1, 8), "fashion-mnist": (1, 28)}
"""Channels and side of the images of folders that are named after a data set; those of others are CIFAR-10's."""


@cache
def data(channels: int, side: int, kind: tuple[tuple[str, object], ...]) -> Data:
    """Noise in ten classes."""
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (IMAGES, side, side, channels)).astype(np.uint8)
    return open_data((x, np.arange(IMAGES) % CLASSES), kind=Choice("image", dict(kind)), seed=0)


def started(name: str, **more: object) -> tuple[Recipe, Data]:
    """The recipe for small batches, and data of the form that it is for."""
    recipe = compose(read(name), {"batch_size": BATCH, "epochs": 100, **more})
    opened = data(*KNOWN.get(name.partition("/")[0], (3, 32)), tuple(recipe.kind.options.items()))
    return resolved(recipe, opened.train), opened


@pytest.mark.parametrize("name", packaged())
def test_it_is_timed_and_takes_a_step(name: str, tmp_path: Path) -> None:
    """By the way that is usually fastest, from which the trial departs only where another is clearly faster."""
    recipe, opened = started(name)
    speed = usual(torch.device("cpu"), recipe.precision)
    assert TimedSteps(recipe, opened.train, make_fabric(recipe, "cpu", 1), speed)(BATCH) > 0
    run, steps = Run(tmp_path / "run"), []

    def watch(number: int) -> bool:
        steps.append(number)
        return number == 1

    assert not train(recipe, opened, run, {}, accelerator="cpu", watch=watch)
    assert steps == [0, 0, 1], "stopped after one step"
    (line,) = [line for line in run.history if "loss" in line]
    assert np.isfinite(line["loss"])


@pytest.mark.slow
def test_a_trial_of_all_ways_is_made_and_chosen_from() -> None:
    """Of a policy that draws patches beside whole images, which an encoder alone does not take."""
    recipe, opened = started("cifar10/pirl")
    assert planned_steps(recipe, opened.train) >= WORTH_STEPS
    chosen, trial = settled(recipe, opened.train, "cpu")
    assert trial is not None
    assert str(Speed.parse(chosen.speed)) == chosen.speed
