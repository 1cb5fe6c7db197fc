"""The verb that looks at data before any training: inspect. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, takes_data

if TYPE_CHECKING:
    from unlabeled.inspecting.inspect import Inspection


@takes_data
def inspect(
    data: Any,
    /,
    *,
    minutes: float = 30,
    clean: str | Path | None = None,
    out: str | Path = "inspect",
    accelerator: str = "auto",
    **about: Unpack[About],
) -> Inspection:
    """Look at data before any training: counts, sizes, copies, histograms, a contact sheet, and what to begin with.

    Every image is read once and compared with every other. A few steps are taken to see how fast this machine is.

    Args:
        data: images, as for `pretrain`, with or without labels.
        minutes: that the training to be suggested may take.
        clean: `.csv` to write: the list of the images that can be read, of exact and near copies, across splits and within,
            one alone; where one is in the test split, that one (default: none is written).
        out: folder for `inspect.json` and the pictures; files of these names in it are replaced.
        accelerator: auto, cpu, cuda, mps: what the suggestion is measured on.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        What was found; `json()` is what `inspect.json` holds.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.inspecting.inspect import inspect as inspect_it

    return inspect_it(
        data, minutes=minutes, clean=None if clean is None else Path(clean), out=Path(out), accelerator=accelerator,
        about=about,
    )  # fmt: skip
