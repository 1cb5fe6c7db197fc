"""A masked autoencoder: a small ViT sees a quarter of the patches, and predicts what the others look like.

The report shows what it makes of hidden patches, under "What the method makes".

    python examples/masked.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import unlabeled

VIT = {"patch_size": 4, "depth": 2, "embed_dim": 64, "num_heads": 4, "weight_init": "jax"}
DECODER = {"width": 64, "depth": 1, "heads": 4}


def main(out: Path) -> dict[str, float]:
    """Returns the accuracy of kNN, before and after; writes `report.html`."""
    run = unlabeled.pretrain(
        "digits",
        method="mae",
        encoder="vit_tiny_patch16_224",  # any ViT of timm, here with options that leave little of it
        epochs=15,
        batch_size=64,
        image_size=16,  # 16 patches of 4 px
        whiten=True,  # what differs from image to image lies along few directions of h
        precision="32",  # so small a network gains nothing from bf16
        monitor_every=0,
        options={
            **{f"encoder.{name}": value for name, value in VIT.items()},
            **{f"method.{name}": value for name, value in DECODER.items()},
            "views.patch_size": 4,
            "views.scale": (0.6, 1.0),
            "optimizer.lr": 6e-3,
        },
        out=out,
    )
    evaluation = unlabeled.evaluate(run.path, protocol=["knn"], against=["random"])
    print(evaluation)
    print(unlabeled.report(run.path))
    return {
        "untrained": evaluation.score("random", "100%", "knn").mean(),
        "mae": evaluation.score("run", "100%", "knn").mean(),
    }


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/masked"])))
