"""Real steps that are thrown away, to learn what they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from unlabeled import registry
from unlabeled.batch import Batch, Loss, Progress
from unlabeled.compute.speed import Speed
from unlabeled.data import Source
from unlabeled.methods.base import Method
from unlabeled.optim.optim import groups
from unlabeled.recipe import Recipe
from unlabeled.training.setup import followers, initial_encoder, shape_of


class Rehearsal:
    """The loop's step (views, forward, backward, optimiser), on batches of any size.

    Args:
        recipe: with an image size.
        source: images.
        fabric: of the device and precision.
        speed: how to compute.
        method: whether with the recipe's method; else with its encoder alone, which is most of every method, and needs
            nothing that a method does before an epoch.
    """

    def __init__(self, recipe: Recipe, source: Source, fabric: Fabric, speed: Speed, *, method: bool) -> None:
        assert recipe.image_size is not None
        self.source, self.fabric = source, fabric
        last = max(0, recipe.epochs - 1)
        self.at = Progress(last, last + 1, last)  # as of the last epoch, when all that begins late has begun
        shape = replace(shape_of(source, recipe.image_size), n=len(source))
        encoder = initial_encoder(recipe, source)
        self.module: nn.Module = registry.build("methods", recipe.method, encoder, shape) if method else encoder
        fabric.to_device(self.module)
        self.module.train().to(memory_format=speed.layout)
        self.optimizer = speed.fuse(registry.build("optim", recipe.optimizer, groups(self.module)))
        speed.prepare(encoder, followers(self.module, encoder))
        self.views = registry.build("views", recipe.views, shape)

    def __call__(self, size: int, hooks: Any = None) -> float:
        """Takes one step; `hooks` is a context for the forward pass.

        Returns:
            Seconds of the step.
        """
        start = time.perf_counter()
        index = np.arange(size) % len(self.source)
        images = self.source.fetch(index).to(self.fabric.device)
        drawn, targets = self.views(images, torch.Generator().manual_seed(0))
        batch = Batch(drawn, torch.from_numpy(index).to(self.fabric.device), targets)
        self.optimizer.zero_grad(set_to_none=True)
        with hooks or nullcontext(), self.fabric.autocast():
            loss = _loss(self.module, batch, self.at)
        self.fabric.backward(loss)
        self.optimizer.step()
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def fetch(self, size: int) -> float:
        """Seconds that a batch of images takes to be fetched."""
        start = time.perf_counter()
        self.source.fetch(np.arange(size) % len(self.source))
        return time.perf_counter() - start


def _loss(module: nn.Module, batch: Batch, at: Progress) -> Tensor:
    if isinstance(module, Method):
        loss: Loss = module(batch, at)
        return loss.total
    sides = dict.fromkeys(view.shape[-1] for view in batch.views)
    features = [module(torch.cat([view for view in batch.views if view.shape[-1] == side])) for side in sides]
    return torch.cat(features).float().square().mean()


def best_of(steps: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """Seconds of each, the least of some rounds that alternate, so that what else the machine does hits all alike; without
    those that do not fit the memory."""
    found: dict[str, list[float]] = {key: [] for key in steps}
    for turn in range(rounds + 1):
        for key in list(found):
            try:
                seconds = steps[key]()
            except torch.OutOfMemoryError:
                del found[key]
                continue
            if turn:  # the first of its kind is slow
                found[key].append(seconds)
    return {key: min(each) for key, each in found.items()}
