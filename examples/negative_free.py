"""Learning without negatives: VICReg keeps its dimensions apart, so that views may agree and not collapse.

Nothing pushes images apart here, so collapse is what to watch for: `health` compares the spread and the rank of the
embeddings with those of the untrained network, and needs no label. `byol`, `simsiam` and `barlow` take its place by name.

    python examples/negative_free.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import unlabeled


def main(out: Path) -> dict[str, float]:
    """Returns measures of health, and the accuracy of a linear classifier with one label of each class."""
    run = unlabeled.pretrain(
        "digits",
        recipe="digits/simclr",
        method="vicreg",
        encoder="resnet9",
        epochs=10,
        batch_size=64,
        options={"method.hidden": 256, "method.dim": 256, "encoder.width": 8},
        out=out,
    )
    evaluation = unlabeled.evaluate(run.path, protocol=["health", "linear:C=1"], labels=["1"], draws=5, against=["random"])
    print(evaluation)
    health = evaluation.score("run", "no labels", "health")
    found = {name: health.mean(name) for name in health.metrics}
    found["untrained"] = evaluation.score("random", "1", "linear").mean()
    return found | {"vicreg": evaluation.score("run", "1", "linear").mean()}


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/negative_free"])))
