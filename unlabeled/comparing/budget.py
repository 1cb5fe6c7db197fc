"""How many epochs of a recipe fit some minutes here: a throw-away training of some steps, in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlabeled.data import Data, Source, open_data
from unlabeled.errors import UserError
from unlabeled.recipe import Recipe, compose, read
from unlabeled.run import Run
from unlabeled.training.setup import built, chosen_images, resolved
from unlabeled.training.speed_trial import settled
from unlabeled.training.train import train

WARM_UP, MEASURED = 5, 20
"""Steps before the clock is read first, and between then and the last reading."""
SHORT = WARM_UP + MEASURED + 1
"""Epochs of a trial, which ends earlier unless each is a single step."""
ENDLESS = 100
"""A trial of late epochs is the end of a run so many times as long as the one that is planned: whatever begins late, by its
number of epochs or by the share of the run, has begun."""
MOST = 10**9
"""Epochs of a run, at most."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a step, of what comes before the first of some epochs, and of what comes before each later one."""

    step_s: float
    first_s: float
    prepare_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run takes.

    Attributes:
        steps: of an epoch.
        early: of the epochs that do less.
        late: of the others, which are all from `late_from(epochs)` on.
        late_from: as `Method.full_cost_from`.
    """

    steps: int
    early: Cost
    late: Cost
    late_from: Callable[[int], int]

    def seconds(self, epochs: int) -> float:
        """Returns the seconds of a run of so many epochs."""
        before = min(epochs, self.late_from(epochs))
        each = [self.steps * cost.step_s + cost.prepare_s for cost in (self.early, self.late)]
        return self.early.first_s - self.early.prepare_s + before * each[0] + (epochs - before) * each[1]

    def epochs(self, seconds: float) -> int:
        """Returns the epochs of the run that comes nearest to the seconds, 1 at least."""
        enough = 1 + bisect_left(range(1, MOST), seconds, key=self.seconds)
        fewer = max(1, enough - 1)
        return min(fewer, enough, key=lambda epochs: abs(self.seconds(epochs) - seconds))


class Watch:
    """Reads the clock before each step, and after what the method does before an epoch."""

    def __init__(self) -> None:
        self.readings: list[tuple[int, float]] = []

    def __call__(self, step: int) -> bool:
        """Whether enough was seen: all steps, and what comes before one that begins another epoch."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.readings.append((step, time.perf_counter()))
        return step - self.readings[0][0] > WARM_UP + MEASURED

    def result(self) -> Cost:
        """Returns what the readings say."""
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        for step, at in self.readings:
            first.setdefault(step, at)
            last[step] = at
        steps = [first[step + 1] - last[step] for step in sorted(first) if step + 1 in first]
        prepared = [
            last[step] - first[step] for step, count in Counter(step for step, _ in self.readings).items() if count > 1
        ]
        measured = steps[WARM_UP : WARM_UP + MEASURED]
        return Cost(sum(measured) / len(measured), prepared[0], prepared[-1])


def measure(recipe_file: Path, out: Path, root: str | None, accelerator: str, minutes: float) -> None:
    """Writes to `out` how many epochs of the recipe fit the minutes, how they are best computed, and the seconds from which
    that follows: `step_s`, `first_s`, `prepare_s`; and where the method does more from a later epoch of those, `late_from`
    and the same from there on.

    Seconds are measured on so few images that a second epoch begins, as much of what comes before an epoch is done once (the
    filling of a bank), and taken to be proportional to them."""
    recipe = compose(read(recipe_file))
    data = open_data(recipe.data, kind=recipe.kind, root=root, seed=recipe.seed, roles=recipe.roles)
    recipe, _ = settled(resolved(recipe, data.train), data.train, accelerator)
    chosen, _ = chosen_images(recipe, data.train)
    method = built(recipe, data.train, len(chosen))
    steps, seconds = len(chosen) // recipe.batch_size, 60 * minutes
    early = _cost(recipe, data, accelerator)
    plan = Plan(steps, early, early, lambda epochs: 0)
    epochs = plan.epochs(seconds)
    found: dict[str, Any] = asdict(early)
    if 0 < method.full_cost_from(epochs) < epochs:
        late = _cost(recipe, data, accelerator, ENDLESS * (epochs + SHORT))
        epochs = Plan(steps, early, late, method.full_cost_from).epochs(seconds)
        found |= {"late_from": method.full_cost_from(epochs)} | {f"late_{name}": s for name, s in asdict(late).items()}
    out.write_text(json.dumps(found | {"epochs": epochs, "speed": recipe.speed}), encoding="utf-8")


def _cost(recipe: Recipe, data: Data, accelerator: str, over: int = 0) -> Cost:
    """Of the first epochs; or of those that follow on so many."""
    recipe = replace(recipe, epochs=over + SHORT, warmup_epochs=None, monitor_every=0, keep=None, keep_every=0, patience=0)
    chosen, _ = chosen_images(recipe, data.train)
    part = (WARM_UP + MEASURED) * recipe.batch_size
    share = 1.0
    if recipe.labels == "100%" and len(chosen) > part and _can_be_built(recipe, data.train, part):
        few = chosen[np.linspace(0, len(chosen) - 1, part).astype(np.int64)]
        data, share = replace(data, train=data.train.subset(few)), part / len(chosen)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, data, Run(Path(folder) / "trial"), {}, accelerator=accelerator, watch=watch, begin=over)
    found = watch.result()
    return replace(found, first_s=found.first_s / share, prepare_s=found.prepare_s / share)


def _can_be_built(recipe: Recipe, source: Source, n: int) -> bool:
    """Not with more clusters than so few images, say."""
    try:
        built(recipe, source, n)
    except UserError:
        return False
    return True


if __name__ == "__main__":
    try:
        measure(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] or None, sys.argv[4], float(sys.argv[5]))
    except UserError as error:
        sys.exit(f"unlabeled: error: {error}")
