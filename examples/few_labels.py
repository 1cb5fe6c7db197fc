"""Few labels: FixMatch learns from four labelled digits of each class and from all the others without labels.

It learns a classifier, whose sure predictions on weak views are what strong views are trained on. It begins once with noise
and once with what SimCLR learned without labels; that one then names the class of each image, in a file.

    python examples/few_labels.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import unlabeled


def main(out: Path) -> dict[str, float]:
    """Returns the accuracy of FixMatch's classifiers, and of one fitted on what SimCLR learned; writes `classes.csv`."""
    simclr = unlabeled.pretrain(
        "digits", recipe="digits/simclr", encoder="resnet9", epochs=8, batch_size=64, options={"encoder.width": 8},
        out=out / "simclr",
    )  # fmt: skip
    evaluation = unlabeled.evaluate(simclr.path, protocol=["linear:C=1"], labels=["4"], draws=5, against=["random"])
    found = {"simclr, linear": evaluation.score("run", "4", "linear").mean()}
    for name, start in {"from noise": None, "from simclr": simclr.path}.items():
        run = unlabeled.pretrain(
            "digits",
            method="fixmatch",
            encoder="resnet9",
            from_=start,
            labels="4",
            epochs=5,
            batch_size=56,
            image_size=16,
            ema=0.95,  # the average of some 20 steps, of 130 in all
            monitor_every=0,
            options={"method.threshold": 0.8, "encoder.width": 8},
            out=out / name.replace(" ", "-"),
        )
        evaluation = unlabeled.evaluate(run.path, protocol=["classifier"], against=["none"])
        print(evaluation)
        found[name] = evaluation.score("run", "no labels", "classifier").mean()
    predicted = unlabeled.predict(run.path, "digits", out=out / "classes.csv")
    print(*predicted.lines(), sep="\n")  # its file has the columns path, class, probability
    return found


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/few_labels"])))
