"""The verb that looks at data before any training: inspect. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.inspecting.inspect import Inspection


def inspect(
    data: Any,
    /,
    *,
    minutes: float = 30,
    out: str | Path = "inspect",
    root: str | Path | None = None,
    accelerator: str = "auto",
) -> Inspection:
    """Look at data before any training: counts, sizes, copies, histograms, a contact sheet, and what to begin with.

    Every image is read once and compared with every other. A few steps are taken to see how fast this machine is.

    Args:
        data: images, as for `pretrain`, with or without labels.
        minutes: that the training to be suggested may take.
        out: folder for `inspect.json` and the pictures; files of these names in it are replaced.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps: what the suggestion is measured on.

    Returns:
        What was found; `json()` is what `inspect.json` holds.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.inspecting.inspect import inspect as inspect_it

    return inspect_it(data, minutes=minutes, out=Path(out), root=root, accelerator=accelerator)
