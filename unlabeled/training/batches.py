"""What a step takes, as functions of the step alone: progress, random numbers, the batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlabeled.batch import Fields, Progress
from unlabeled.data import Source
from unlabeled.data.resident import Resident, fits
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


def order(seed: int, epoch: int, n: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The samples (n,) of an epoch in their order: each once, or drawn with replacement by weights (n,) >= 0."""
    drawn = np.random.default_rng([seed, epoch])
    return drawn.permutation(n) if weights is None else drawn.choice(n, n, p=weights / weights.sum())


def seed_of(*parts: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


@contextmanager
def batches(
    recipe: Recipe,
    source: Source,
    chosen: np.ndarray,
    clock: Clock,
    start: int,
    sampling: Callable[[], Tensor | None] = lambda: None,
    workers: int = 1,
    device: torch.device | None = None,
) -> Iterator[Iterator[tuple[np.ndarray, Fields]]]:
    """This process's part of each batch, index (B,) within `chosen` and samples, fetched as many steps ahead as
    there are `workers` (threads); not beyond an epoch, before which the method may say how often it wants each sample. They
    stay on the `device`, if there is one and they fit there."""
    resident = Resident(source, chosen, device) if device and fits(source, len(chosen), device) else None
    per_process = recipe.batch_size // world()

    def drawn(epoch: int) -> np.ndarray:
        weights = sampling()
        return order(recipe.seed, epoch, len(chosen), None if weights is None else weights.double().cpu().numpy())

    def fetch(part: np.ndarray) -> tuple[np.ndarray, Fields]:
        if resident:
            return part, resident.fetch(part)
        fields = source.fetch(chosen[part])
        pinned = torch.cuda.is_available()
        return part, {name: values.pin_memory() for name, values in fields.items()} if pinned else fields

    with ThreadPoolExecutor(workers) as ahead:

        def steps() -> Iterator[tuple[np.ndarray, Fields]]:
            coming: deque[Future[tuple[np.ndarray, Fields]]] = deque()
            for step in range(start, clock.total):
                epoch, place = divmod(step, clock.per_epoch)
                if place == 0 or step == start:
                    index = drawn(epoch)
                while len(coming) < min(1 + workers, clock.per_epoch - place):
                    first = (place + len(coming)) * recipe.batch_size + rank() * per_process
                    coming.append(ahead.submit(fetch, index[first : first + per_process]))
                yield coming.popleft().result()

        yield steps()
