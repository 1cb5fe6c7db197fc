"""Metric learning: a triplet network sees labels, and is judged on digits that it has never seen.

python examples/metric.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import unlabeled


def main(out: Path) -> dict[str, float]:
    """Trains on seven classes; returns figures for the other three."""
    run = unlabeled.pretrain(
        "digits",
        recipe="digits/simclr",
        method="triplet",
        views="crop",  # one view of each image: its class is what it has in common with others
        encoder="resnet9",
        hold_out_classes=3,  # drawn by the seed; kept out of training, images and labels
        epochs=10,
        batch_size=64,
        options={"views.scale": (0.6, 1.0), "encoder.width": 8},
        out=out,
    )
    evaluation = unlabeled.evaluate(
        run.path, protocol=["verification", "few-shot:ways=3,shots=1,episodes=100"], against=["random", "pixels"]
    )
    print(evaluation)
    scores = {name: evaluation.score("run", "new classes", name) for name in ("verification", "few-shot")}
    return {f"{name} {figure}": score.mean(figure) for name, score in scores.items() for figure in score.metrics}


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/metric"])))
