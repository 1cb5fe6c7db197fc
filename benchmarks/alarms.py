"""When is a training said to go wrong, and is it? Every method by its own recipe, and hurt.

    python benchmarks/alarms.py [--out results/alarms.json] [--data digits ...] [--epochs 8] [--batch 128] [--only byol ...]

Short trainings of a narrow ResNet-10 (of `mae` a small ViT) on one thread, heads and banks bounded: as the method has it,
with a hundred times its learning rate, and with images that are all one. A row holds the first alarm and the last, and kNN
accuracy within the training split before and after, which no alarm sees. Rows that the file has are kept.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import unlabeled
from unlabeled.data import Data, open_data
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.recipe import compose
from unlabeled.registry import Entry, get, names
from unlabeled.run import Run, environment

MOST = {"hidden": 512, "dim": 512, "queue": 1024, "negatives": 1024, "noise": 1024, "prototypes": 256, "clusters": "50"}
"""Bounds of options, where a method has them."""
HURT = {"as it is": {}, "100 times the rate": {"rate": 100}, "one image": {"one": True}}
IMAGES = 2000


def arrays(data: Data) -> tuple[Any, Any]:
    """Takes images of both splits: of the training split alone nothing would be held out once more."""
    pixels, labels = zip(*(_all(split) for split in (data.train, data.test) if split), strict=True)
    chosen = np.random.default_rng(0).permutation(sum(map(len, labels)))[:IMAGES]
    return np.concatenate(pixels)[chosen], np.concatenate(labels)[chosen]


def _all(split: Any) -> tuple[Any, Any]:
    return split.seen(np.arange(len(split))).permute(0, 2, 3, 1).numpy(), split.labels


def preferred(entry: Entry, encoder: str, paper: Any) -> Any:
    return entry.preferred(encoder)


def trained(method: str, data: Any, out: Path, given: argparse.Namespace, *, rate: float = 1, one: bool = False) -> Run:
    recipe, known = compose({"method": method}, usual=preferred), get("methods", method).options()
    small = {k: bound if isinstance(bound, str) else min(bound, known[k].default) for k, bound in MOST.items() if k in known}
    network = "vit_tiny_patch16_224" if "vit" in recipe.encoder.name else "resnet10t"
    shape = {"embed_dim": 96, "depth": 4} if "vit" in network else {"width": 8, **recipe.encoder.options}
    options = {f"method.{k}": v for k, v in small.items()} | {f"encoder.{k}": v for k, v in shape.items()}
    if rate != 1:
        options["optimizer.lr"] = rate * recipe.optimizer.options["lr"]
    images, y = data
    if one:
        images = np.repeat(images[:1], len(images), 0)
    return unlabeled.pretrain(
        (images, y), method=method, encoder=network, out=out, epochs=1 if one else given.epochs, batch_size=given.batch,
        monitor_every=0 if one else 1, precision="32", speed="channels-last workers=1", accelerator="cpu", options=options,
    )  # fmt: skip


def row(method: str, name: str, hurt: str, data: Any, given: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        failed = ""
        try:
            trained(method, data, Path(folder) / "run", given, **HURT[hurt])
        except UserError as error:
            failed = str(error).partition(";")[0]
        history = Run(Path(folder) / "run").history
    alarms, looks = [x for x in history if "alarm" in x], [x for x in history if "h_std" in x or "alarm" in x]
    knn = [x["knn"] for x in history if "knn" in x]
    said = {"first": {k: alarms[0][k] for k in ("step", "alarm")} if alarms else None}
    said["last"] = looks[-1].get("alarm") if looks else None
    return {
        "method": method, "data": name, "run": hurt, "failed": failed, **said,
        "steps": history[-1]["step"] if history else 0,
        "knn_first_epoch": knn[0] if knn else None, "knn": knn[-1] if knn else None,
        "h": [[x["step"], x["h_std"], x["h_dims"]] for x in looks if "h_std" in x],
        "z": [[x["step"], x["z_std"], x["z_rank"]] for x in history if "z_std" in x],
    }  # fmt: skip


def asked(given: argparse.Namespace) -> Iterator[tuple[str, str, str]]:
    for name in given.data:
        for method in given.only or names("methods"):
            if "image" in getattr(get("methods", method).make, "sees", ("image",)) and method != "random":
                yield from ((method, name, hurt) for hurt in given.runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/alarms.json"))
    parser.add_argument("--data", nargs="+", default=["digits"])
    parser.add_argument("--only", nargs="+", default=[])
    parser.add_argument("--runs", nargs="+", default=list(HURT), choices=list(HURT))
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=128)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = json.loads(given.out.read_text(encoding="utf-8"))["rows"] if given.out.is_file() else []
    opened: dict[str, Any] = {}
    for method, name, hurt in asked(given):
        short = Path(name).stem
        if any((x["method"], x["data"], x["run"]) == (method, short, hurt) for x in rows):
            continue
        if name not in opened:
            opened[name] = arrays(open_data(name, seed=0))
        rows.append(row(method, short, hurt, opened[name], given))
        about = {"environment": environment() | {"command": ["python", "benchmarks/alarms.py"]}, "rows": rows}
        write_whole(given.out, lambda p, about=about: p.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8"))
        print(f"{method}, {short}, {hurt}: {rows[-1]['last'] or rows[-1]['failed'] or 'nothing'}", flush=True)


if __name__ == "__main__":
    main()
