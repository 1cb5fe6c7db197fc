"""The verb `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, takes_data

if TYPE_CHECKING:
    from unlabeled.exporting.predict import Predicted


@takes_data
def predict(
    run: str | Path,
    data: Any,
    /,
    *,
    out: str | Path = "predictions.csv",
    accelerator: str = "auto",
    batch_size: int = 512,
    **about: Unpack[About],
) -> Predicted:
    """Write the class of each sample, and its probability, to a file.

    Args:
        run: folder of a run that has a classifier: of `supervised` or `fixmatch`, or one that `evaluate --keep` wrote.
        data: samples, as for `pretrain`; labels are not needed.
        out: `.csv` (columns path, class, probability).
        accelerator: auto, cpu, cuda, mps.
        batch_size: samples at a time.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The file, and how many samples of each class it names.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.exporting.predict import predict as predict_it

    return predict_it(run, data, Path(out), accelerator=accelerator, batch_size=batch_size, about=about)
