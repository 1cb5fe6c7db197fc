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

from unlabeled.batch import Fields, Progress, seed_of
from unlabeled.data import Source
from unlabeled.data.resident import Resident, fits
from unlabeled.distributed import rank, world
from unlabeled.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Clock:
    """Turns a step of a run with that seed into `Progress`."""

    per_epoch: int
    epochs: int
    seed: int = 0

    @property
    def total(self) -> int:
        """Steps of the run."""
        return self.per_epoch * self.epochs

    def at(self, step: int) -> Progress:
        """Tells where the run is before its `step`-th step."""
        return Progress(step, max(1, self.total), step // self.per_epoch, self.seed)


def generator(seed: int, rank: int, step: int, stream: int = 0) -> torch.Generator:
    """Returns the randomness of one step's views in one process; of the labelled samples beside them in stream 3. What all
    processes draw alike is in stream 4 (`Progress.generator`)."""
    return torch.Generator().manual_seed(seed_of(seed, rank, step, stream))


def order(seed: int, epoch: int, n: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Returns the samples (n,) of an epoch in their order: each once, or drawn with replacement by weights (n,) >= 0."""
    drawn = np.random.default_rng([seed, epoch])
    return drawn.permutation(n) if weights is None else drawn.choice(n, n, p=weights / weights.sum())


def labelled_order(seed: int, n: int, first: int, count: int) -> np.ndarray:
    """Returns places (count,) in [0, n) of labelled samples, from the `first`-th drawn on: one permutation after the other,
    whatever an epoch of the others is."""
    rounds = range(first // n, (first + count - 1) // n + 1)
    drawn = np.concatenate([np.random.default_rng([seed, each, 7]).permutation(n) for each in rounds])
    start = first - rounds.start * n
    return drawn[start : start + count]


@dataclass(frozen=True, slots=True)
class Drawn:
    """This process's samples of one step.

    Attributes:
        index: (B,) which of the training samples they are.
        fields: (B, ...) raw.
    """

    index: np.ndarray
    fields: Fields


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
    labelled: np.ndarray | None = None,
    beside: int = 0,
) -> Iterator[Iterator[tuple[Drawn, Drawn | None]]]:
    """Yields this process's part of each batch, and of the labelled samples beside it, fetched as many steps ahead as there
    are `workers` (threads); not beyond an epoch, before which the method may say how often it wants each sample. They stay
    on the `device`, if there is one and they fit there.

    Args:
        recipe: of seed and batch size.
        source: of the samples.
        chosen: (n,) positions in it of those that are trained on; places in it are what `Drawn.index` counts.
        clock: of the steps.
        start: first step.
        sampling: see `Method.sampling`.
        workers: threads.
        device: of the steps.
        labelled: places in `chosen` of the labelled samples.
        beside: how many of these go with each batch, over all processes; 0 for none.
    """
    resident = Resident(source, chosen, device) if device and fits(source, len(chosen), device) else None

    def drawn(epoch: int) -> np.ndarray:
        weights = sampling()
        return order(recipe.seed, epoch, len(chosen), None if weights is None else weights.double().cpu().numpy())

    def fetch(part: np.ndarray) -> Drawn:
        if resident:
            return Drawn(part, resident.fetch(part))
        fields = source.fetch(chosen[part])
        pinned = torch.cuda.is_available()
        return Drawn(part, {name: values.pin_memory() for name, values in fields.items()} if pinned else fields)

    def mine(size: int) -> slice:
        each = size // world()
        return slice(rank() * each, (rank() + 1) * each)

    def both(part: np.ndarray, step: int) -> tuple[Drawn, Drawn | None]:
        if not beside or labelled is None:
            return fetch(part), None
        with_label = labelled[labelled_order(recipe.seed, len(labelled), step * beside, beside)[mine(beside)]]
        return fetch(part), fetch(with_label)

    with ThreadPoolExecutor(workers) as ahead:

        def steps() -> Iterator[tuple[Drawn, Drawn | None]]:
            coming: deque[Future[tuple[Drawn, Drawn | None]]] = deque()
            for step in range(start, clock.total):
                epoch, place = divmod(step, clock.per_epoch)
                if place == 0 or step == start:
                    index = drawn(epoch)
                while len(coming) < min(1 + workers, clock.per_epoch - place):
                    first = (place + len(coming)) * recipe.batch_size
                    whole = index[first : first + recipe.batch_size]
                    coming.append(ahead.submit(both, whole[mine(recipe.batch_size)], step + len(coming)))
                yield coming.popleft().result()

        yield steps()
