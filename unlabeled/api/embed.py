"""The verb `embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def embed(
    run: str | Path,
    data: Any,
    /,
    *,
    out: str | Path,
    label: str | None = None,
    columns: str | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    root: str | Path | None = None,
    accelerator: str = "auto",
    batch_size: int = 512,
) -> Path:
    """Write the features of samples to a file.

    Args:
        run: folder of the run.
        data: samples, as for `pretrain`; labels and columns of text and numbers are copied where there are some.
        out: `.parquet` (columns index, path, split, label, embedding) or `.npz` (arrays of the same names). The data's own
            columns stand beside these, with data_ before a name that is taken.
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
        The file.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.exporting.embed import embed as embed_it

    return embed_it(
        run,
        data,
        Path(out),
        label=label,
        columns=columns,
        path=path,
        split=split,
        limit=limit,
        root=root,
        accelerator=accelerator,
        batch_size=batch_size,
    )
