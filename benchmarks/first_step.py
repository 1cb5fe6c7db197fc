"""Seconds from the start of a process to the first step of a training, in stages, as JSON; `benchmarks/large.py` calls it.

    python benchmarks/first_step.py DATA OUT

The process imports what `unlabeled pretrain` does; then come listing, the check of samples, the first batch, and
a SimCLR step of a narrow ResNet-18.
"""

from __future__ import annotations

import time

START = time.perf_counter()

import json  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from unlabeled.cli import import_libraries  # noqa: E402

import_libraries()

import unlabeled.training.pretrain  # noqa: E402, F401
from unlabeled.data import open_data  # noqa: E402
from unlabeled.recipe import compose  # noqa: E402
from unlabeled.run import Run  # noqa: E402
from unlabeled.training.train import train  # noqa: E402


def first_step(data: Path, out: Path) -> dict[str, float]:
    """Seconds from the process's start to each stage."""
    after = {"imported": time.perf_counter() - START}
    opened = open_data(data)
    after["open"] = time.perf_counter() - START
    opened.train.seen(range(256))
    after["first batch"] = time.perf_counter() - START
    recipe = compose({"data": str(data), "kind.size": 32, "encoder.width": 16, "epochs": 1, "batch_size": 256})
    train(recipe, opened, Run(out), {}, accelerator="cpu", watch=lambda step: step == 1)
    after["first step"] = time.perf_counter() - START
    return after


if __name__ == "__main__":
    print(json.dumps(first_step(*map(Path, sys.argv[1:3]))))
