"""Does pretraining help? One encoder, few labels and many, beside raw pixels and the same network untrained.

python examples/judging.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import unlabeled


def main(out: Path) -> str:
    """Returns the answer in one sentence; writes `report.html`, one page that needs no network."""
    run = unlabeled.pretrain(
        "digits", recipe="digits/simclr", encoder="resnet9", epochs=10, batch_size=64, options={"encoder.width": 8}, out=out
    )
    evaluation = unlabeled.evaluate(
        run.path,
        protocol=["knn", "linear:C=1"],
        labels=["1", "10%", "100%"],  # one image of each class, a tenth of all, all
        draws=3,  # class-balanced draws of the labels, for a mean and its spread
        against=["random", "pixels"],
    )
    print(evaluation)
    for subject in ("pixels", "random", "run"):
        score = evaluation.score(subject, "1", "linear")
        print(f"{subject}: {score.mean():.3f} ± {score.spread():.3f} with one label a class, over {score.draws} draws")
    print(unlabeled.report(run.path))
    return evaluation.answer or ""


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/judging"])))
