"""The verb that looks for samples unlike the others: outliers. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.evaluating.outliers import Outliers


def outliers(
    run: str | Path,
    data: Any = None,
    /,
    *,
    n: int = 50,
    k: int = 5,
    label: str | None = None,
    columns: str | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    out: str | Path = "outliers.csv",
    root: str | Path | None = None,
    accelerator: str = "auto",
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
        label: column of the classes, as for `pretrain` (default: the run's, where the data have it).
        columns: pattern by which the names of files make columns, as for `pretrain` (default: the run's, where it fits).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        out: CSV file of all samples, the least alike first; a picture of the first n lies beside it, as PNG.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.

    Returns:
        What was found, the least alike first; `lines()` is the tables.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.evaluating.outliers import outliers as find_them

    return find_them(
        run, data, n=n, k=k, label=label, columns=columns, path=path, split=split, limit=limit, out=Path(out), root=root,
        accelerator=accelerator,
    )  # fmt: skip
