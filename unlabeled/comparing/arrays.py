"""Data that were given in Python, for the processes that train rows: a file in the folder of the table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from unlabeled.data.formats.arrays import channels_last, write_npz
from unlabeled.errors import UserError
from unlabeled.files import write_whole

ARRAYS = "data.npz"


def name_for_rows(data: Any, out: Path) -> Any:
    """Returns what rows are told of the data: a path or a name as it is, of arrays the file that `hand_over` writes.

    Raises:
        UserError: something that no file of arrays holds.
    """
    if data is None or isinstance(data, str | Path):
        return data if data is None else str(data)
    if not isinstance(data, tuple | Mapping):
        raise UserError(
            f"data of type {type(data).__name__}: rows train in processes of their own, which do not see it: give "
            "(images, labels), a dict of arrays, a path or a name"
        )
    return str(out / ARRAYS)


def hand_over(data: Any, out: Path) -> None:
    """Writes arrays where rows look for them; nothing of other data, and nothing that is there.

    Raises:
        UserError: the file cannot be written.
    """
    path = out / ARRAYS
    if not isinstance(data, tuple | Mapping) or path.is_file():
        return
    named = dict(zip(("x", "y"), data, strict=True)) if isinstance(data, tuple) else data
    arrays: dict[str, Any] = {str(name): _plain(values) for name, values in named.items()}
    write_whole(path, lambda at: write_npz(at, arrays))


def _plain(values: Any) -> np.ndarray[Any, Any]:
    """As `.npz` holds it without pickles: tensors of images with channels last, mixed labels as text."""
    if isinstance(values, Tensor):
        array = values.detach().cpu().numpy()
        return channels_last(array, usual="first") if array.ndim == 4 else array
    array = np.asarray(values)
    return array if array.dtype != object else np.array(["" if v is None or v != v else str(v) for v in array.tolist()])
