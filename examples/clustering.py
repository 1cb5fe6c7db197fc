"""Clustering: before each epoch DeepCluster groups the images by their features, and then learns to tell the groups apart.

python examples/clustering.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import unlabeled


def main(out: Path) -> dict[str, float]:
    """Returns how well k-means on the features agrees with the classes: normalised mutual information."""
    run = unlabeled.pretrain(
        "digits",
        recipe="digits/simclr",
        method="deepcluster",
        views="crop",  # one view of each image
        encoder="resnet9",
        epochs=10,
        batch_size=64,
        options={
            "method.clusters": 30,
            "views.scale": (0.6, 1.0),
            "encoder.width": 8,
            "optimizer.lr": 1.0,  # high: each epoch brings new clusters, and 22 steps to learn them in
        },
        out=out,
    )
    evaluation = unlabeled.evaluate(run.path, protocol=["clusters"], against=["random"])
    print(evaluation)
    return {
        "untrained": evaluation.score("random", "test labels", "clusters").mean("nmi"),
        "deepcluster": evaluation.score("run", "test labels", "clusters").mean("nmi"),
    }


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/clustering"])))
