"""The verb that looks for samples unlike the others: outliers. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, takes_data

if TYPE_CHECKING:
    from unlabeled.evaluating.outliers import Outliers


@takes_data
def outliers(
    run: str | Path,
    data: Any = None,
    /,
    *,
    n: int = 50,
    k: int = 5,
    out: str | Path = "outliers.csv",
    accelerator: str = "auto",
    **about: Unpack[About],
) -> Outliers:
    """Find the samples that are least like the others: candidates for defects, mistakes and mislabelled files.

    They are ranked by 1 - the mean cosine of their features to the nearest others; beside that stand two detectors of
    scikit-learn on the same features. No label is used; where there are some, it is said how well each score tells a class
    from the others (AUROC).

    Args:
        run: folder of the run.
        data: samples, as for `pretrain`, of all splits (default: the run's own data).
        n: how many to draw and to show.
        k: neighbours that a sample is compared with (default: 5, ours).
        out: CSV file of all samples, the least alike first, or a folder for `outliers.csv`; a picture of the first n lies
            beside it, as PNG.
        accelerator: auto, cpu, cuda, mps.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        What was found, the least alike first; `lines()` is the tables.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.evaluating.outliers import outliers as find_them

    return find_them(run, data, n=n, k=k, out=Path(out), accelerator=accelerator, about=about)
