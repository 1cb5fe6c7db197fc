"""What is learned without an option: each method by default and with `--paper`, beside an untrained encoder, on seven sets.

    python benchmarks/defaults.py DATA [--sets digits ...] [--methods simclr ...] [--out results/defaults]

DATA is a folder with cifar10, breast-patches-96, flowers-128 and tiny50-64 as `NAME-train.parquet` and `NAME-test.parquet`;
fashion-mnist is a named set (`--root`), digits are scikit-learn's, solar cells the package `elpv-dataset`'s, if installed
(defective where its probability is above a half; scaled to 96 px, a fifth of them drawn for the test). Of cifar10,
fashion-mnist and tiny50-64 a seeded part is trained on. Every run has one thread, float32, the same passes over the data and
a narrow network: up to 64 px a ResNet-9 of width 16 and 128 features, beyond that a ResNet-18 of width 16. What is not said
here is the program's own choice, with `--keep last`, as choosing an epoch by labels would hide what a setting does. Each row
is a file, and a row that is there is not trained again; the table has all that are there. Figures are top-1 accuracies in
percent, of a linear classifier unless said; differences are paired, with 95% intervals.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image

import unlabeled
from unlabeled.data import open_data
from unlabeled.files import write_whole
from unlabeled.probes.paired import apart
from unlabeled.recipe import difference
from unlabeled.registry import Choice
from unlabeled.run import environment

METHODS = ("simclr", "moco-v2", "moco-v3", "byol", "simsiam", "swav", "barlow", "vicreg", "dino", "pirl")
"""The ten most used of those that compare views, by the peers' model lists."""
RELATIVES = ("debiased", "hard-negatives", "moco-v1", "mochi")
"""Those that share their defaults with one of these; only made where `--methods` names them."""
PROTOCOLS = ("knn", "linear:C=1")
UNTRAINED = "random"


@dataclass(frozen=True)
class Set:
    """A part of some data: numbers of images for training and test, None for all; passes over them; and side in pixels."""

    train: int | None
    test: int | None
    epochs: int
    size: int

    @property
    def encoder(self) -> Choice:
        """A network of 128 features."""
        return Choice("resnet18", {"width": 16}) if self.size > 64 else Choice("resnet9", {"width": 16, "features": 128})


SETS = {
    "digits": Set(None, None, 40, 16),
    "cifar10": Set(5000, 2000, 20, 32),
    "fashion-mnist": Set(5000, 2000, 20, 28),
    "breast-patches-96": Set(None, None, 12, 96),
    "flowers-128": Set(None, None, 10, 128),
    "elpv": Set(None, None, 20, 96),
    "tiny50-64": Set(5000, 2500, 10, 64),
}
"""Passes are those of one to five minutes on one core, but for methods with wide heads."""


def prepare(name: str, given: argparse.Namespace, folder: Path) -> str:
    """Writes the part of a set that is used, and returns it as `pretrain` takes it."""
    if name == "digits":
        return name
    made = {}
    for split, (pixels, labels) in _splits(name, given).items():
        wanted = getattr(SETS[name], split)
        chosen = np.sort(np.random.default_rng(0).permutation(len(labels))[: wanted or len(labels)])
        made[split] = folder / f"{name}-{split}.npz"
        np.savez(made[split], x=pixels[chosen], y=labels[chosen])
    return ",".join(f"{split}={path}" for split, path in made.items())


def _splits(name: str, given: argparse.Namespace) -> dict[str, tuple[Any, Any]]:
    if name == "elpv":
        return _solar_cells()
    if name == "fashion-mnist":
        data = open_data(name, kind=Choice(""), root=given.root, seed=0)
        splits = {"train": data.train, "test": data.test}
        return {k: (s.fetch(np.arange(len(s)))["image"].numpy()[:, 0], s.labels) for k, s in splits.items() if s}
    return {split: _parquet(given.data / f"{name}-{split}.parquet") for split in ("train", "test")}


def _parquet(path: Path) -> tuple[Any, Any]:
    table = pq.read_table(path)
    images = [Image.open(io.BytesIO(image["bytes"])).convert("RGB") for image in table["image"].to_pylist()]
    return np.stack([np.asarray(image) for image in images]), table["label"].to_numpy()


def _solar_cells() -> dict[str, tuple[Any, Any]]:
    from elpv_dataset.utils import load_dataset

    images, probabilities, _ = load_dataset()
    side = SETS["elpv"].size
    scaled = (Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC) for image in images)
    pixels = np.stack([np.asarray(image) for image in scaled])
    order = np.random.default_rng(0).permutation(len(pixels))
    cut = len(order) // 5
    parts = {"train": order[cut:], "test": order[:cut]}
    return {split: (pixels[part], (probabilities[part] > 0.5).astype(np.int64)) for split, part in parts.items()}


def row(name: str, data: str, method: str, paper: bool, given: argparse.Namespace) -> dict[str, Any]:
    """Trains and judges."""
    size, began = SETS[name], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        options = {f"encoder.{key}": value for key, value in size.encoder.options.items()}
        run = unlabeled.pretrain(
            data, method=method, encoder=size.encoder.name, epochs=0 if method == UNTRAINED else size.epochs,
            image_size=size.size, precision="32", speed="channels-last workers=1", monitor_every=0, seed=given.seed,
            paper=paper, keep="last", accelerator="cpu", out=Path(folder) / "run", root=given.root, options=options,
        )  # fmt: skip
        minutes = (time.perf_counter() - began) / 60
        unlabeled.evaluate(run.path, protocol=PROTOCOLS, against=(), accelerator="cpu")
        scores = json.loads((run.path / "evaluation.json").read_text(encoding="utf-8"))["scores"]
        kept = ("protocol", "metrics", "intervals", "each", "guess")
        recipe = {**run.recipe.to_dict(), "data": name}
    return {
        "set": name, "method": method, "setting": "paper" if paper else "default", "minutes": minutes, "recipe": recipe,
        "scores": {s["protocol"]: {k: s[k] for k in kept} for s in scores},
        "environment": {k: v for k, v in environment().items() if k != "command"},  # which has places of one machine
    }  # fmt: skip


def rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Reads or makes every row, the untrained encoder of a set first."""
    for name in given.sets:
        if name == "elpv" and not importlib.util.find_spec("elpv_dataset"):
            print("elpv: left out, as the package elpv-dataset is not installed")
            continue
        with tempfile.TemporaryDirectory() as folder:
            data = ""
            wanted = [(UNTRAINED, False), *((method, paper) for method in given.methods for paper in (False, True))]
            for method, paper in wanted:
                path = given.out / name / f"{method}{'-paper' * paper}.json"
                if not path.is_file():
                    data = data or prepare(name, given, Path(folder))
                    written(path, json.dumps(row(name, data, method, paper, given), indent=1) + "\n")
                yield json.loads(path.read_text(encoding="utf-8"))


def there(out: Path) -> list[dict[str, Any]]:
    """Reads all rows that were made, in the order of sets and methods."""
    names = [f"{method}{paper}" for method in (UNTRAINED, *METHODS, *RELATIVES) for paper in ("", "-paper")]
    paths = [out / name / f"{row}.json" for name in SETS for row in names]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()]


def written(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda p: p.write_text(text, encoding="utf-8"))


def table(found: list[dict[str, Any]]) -> str:
    """Markdown: per set and method the accuracy untrained, with the paper's settings and by default, of a linear classifier
    and of nearest neighbours; then how often a default is as good as the paper's setting, and better than no training."""
    by = {(r["set"], r["method"], r["setting"]): r for r in found}
    lines = [
        "| set | method | untrained | `--paper` | default | default less paper | less untrained | kNN of the three |",
        "|---|---|---|---|---|---|---|---|",
    ]
    counts: dict[str, list[tuple[float, float]]] = {}
    for (name, method, setting), ours in by.items():
        paper, start = by.get((name, method, "paper")), by.get((name, UNTRAINED, "default"))
        if setting == "default" and method != UNTRAINED and paper and start:
            gaps = [_gap(ours, theirs) for theirs in (paper, start)]
            three = (start, paper, ours)
            cells = [*map(_top1, three), *(f"{gap:+.1f} ± {width:.1f}" for gap, width in gaps)]
            lines.append(f"| {name} | {method} | {' | '.join(cells)} | {', '.join(_top1(r, 'knn') for r in three)} |")
            counts.setdefault(method, []).append((gaps[0][0] + gaps[0][1], gaps[1][0]))
    lines += ["", "| method | sets | at least as good as `--paper` | better than untrained |", "|---|---|---|---|"]
    for method, gaps_of in counts.items():
        as_good, better = (sum(gap > 0 for gap in column) for column in zip(*gaps_of, strict=True))
        lines.append(f"| {method} | {len(gaps_of)} | {as_good} | {better} |")
    return "\n".join(lines)


def _top1(row: dict[str, Any], protocol: str = "linear") -> str:
    return f"{100 * row['scores'][protocol]['metrics']['top1'][0]:.1f}"


def _gap(ours: dict[str, Any], theirs: dict[str, Any]) -> tuple[float, float]:
    gap, width = apart(*(tuple(r["scores"]["linear"]["each"]) for r in (ours, theirs)))
    return 100 * gap, 100 * width


def main() -> None:
    """Makes what is missing, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--root", default=None, help="folder of fashion-mnist's files")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--methods", nargs="*", default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/defaults"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    for one in rows(given):
        told = difference(unlabeled.recipe.compose(one["recipe"]), unlabeled.recipe.compose({"method": one["method"]}))
        print(f"{one['set']} {one['method']} {one['setting']}: linear {_top1(one)}; {told}", flush=True)
        about = str(__doc__).rpartition("\n\n")[2]
        written(given.out / "README.md", f"# Defaults beside papers' settings\n\n{about}\n{table(there(given.out))}\n")


if __name__ == "__main__":
    main()
