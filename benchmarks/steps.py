"""Where a training step's time goes, and the share it reaches of what the processor can do.

    python benchmarks/steps.py [--out results/steps.json] [--batch 128] [--rounds 5] [--threads 2]

The rate of matrix products in float32 and bfloat16, the best of several sizes, stands for the machine's peak; it is taken
before and after the steps of a width, and the better one counts, as the speed of shared machines drifts.
SimCLR's step is taken on noise of 32 pixels, for two widths of a ResNet-18, in the ways that `--speed` knows: the median,
the rate of the encoder's floating-point operations (three times those of its forward pass, as PyTorch counts them), and its
share of the peak in the way's precision. Ways take turns, so that a machine whose speed drifts slows all of them. Last, each
kind of operation's share of the step in the way that is usual here, by `torch.profiler`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from unlabeled.compute.speed import Speed, usual
from unlabeled.data import Source, open_data
from unlabeled.files import write_whole
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import environment
from unlabeled.training.setup import make_fabric
from unlabeled.training.timed_steps import TimedSteps

WIDTHS, SIDE, VIEWS = (16, 64), 32, 2
WAYS = ["workers=1", "channels-last workers=1", "bf16 workers=1", "bf16 channels-last workers=1",
        "channels-last norms workers=1", "bf16 channels-last products workers=1",
        "bf16 channels-last products norms workers=1", "bf16 channels-last products norms fused workers=1"]  # fmt: skip
USUAL = str(usual(torch.device("cpu")))
COMPILED = ["channels-last compiled workers=1", "bf16 channels-last products compiled workers=1"]
PRODUCTS = (512, 1024, 2048, 4096)
KINDS = {
    "convolution": ("convolution",),
    "batch norm": ("batch_norm", "Normalised"),
    "matrix products": ("addmm", "aten::mm", "matmul", "bmm"),
    "optimizer": ("_foreach", "_fused", "Optimizer"),
    "casts and copies": ("copy_", "clone", "cat"),
    "activations and sums": ("relu", "threshold", "clamp", "add", "mean", "sum", "mul"),
}
"""What the names of a kind's operations contain; the first kind that fits has it, and `other` the rest."""


def peak(half: bool, rounds: int) -> float:
    """GFLOP/s of the fastest matrix product."""
    kind = torch.bfloat16 if half else torch.float32
    best = 0.0
    for n in PRODUCTS:
        a, b = torch.randn(n, n).to(kind), torch.randn(n, n).to(kind)
        a @ b
        for _ in range(rounds):
            start = time.perf_counter()
            a @ b
            best = max(best, 2 * n**3 / (time.perf_counter() - start) / 1e9)
    return best


def peaks(rounds: int) -> dict[str, int]:
    """GFLOP/s in each precision, at this moment."""
    found = {name: round(peak(name == "bf16", rounds)) for name in ("32", "bf16")}
    print(f"peak: {found['32']} GFLOP/s in float32, {found['bf16']} in bf16", flush=True)
    return found


def noise(count: int) -> Source:
    """Images of random bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.npz"
        np.savez(path, x=np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))
        return open_data(path, kind=Choice("", {"size": SIDE})).train


def timed_steps(source: Source, width: int, batch: int, way: str) -> TimedSteps:
    """SimCLR's step on them."""
    recipe = compose({"method": "simclr", "encoder.width": width, "kind.size": SIDE, "batch_size": batch, "speed": way})
    return TimedSteps(recipe, source, make_fabric(recipe, "cpu", 1), Speed.parse(way))


def operations(step: TimedSteps, batch: int) -> float:
    """Floating-point operations of the encoder in one step."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        step.module.encoder(torch.zeros(2, 3, SIDE, SIDE))
    return 3 * counter.get_total_flops() / 2 * VIEWS * batch


def kinds(step: TimedSteps, batch: int, rounds: int) -> dict[str, float]:
    """Each kind's share of the time that operations take themselves, largest first."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(rounds):
            step(batch)
    found: dict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        fitting = (kind for kind, parts in KINDS.items() if any(part in event.key for part in parts))
        found[next(fitting, "other")] += event.self_cpu_time_total
    total = sum(found.values())
    return {kind: round(t / total, 3) for kind, t in sorted(found.items(), key=lambda pair: -pair[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/steps.json"))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    seen = [peaks(given.rounds)]
    source = noise(given.batch)
    steps: list[dict[str, Any]] = []
    shares = {}
    for width in WIDTHS:
        made = {way: timed_steps(source, width, given.batch, way) for way in {*WAYS, *COMPILED, USUAL}}
        first = {way: step(given.batch) for way, step in made.items()}
        for step in made.values():
            step(given.batch)  # compiles, and chooses kernels
        taken: dict[str, list[float]] = {way: [] for way in made}
        for _ in range(given.rounds):
            for way, step in made.items():
                taken[way].append(step(given.batch))
        seen.append(peaks(given.rounds))
        best = {name: max(found[name] for found in seen[-2:]) for name in seen[0]}
        work = operations(made[WAYS[0]], given.batch)
        for way, seconds in sorted(taken.items(), key=lambda pair: -statistics.median(pair[1])):
            median = statistics.median(seconds)
            rate = work / median / 1e9
            part = rate / best["bf16" if "bf16" in way else "32"]
            steps.append({"width": width, "way": way, "first_s": first[way], "median_s": median, "seconds": seconds,
                          "images_s": given.batch / median, "gflop_s": rate, "share_of_peak": part})  # fmt: skip
            print(f"width {width}, {way}: {given.batch / median:.0f} images/s, {rate:.0f} GFLOP/s, {part:.0%}", flush=True)
        shares[str(width)] = kinds(made[USUAL], given.batch, given.rounds)
        print(
            f"width {width}, {USUAL}: " + ", ".join(f"{kind} {s:.0%}" for kind, s in shares[str(width)].items()), flush=True
        )
    found = {"environment": environment(), "settings": {"batch": given.batch, "rounds": given.rounds, "side": SIDE},
             "peak_gflop_s": seen, "steps": steps, "usual": USUAL, "shares": shares}  # fmt: skip
    write_whole(given.out, lambda path: path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8"))


if __name__ == "__main__":
    main()
