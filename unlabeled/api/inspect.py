"""The verb that looks at data before any training: inspect. As light to import as `api`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.inspecting.inspect import Inspection


def inspect(
    data: Any,
    /,
    *,
    label: str | None = None,
    group: str | None = None,
    columns: str | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    kind: str | None = None,
    minutes: float = 30,
    clean: str | Path | None = None,
    out: str | Path = "inspect",
    root: str | Path | None = None,
    accelerator: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Inspection:
    """Look at data before any training: counts, sizes, copies, histograms, a contact sheet, and what to begin with.

    Every image is read once and compared with every other. A few steps are taken to see how fast this machine is.

    Args:
        data: images, as for `pretrain`, with or without labels.
        label: column of the classes, of a .csv with a header, of a Parquet file or of `columns` (default: one that is called
            label, class or the like; or the folders).
        group: column of what must not be divided between training and test images, such as patient, slide or speaker: whole
            values of it are held out (default: none).
        columns: pattern by which the names of files make columns, such as {digit}_{speaker}_{index}; or with folders,
            {patient}/{} (default: none).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        kind: of the samples, image or sound, where files of several lie together (default: found from the data).
        minutes: that the training to be suggested may take.
        clean: `.csv` to write: the list of the images that can be read, of exact and near copies, across splits and within,
            one alone; where one is in the test split, that one (default: none is written).
        out: folder for `inspect.json` and the pictures; files of these names in it are replaced.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps: what the suggestion is measured on.
        options: dotted options, of the kind of data only: `--range 0,4095` or `--kind.range 0,4095`; in Python
            `options={"kind.range": "0,4095"}`.

    Returns:
        What was found; `json()` is what `inspect.json` holds.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.inspecting.inspect import inspect as inspect_it
    from unlabeled.recipe import Roles

    roles = Roles().given(label=label, group=group, columns=columns, path=path, split=split, limit=limit)
    return inspect_it(
        data, roles=roles, kind=kind or "", minutes=minutes, clean=None if clean is None else Path(clean), out=Path(out),
        root=root, accelerator=accelerator, options=options or {},
    )  # fmt: skip
