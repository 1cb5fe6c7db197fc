"""What training takes on this machine, from a few real steps: time and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from unlabeled import registry
from unlabeled.batch import Batch, Progress
from unlabeled.data import Source
from unlabeled.methods.base import Comparison, Method
from unlabeled.optim import groups
from unlabeled.recipe import Recipe
from unlabeled.train import initial_encoder, make_fabric, shape_of

LONG_ENOUGH, PATIENCE = 0.4, 4.0
"""Seconds of a step that is measured well, and after which no other is begun."""
REPEATS = 3
"""Further steps of the last size; the fastest counts."""


@dataclass(frozen=True)
class Pace:
    """What an image of a batch takes, with all its views.

    Attributes:
        seconds: of a step.
        bytes: kept for the backward pass.
        free: bytes that the device has to give.
        pieces: whether the method takes a batch in pieces (`--accumulate`).
    """

    seconds: float
    bytes: float
    free: float
    pieces: bool


def measure(recipe: Recipe, source: Source, accelerator: str = "auto") -> Pace:
    """Takes real steps of growing batches, until one takes 0.4 s, or 4 s are over; keeps nothing.

    Args:
        recipe: with an image size.
        source: images.
        accelerator: auto, cpu, cuda, mps.
    """
    begun = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        steps = _Steps(recipe, source, accelerator)
        size = min(8, recipe.batch_size)
        while True:
            steps(size)  # the first of its size is slow
            seconds = steps(size)
            if seconds > LONG_ENOUGH or size >= recipe.batch_size or time.perf_counter() - begun > PATIENCE:
                break
            size = min(2 * size, recipe.batch_size)
        kept = steps.kept(size)
        for _ in range(REPEATS):
            if time.perf_counter() - begun < PATIENCE:
                seconds = min(seconds, steps(size))
    return Pace(seconds / size, kept / size, steps.free(), isinstance(steps.method, Comparison))


class _Steps:
    """The loop's step (views, forward, backward, optimiser), on batches of any size."""

    def __init__(self, recipe: Recipe, source: Source, accelerator: str) -> None:
        assert recipe.image_size is not None
        self.source, self.fabric = source, make_fabric(recipe, accelerator, 1)
        shape = replace(shape_of(source, recipe.image_size), n=len(source))
        self.method: Method = registry.build("methods", recipe.method, initial_encoder(recipe, source), shape)
        self.fabric.to_device(self.method)
        self.method.train()
        self.optimizer = registry.build("optim", recipe.optimizer, groups(self.method, self.method.constant_lr))
        self.views = registry.build("views", recipe.views, shape)

    def __call__(self, size: int, hooks: Any = None) -> float:
        """Seconds of a step."""
        start = time.perf_counter()
        index = np.arange(size) % len(self.source)
        images = self.source.fetch(index).to(self.fabric.device)
        drawn, targets = self.views(images, torch.Generator().manual_seed(0))
        batch = Batch(drawn, torch.from_numpy(index).to(self.fabric.device), targets)
        self.optimizer.zero_grad(set_to_none=True)
        with hooks or nullcontext(), self.fabric.autocast():
            loss = self.method(batch, Progress(0, 1, 0))
        self.fabric.backward(loss.total)
        self.optimizer.step()
        if self.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    def kept(self, size: int) -> int:
        """Bytes that a step keeps for its backward pass, the weights themselves left out."""
        held: dict[int, int] = {}
        self(size, saved_tensors_hooks(_noting(held), lambda tensor: tensor))
        weights = {p.untyped_storage().data_ptr() for p in self.method.parameters()}
        return sum(size for place, size in held.items() if place not in weights)

    def free(self) -> float:
        """Bytes that the device has free; of a processor half of its memory."""
        if self.fabric.device.type == "cuda":
            return float(torch.cuda.mem_get_info()[0])
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) / 2


def _noting(held: dict[int, int]) -> Callable[[Tensor], Tensor]:
    """A hook that notes the memory behind every tensor that is kept, by its address."""

    def note(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    return note
