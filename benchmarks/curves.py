"""The loss of one training computed in each way: where the arithmetic changes, the curve has to stay.

    python benchmarks/plots.py [--out results/plots.json] [--figure docs/plots.svg] [--steps 200] [--data FILE]

SimCLR with a ResNet-18 of width 16 on views of 16 pixels, 128 images a batch: the same seed, so the same images, views and
initial weights, in each way that `--speed` knows. Writes the losses, each the mean of ten steps, and a figure.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

from unlabeled import plots
from unlabeled.data import open_data
from unlabeled.files import write_whole
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import Run, environment
from unlabeled.training import monitor
from unlabeled.training.train import train

ROOT = Path(__file__).resolve().parents[1]
WAYS = ["workers=1", "channels-last workers=1", "channels-last norms workers=1", "bf16 channels-last workers=1",
        "bf16 channels-last products workers=1", "bf16 channels-last products norms workers=1"]  # fmt: skip
MEAN = 10
LAYER = {"encoder": "resnet18", "encoder.width": 16, "kind.size": 16, "batch_size": 128, "epochs": 10}
LAYER["method.temperature"] = 0.2


def losses(way: str, data: str, steps: int) -> list[float]:
    """Means over ten steps each."""
    recipe = compose(LAYER, {"data": data, "speed": way, "monitor_every": 0})
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder) / "run")
        opened = open_data(data, kind=Choice("", {"size": 16}), seed=0)
        train(recipe, opened, run, {}, accelerator="cpu", watch=lambda step: step == steps)
        found = [line["loss"] for line in run.history if "loss" in line]
    return [statistics.mean(found[i : i + MEAN]) for i in range(0, len(found), MEAN)]


def main() -> None:
    """Trains in each way, writes both files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/plots.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/plots.svg"))
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--data", default=str(ROOT.parent / "shared/data/cifar10-train.parquet"))
    given = parser.parse_args()
    monitor.LOG_EVERY = 1
    found = {way: losses(way, given.data, given.steps) for way in WAYS}
    apart = {way: max(abs(a - b) for a, b in zip(found[way], found[WAYS[0]], strict=True)) for way in WAYS}
    about = {"environment": environment(), "settings": {**LAYER, "data": Path(given.data).name, "steps": given.steps}}
    about |= {"loss": found, "furthest_from_plain": apart}
    write_whole(given.out, lambda path: path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8"))
    names = {way: way.removesuffix(" workers=1").replace("workers=1", "plain float32") for way in WAYS}
    lines = {names[way]: [(MEAN * (i + 1), y) for i, y in enumerate(each)] for way, each in found.items()}
    plots.draw(given.figure, lines, x="step", y=f"loss, mean of {MEAN} steps", title="One training, computed in each way")
    for way, difference in apart.items():
        print(f"{way}: at most {difference:.3f} from plain float32, which ends at {found[WAYS[0]][-1]:.3f}")


if __name__ == "__main__":
    main()
