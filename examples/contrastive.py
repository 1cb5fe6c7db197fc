"""Contrastive learning: SimCLR takes its negatives from the batch, MoCo from a queue of earlier keys.

The queue is for batches too small to hold enough negatives, and for trainings longer than this one, in which the momentum
encoder hardly gets going.

    python examples/contrastive.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import unlabeled

METHODS = {
    "simclr": {"method.temperature": 0.5},
    "moco": {"method.temperature": 0.1, "method.queue": 512, "method.momentum": 0.99},
}
"""With the options that a small set of data asks for: `unlabeled methods moco` lists all of them."""


def main(out: Path) -> dict[str, float]:
    """Trains each method; returns the accuracy of a linear classifier that sees one label of each class."""
    found = {}
    for method, options in METHODS.items():
        run = unlabeled.pretrain(
            "digits",
            recipe="digits/simclr",  # a packaged one, for its views, which never mirror a digit
            method=method,
            encoder="resnet9",
            epochs=10,
            batch_size=64,
            options={**options, "encoder.width": 8},
            out=out / method,
        )
        evaluation = unlabeled.evaluate(run.path, protocol=["linear:C=1"], labels=["1"], draws=5, against=["random"])
        print(evaluation)
        found["untrained"] = evaluation.score("random", "1", "linear").mean()
        found[method] = evaluation.score("run", "1", "linear").mean()
    return found


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/contrastive"])))
