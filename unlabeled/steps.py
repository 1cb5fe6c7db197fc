"""What a step takes, as functions of the step alone: progress, random numbers, the batch."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlabeled.batch import Progress
from unlabeled.data import Source
from unlabeled.distributed import rank, world
from unlabeled.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Clock:
    """Turns a step into `Progress`."""

    per_epoch: int
    epochs: int

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.per_epoch * self.epochs

    def at(self, step: int) -> Progress:
        """Where the run is before its `step`-th step."""
        return Progress(step, max(1, self.total), step // self.per_epoch)


def generator(seed: int, rank: int, step: int) -> torch.Generator:
    """The randomness of one step's views in one process."""
    return torch.Generator().manual_seed(seed_of(seed, rank, step, 0))


def order(seed: int, epoch: int, n: int) -> np.ndarray:
    """The order (n,) in which an epoch visits the samples."""
    return np.random.default_rng([seed, epoch]).permutation(n)


def seed_of(*parts: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def batches(
    recipe: Recipe, source: Source, chosen: np.ndarray, clock: Clock, start: int
) -> Iterator[Iterator[tuple[np.ndarray, Tensor]]]:
    """This process's part of each batch, index (B,) and images (B, C, H, W), fetched one step ahead."""
    per_process = recipe.batch_size // world()
    orders: dict[int, np.ndarray] = {}

    def fetch(step: int) -> tuple[np.ndarray, Tensor]:
        epoch, place = divmod(step, clock.per_epoch)
        if epoch not in orders:
            orders.clear()
            orders[epoch] = chosen[order(recipe.seed, epoch, len(chosen))]
        first = place * recipe.batch_size + rank() * per_process
        index = orders[epoch][first : first + per_process]
        images = source.fetch(index)
        return index, images.pin_memory() if torch.cuda.is_available() else images

    with ThreadPoolExecutor(1) as ahead:

        def steps() -> Iterator[tuple[np.ndarray, Tensor]]:
            coming = ahead.submit(fetch, start) if start < clock.total else None
            for step in range(start, clock.total):
                assert coming is not None
                ready = coming.result()
                coming = ahead.submit(fetch, step + 1) if step + 1 < clock.total else None
                yield ready

        yield steps()
