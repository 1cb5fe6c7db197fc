"""Every recipe that comes with the package is started as `--speed auto` starts it: steps are timed, and one is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from unlabeled import registry
from unlabeled.compute.speed import Speed, usual
from unlabeled.data import Data, open_data
from unlabeled.recipe import Recipe, compose, packaged, read
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric, planned_steps, resolved
from unlabeled.training.speed_trial import WORTH_STEPS, settled
from unlabeled.training.timed_steps import TimedSteps
from unlabeled.training.train import train

SAMPLES, CLASSES, BATCH = 1280, 10, 8
SHAPES = {"digits": (1, 8), "fashion-mnist": (1, 28), "tiny50": (3, 64), "pcam": (3, 96)}
"""Channels and side of the images of a data set, by the folder of its recipes; CIFAR-10's for others."""


def images(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Noise in ten classes."""
    channels, side = SHAPES.get(folder, (3, 32))
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (SAMPLES, side, side, channels)).astype(np.uint8)
    return x, np.arange(SAMPLES) % CLASSES


def recordings(path: Path) -> Path:
    """Noise of 0.4 s in ten classes, of two speakers."""
    path.mkdir()
    for i in range(8 * BATCH):
        noise = 0.1 * np.random.default_rng(i).normal(size=3200)
        soundfile.write(path / f"{i % CLASSES}_{'ab'[i // 10 % 2]}_{i}.wav", noise, 8000)
    return path


def started(name: str, where: Path) -> tuple[Recipe, Data]:
    """The recipe for small batches, and data of the form that it is for."""
    recipe = compose(read(name), {"batch_size": BATCH, "epochs": 100})
    seen = registry.get("methods", recipe.method.name).make.sees[0]  # type: ignore[attr-defined]
    made = images(name.partition("/")[0]) if seen == "image" else recordings(where / "recordings")
    opened = open_data(made, kind=Choice(seen, recipe.kind.options), seed=0)
    return resolved(recipe, opened.train), opened


@pytest.mark.parametrize("name", packaged())
def test_it_is_timed_and_takes_a_step(name: str, tmp_path: Path) -> None:
    """By the way that is usually fastest, from which the trial departs only where another is clearly faster."""
    recipe, opened = started(name, tmp_path)
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


def test_a_trial_of_all_ways_is_made_and_chosen_from(tmp_path: Path) -> None:
    """Of a policy that draws patches beside whole images, which an encoder alone does not take."""
    recipe, opened = started("cifar10/pirl", tmp_path)
    assert planned_steps(recipe, opened.train) >= WORTH_STEPS
    chosen, trial = settled(recipe, opened.train, "cpu")
    assert trial is not None
    assert str(Speed.parse(chosen.speed)) == chosen.speed
