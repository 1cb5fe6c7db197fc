"""How long a step of a recipe takes here: a throw-away training of some steps, in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.recipe import compose, read
from unlabeled.run import Run
from unlabeled.train import chosen_images, train
from unlabeled.tuning import settled

WARM_UP, MEASURED = 5, 20
"""Steps before the clock is read first, and between then and the last reading."""


class Watch:
    """Reads the clock before each step, and after what the method does before an epoch."""

    def __init__(self) -> None:
        self.readings: list[tuple[int, float]] = []

    def __call__(self, step: int) -> bool:
        """Whether enough was seen: all steps, and what comes before one that begins another epoch."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.readings.append((step, time.perf_counter()))
        return step > WARM_UP + MEASURED

    def result(self) -> dict[str, float]:
        """Seconds of a step, of the preparation of the first epoch, and of that of each later one."""
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
        return {"step_s": sum(measured) / len(measured), "first_s": prepared[0], "prepare_s": prepared[-1]}


def measure(recipe_file: Path, out: Path, root: str | None, accelerator: str) -> None:
    """Writes to `out` how the recipe is best computed, what a step takes then, and what comes before an epoch. That is
    measured on so few images that a second epoch begins, as much of it is done once (the filling of a bank), and taken to
    be proportional to them."""
    recipe = compose(read(recipe_file))
    data = open_data(recipe.data, image_size=recipe.image_size, root=root, seed=recipe.seed)
    recipe, _ = settled(recipe, data.train, accelerator)
    recipe = replace(recipe, epochs=WARM_UP + MEASURED + 1, warmup_epochs=None, monitor_every=0)
    chosen, _ = chosen_images(recipe, data.train)
    part = (WARM_UP + MEASURED) * recipe.batch_size
    share = 1.0
    if recipe.labels == "100%" and len(chosen) > part:
        few = chosen[np.linspace(0, len(chosen) - 1, part).astype(np.int64)]
        data, share = replace(data, train=data.train.subset(few)), part / len(chosen)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, data, Run(Path(folder) / "trial"), {}, accelerator=accelerator, watch=watch)
    found: dict[str, Any] = dict(watch.result())
    found |= {name: found[name] / share for name in ("first_s", "prepare_s")} | {"speed": recipe.speed}
    out.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    try:
        measure(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] or None, sys.argv[4])
    except UserError as error:
        sys.exit(f"unlabeled: error: {error}")
