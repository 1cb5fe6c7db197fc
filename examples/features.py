"""Features for other tools: in a Parquet file, and at the head of a scikit-learn pipeline.

python examples/features.py [FOLDER]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline

import unlabeled
from unlabeled.sklearn import Embedder


def main(out: Path) -> float:
    """Returns the accuracy of the pipeline on a quarter of the digits."""
    run = unlabeled.pretrain(
        "digits",
        recipe="digits/simclr",
        encoder="resnet9",
        epochs=10,
        batch_size=64,
        options={"encoder.width": 8},
        out=out / "run",
    )
    table = pyarrow.parquet.read_table(unlabeled.embed(run.path, "digits", out=out / "digits.parquet"))
    print(table.schema)  # index, path, split, label, embedding

    x, y = load_digits(return_X_y=True)  # rows of 64 values, taken as 8×8 images
    seen, unseen, labels, truth = train_test_split(x, y, test_size=0.25, random_state=0, stratify=y)
    pipeline = make_pipeline(Embedder(run=run.path), LogisticRegression(max_iter=2000))
    pipeline.fit(seen, labels)
    print(np.bincount(pipeline.predict(unseen)))
    return float(pipeline.score(unseen, truth))


if __name__ == "__main__":
    print(main(Path(*sys.argv[1:] or ["runs/features"])))
