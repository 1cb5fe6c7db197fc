"""The verb `embed`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def embed(
    run: str | Path,
    data: Any,
    /,
    *,
    out: str | Path | None = None,
    label: str | None = None,
    columns: str | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    root: str | Path | None = None,
    accelerator: str = "auto",
    batch_size: int = 512,
) -> Path | dict[str, np.ndarray[Any, Any]]:
    """Write the features of samples to a file.

    Samples that cannot be read have no row; they are listed in NAME-skipped.csv beside the file.

    Args:
        run: folder of the run.
        data: samples, as for `pretrain`; labels and columns of text and numbers are copied where there are some.
        out: `.parquet` (columns index, path, split, label, class, embedding), `.csv` (likewise, with columns h0, h1, ... of
            features), `.npz` (arrays of the same names) or `.npy` (the features alone). `class` is the name or value
            that the data have, `label` its number. The data's own columns stand beside these, with data_ before a name that
            is taken. In Python without a file, these arrays are returned.
        label: column of the classes, as for `pretrain` (default: the run's, where the data have it).
        columns: pattern by which the names of files make columns, as for `pretrain` (default: the run's, where it fits).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.
        batch_size: samples at a time.

    Returns:
        The file; or the arrays, by the names of the columns.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.exporting.embed import embed as embed_it

    return embed_it(
        run,
        data,
        None if out is None else Path(out),
        label=label,
        columns=columns,
        path=path,
        split=split,
        limit=limit,
        root=root,
        accelerator=accelerator,
        batch_size=batch_size,
    )
