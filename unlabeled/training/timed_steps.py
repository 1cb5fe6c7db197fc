"""Real steps that are thrown away, to learn what they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from unlabeled.batch import Progress
from unlabeled.compute.speed import Speed
from unlabeled.data import Source
from unlabeled.errors import is_full_memory
from unlabeled.recipe import Recipe
from unlabeled.training.batches import Drawn
from unlabeled.training.setup import built, chosen_images, followers, growing_views, optimizers_of
from unlabeled.training.step import Step


class TimedSteps:
    """The loop's step on batches of any size, as late in the run as can be: all that begins late has begun.

    Args:
        recipe: with an image size.
        source: samples.
        fabric: of the device and precision.
        speed: how to compute.
    """

    def __init__(self, recipe: Recipe, source: Source, fabric: Fabric, speed: Speed) -> None:
        self.source, self.fabric = source, fabric
        last = max(0, recipe.epochs - 1)
        self.at = Progress(last, last + 1, last)
        self.chosen, self.labels = chosen_images(recipe, source)
        self.method = built(recipe, source, len(self.chosen))
        fabric.to_device(self.method)
        self.method.train().to(memory_format=speed.layout)
        optimizers = optimizers_of(recipe, self.method, speed, 0)
        speed.prepare(self.method.encoder, followers(self.method, self.method.encoder))
        self.step = Step(self.method, growing_views(recipe, self.method), optimizers, autocast=fabric.autocast)

    def __call__(self, size: int, hooks: Any = None) -> float:
        """Takes one step of so many samples; `hooks` is a context for all of it.

        Returns:
            Seconds of the step.
        """
        start = time.perf_counter()
        beside = self.method.labelled_beside(size)
        with hooks or nullcontext():
            labelled = self._drawn(beside, np.flatnonzero(self.labels >= 0)) if beside else None
            self.step(self._drawn(size, np.arange(len(self.chosen))), self.at, self.labels, labelled)
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def _drawn(self, size: int, places: np.ndarray) -> Drawn:
        """So many samples of those at some places, again and again."""
        index = places[np.arange(size) % len(places)]
        return Drawn(index, self.source.fetch(self.chosen[index]))

    def fetch(self, size: int) -> float:
        """Measures the seconds that a batch of samples takes to be fetched."""
        start = time.perf_counter()
        self.source.fetch(self.chosen[np.arange(size) % len(self.chosen)])
        return time.perf_counter() - start


def best_of(steps: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Measures the seconds of each, the least of some rounds that alternate, so that what else the machine does hits all
    alike; without those that do not fit the memory."""
    found: dict[str, list[float]] = {key: [] for key in steps}
    for turn in range(rounds + 1):
        for key in list(found):
            try:
                seconds = steps[key]()
            except (MemoryError, RuntimeError) as error:
                if not is_full_memory(error):
                    raise
                del found[key]
                continue
            if turn:  # the first of its kind is slow
                found[key].append(seconds)
    return {key: min(each) for key, each in found.items()}
