"""What the two stems of a ResNet learn of images of 64 px with the same work (`encoders.image.stem`).

    python benchmarks/stem.py DATA [--out results/stem.json] [--images 2500] [--width 8] [--epochs 3] [--seeds 2]

SimCLR on some images of DATA, evenly spread: with the small stem for some epochs, with the large one for as many more as
make the same number of multiply-adds. Judged on a held-out fifth by kNN and by a linear classifier, beside the networks
untrained.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import unlabeled
from unlabeled.data import open_data
from unlabeled.encoders.image import work
from unlabeled.files import write_whole
from unlabeled.registry import Choice
from unlabeled.run import environment


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("results/stem.json"))
    for name, default in (("--images", 2500), ("--width", 8), ("--epochs", 3), ("--batch", 64), ("--seeds", 2)):
        parser.add_argument(name, type=int, default=default)
    given = parser.parse_args()
    train = open_data(given.data, seed=None).train
    chosen = np.linspace(0, len(train) - 1, given.images).astype(np.int64)
    assert train.labels is not None
    arrays = train.fetch(chosen)["image"].permute(0, 2, 3, 1).numpy(), train.labels[chosen]
    size, choice = train.size, Choice("resnet18", {"width": given.width})
    works = {stem: work(choice, stem, train.channels, size) for stem in ("small", "large")}
    rows = []
    for seed in range(given.seeds):
        for stem in works:
            epochs = round(given.epochs * works["small"] / works[stem])
            rows.append({"stem": stem, "seed": seed, "epochs": epochs, **judged(arrays, stem, epochs, seed, given)})
            print(rows[-1], flush=True)
    found = {"environment": environment(), "data": train.name, "size": size, "images": given.images, "width": given.width,
             "multiply_adds": works, "rows": rows}  # fmt: skip
    write_whole(given.out, lambda path: path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8"))


def judged(arrays: Any, stem: str, epochs: int, seed: int, given: argparse.Namespace) -> dict[str, float]:
    """Top-1 accuracy of a run and of the network that it began with, by protocol."""
    with tempfile.TemporaryDirectory() as folder:
        run = unlabeled.pretrain(
            arrays, method="simclr", encoder="resnet18", optimizer="sgd", epochs=epochs, batch_size=given.batch, seed=seed,
            speed="channels-last workers=1", keep="last", out=Path(folder) / "run", accelerator="cpu",
            options={"encoder.width": given.width, "encoder.stem": stem, "views.scale": (0.2, 1.0)},
        )  # fmt: skip
        made = unlabeled.evaluate(run.path, data=arrays, protocol=["knn", "linear:C=1"], against=["random"])
    return {
        f"{subject} {protocol}": made.score(subject, "100%", protocol).mean("top1")
        for subject in ("run", "random")
        for protocol in ("knn", "linear:C=1")
    }


if __name__ == "__main__":
    main()
