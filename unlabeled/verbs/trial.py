"""How long a step of a recipe takes here: a throw-away training of some steps, in a process of its own."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.recipe import compose, read
from unlabeled.run import Run
from unlabeled.train import train

WARM_UP, MEASURED = 5, 20
"""Steps before the clock is read first, and between then and the last reading."""


class Watch:
    """Reads the clock before each step, and after what the method does before an epoch."""

    def __init__(self) -> None:
        self.readings: list[tuple[int, float]] = []

    def __call__(self, step: int) -> bool:
        """Whether enough was seen."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.readings.append((step, time.perf_counter()))
        return step >= WARM_UP + MEASURED

    def result(self) -> dict[str, float]:
        """Seconds of a step, and of the preparation of an epoch."""
        first: dict[int, float] = {}
        last: dict[int, float] = {}
        for step, at in self.readings:
            first.setdefault(step, at)
            last[step] = at
        steps = [first[step + 1] - last[step] for step in sorted(first) if step + 1 in first]
        prepared = [
            last[step] - first[step] for step, count in Counter(step for step, _ in self.readings).items() if count > 1
        ]
        measured = steps[WARM_UP:]
        return {"step_s": sum(measured) / len(measured), "prepare_s": sum(prepared) / max(1, len(prepared))}


def measure(recipe_file: Path, out: Path, root: str | None, accelerator: str) -> None:
    """Writes to `out` what a step of the recipe takes."""
    recipe = compose(read(recipe_file), {"epochs": WARM_UP + MEASURED + 1, "warmup_epochs": None})
    data = open_data(recipe.data, image_size=recipe.image_size, root=root, seed=recipe.seed)
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        train(recipe, data, Run(Path(folder) / "trial"), {}, accelerator=accelerator, watch=watch)
    out.write_text(json.dumps(watch.result()), encoding="utf-8")


if __name__ == "__main__":
    try:
        measure(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] or None, sys.argv[4])
    except UserError as error:
        sys.exit(f"unlabeled: error: {error}")
