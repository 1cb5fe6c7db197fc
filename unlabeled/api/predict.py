"""The verb `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.exporting.predict import Predicted


def predict(
    run: str | Path,
    data: Any,
    /,
    *,
    out: str | Path = "predictions.csv",
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    root: str | Path | None = None,
    accelerator: str = "auto",
    batch_size: int = 512,
) -> Predicted:
    """Write the class of each sample, and its probability, to a file.

    Args:
        run: folder of a run that has a classifier: of `supervised` or `fixmatch`, or one that `evaluate --keep` wrote.
        data: samples, as for `pretrain`; labels are not needed.
        out: `.csv` (columns path, class, probability).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.
        batch_size: samples at a time.

    Returns:
        The file, and how many samples of each class it names.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.exporting.predict import predict as predict_it

    return predict_it(
        run, data, Path(out), path=path, split=split, limit=limit, root=root, accelerator=accelerator, batch_size=batch_size
    )
