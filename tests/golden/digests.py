"""Digests of the weights that ten short runs end with, printed as JSON: a refactoring shows the same bits.

Uses nothing but `unlabeled.pretrain`, so that it runs on any version of the package; `compare.py` runs it on two.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
import tempfile
from pathlib import Path

METHODS = ("simclr", "moco-v2", "byol", "swav", "deepcluster", "pcl", "npid", "pirl", "dino", "supervised")
LESS = {"queue": 256, "prototypes": 64, "clusters": "20", "hidden": 128, "negatives": 512, "noise": 256, "dim": 64}
"""Values that make a method quick, where it has the option."""


def digits(folder: Path) -> Path:
    """Writes scikit-learn's digits with a test split, so that what a version holds out of data without one plays no part."""
    import numpy as np
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = np.rint(bunch.images * (255 / 16)).astype(np.uint8), bunch.target.astype(np.int64)
    np.savez(folder / "digits.npz", x_train=x[:1438], y_train=y[:1438], x_test=x[1438:], y_test=y[1438:])
    return folder / "digits.npz"


def digest(method: str, folder: Path) -> str:
    """Trains three epochs of the digits in float32, with papers' settings, as defaults change between versions; digests the
    tensors that result, whatever their names."""
    import torch

    import unlabeled
    from unlabeled import registry

    known = registry.get("methods", method).options()
    options = {f"method.{name}": value for name, value in LESS.items() if name in known}
    paper = {"paper": True} if "paper" in inspect.signature(unlabeled.pretrain).parameters else {}
    run = unlabeled.pretrain(
        folder / "digits.npz", method=method, encoder="resnet10t", epochs=3, batch_size=128, image_size=16, precision="32",
        seed=3, speed="workers=1", monitor_every=0, out=folder / method, accelerator="cpu",
        options={**options, "encoder.width": 8}, **paper,
    )  # fmt: skip
    state = torch.load(run.path / "checkpoint.pt", weights_only=True)
    each = [
        hashlib.sha256(value.contiguous().numpy().tobytes()).hexdigest()
        for part in (state["method"], run.encoder().state_dict())
        for value in part.values()
    ]
    return hashlib.sha256("".join(sorted(each)).encode()).hexdigest()[:24]


def main() -> None:
    """One JSON object: method to digest."""
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["UNLABELED_CACHE"] = f"{folder}/cache"
        digits(Path(folder))
        found = {method: digest(method, Path(folder)) for method in sys.argv[1:] or METHODS}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
