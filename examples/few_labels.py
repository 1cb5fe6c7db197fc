"""Few labels: FixMatch sees four labelled digits of each class beside all the others, and names the class of each image.

It learns a classifier, whose sure predictions on weak views are what strong views are trained on. It begins with what SimCLR
learned without labels. In these few passes, where the paper has thousands, it gets about as far as a linear classifier on
what SimCLR learned, and further than one on an untrained encoder.

    python examples/few_labels.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import unlabeled


def main(out: Path) -> dict[str, float]:
    """Returns the accuracy of linear classifiers and of FixMatch's, with four labels a class; writes `classes.csv`."""
    simclr = unlabeled.pretrain(
        "digits",
        recipe="digits/simclr",
        encoder="resnet9",
        epochs=10,
        batch_size=64,
        options={"encoder.width": 8},
        out=out / "simclr",
    )
    run = unlabeled.pretrain(
        "digits",
        method="fixmatch",
        encoder="resnet9",
        from_=simclr.path,
        labels="4",
        epochs=4,
        batch_size=56,  # and a seventh as many labelled ones beside them
        image_size=16,
        ema=0.95,  # about the last 20 of a hundred steps
        options={"optimizer.lr": 0.01, "encoder.width": 8},
        out=out / "fixmatch",
    )
    predicted = unlabeled.predict(run.path, "digits", out=out / "classes.csv")  # columns path, class, probability
    print(*predicted.lines(), sep="\n")

    linear = unlabeled.evaluate(simclr.path, protocol=["linear:C=1"], labels=["4"], draws=5, against=["random"])
    own = unlabeled.evaluate(run.path, protocol=["classifier"], against=["none"])
    print(linear, own, sep="\n")
    return {
        "untrained": linear.score("random", "4", "linear").mean(),
        "simclr": linear.score("run", "4", "linear").mean(),
        "fixmatch": own.score("run", "no labels", "classifier").mean(),
    }


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/few_labels"])))
