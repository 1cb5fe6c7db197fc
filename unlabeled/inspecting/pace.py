"""What training takes on this machine, from a few real steps: time and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from unlabeled.compute.speed import usual
from unlabeled.data import Source
from unlabeled.methods.base import Comparison
from unlabeled.recipe import Recipe
from unlabeled.training.setup import make_fabric
from unlabeled.training.timed_steps import TimedSteps

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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        fabric = make_fabric(recipe, accelerator, 1)
        steps = TimedSteps(recipe, source, fabric, usual(fabric.device, recipe.precision))
        size = min(8, recipe.batch_size)
        steps(size)  # compiles, perhaps
        begun = time.perf_counter()
        while True:
            steps(size)  # the first of its size is slow
            seconds = steps(size)
            if seconds > LONG_ENOUGH or size >= recipe.batch_size or time.perf_counter() - begun > PATIENCE:
                break
            size = min(2 * size, recipe.batch_size)
        kept = _kept(steps, size)
        for _ in range(REPEATS):
            if time.perf_counter() - begun < PATIENCE:
                seconds = min(seconds, steps(size))
    return Pace(seconds / size, kept / size, _free(fabric.device), isinstance(steps.method, Comparison))


def _kept(steps: TimedSteps, size: int) -> int:
    """Bytes that a step keeps for its backward pass, the weights themselves left out."""
    held: dict[int, int] = {}
    steps(size, saved_tensors_hooks(_noting(held), lambda tensor: tensor))
    weights = {p.untyped_storage().data_ptr() for p in steps.method.parameters()}
    return sum(size for place, size in held.items() if place not in weights)


def _free(device: torch.device) -> float:
    """Bytes that the device has free; of a processor half of its memory."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info()[0])
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")) / 2


def _noting(held: dict[int, int]) -> Callable[[Tensor], Tensor]:
    """A hook that notes the memory behind every tensor that is kept, by its address."""

    def note(tensor: Tensor) -> Tensor:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    return note
