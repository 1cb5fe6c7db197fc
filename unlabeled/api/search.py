"""The verb that looks for similar samples: search. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.evaluating.search import Found


def search(
    run: str | Path,
    image: str | Path | int,
    /,
    *,
    data: Any = None,
    label: str | None = None,
    columns: str | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    k: int = 10,
    out: str | Path = "search.png",
    root: str | Path | None = None,
    accelerator: str = "auto",
) -> Found:
    """Find the samples of a data set that are most similar to one of its kind, by the cosine of their features.

    Args:
        run: folder of the run.
        image: a file, or the number of a sample of the data. One of the data is not found itself. Numbers begin with 0
            and go on from the training to the test samples, as in the table that this prints and in what `evaluate` draws;
            write ./7 for a file 7.
        data: samples to search, as for `pretrain`, of all splits; they need no labels (default: the run's own data).
        label: column of the classes, as for `pretrain` (default: the run's, where the data have it).
        columns: pattern by which the names of files make columns, as for `pretrain` (default: the run's, where it fits).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        k: how many to find, at most.
        out: PNG file to draw them in.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.

    Returns:
        What was found, the most similar first; `lines()` is the table.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.evaluating.search import search as search_it

    return search_it(
        run,
        image,
        data=data,
        label=label,
        columns=columns,
        path=path,
        split=split,
        limit=limit,
        k=k,
        out=Path(out),
        root=root,
        accelerator=accelerator,
    )
