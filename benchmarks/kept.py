"""What keeping the memory of a step for the next one gains (`compute.speed.keep_memory`), on a processor with glibc.

    python benchmarks/kept.py [--out results/kept.json] [--batch 128] [--rounds 3] [--steps 6] [--threads 2]

SimCLR's step on noise of 32 pixels, as in `steps.py`, in the way that is usual here, for two widths of a ResNet-18; with
freed memory kept, and as the C library does by itself. Each measurement is a process of its own, they take turns, and the
ratio is of the medians; with it the pages that Linux had to hand out in a step, and the most memory that the process had.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from steps import USUAL, WIDTHS, noise, timed_steps

import unlabeled.training.train
from unlabeled.files import write_whole
from unlabeled.run import environment

WARM_UP = 4


def measured(width: int, kept: bool, given: argparse.Namespace) -> dict[str, Any]:
    """In this process."""
    torch.set_num_threads(given.threads)
    if not kept:
        unlabeled.training.train.keep_memory = lambda: None
    step = timed_steps(noise(given.batch), width, given.batch, USUAL)
    for _ in range(WARM_UP):
        step(given.batch)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    seconds = [step(given.batch) for _ in range(given.steps)]
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "width": width, "kept": kept, "median_s": statistics.median(seconds), "seconds": seconds,
        "pages_a_step": (used.ru_minflt - before) / given.steps, "peak_mib": used.ru_maxrss / 1024,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/kept.json"))
    for name, default in (("--batch", 128), ("--rounds", 3), ("--steps", 6), ("--threads", 2)):
        parser.add_argument(name, type=int, default=default)
    parser.add_argument("--one", nargs=2, type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measured(given.one[0], bool(given.one[1]), given)))
        return
    rows, ratios = [], {}
    for width in WIDTHS:
        for _ in range(given.rounds):
            for kept in (0, 1):
                command = [sys.executable, *sys.argv, "--one", str(width), str(kept)]
                told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                rows.append(json.loads(told.splitlines()[-1]))
                print(rows[-1], flush=True)
        medians = {
            kept: statistics.median(row["median_s"] for row in rows if (row["width"], row["kept"]) == (width, kept))
            for kept in (False, True)
        }
        ratios[str(width)] = medians[False] / medians[True]
        print(f"width {width}: {ratios[str(width)]:.2f} times as fast with the memory kept", flush=True)
    found = {"environment": environment(), "settings": {"batch": given.batch, "steps": given.steps, "way": USUAL},
             "rows": rows, "times_as_fast": ratios}  # fmt: skip
    write_whole(given.out, lambda path: path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8"))


if __name__ == "__main__":
    main()
