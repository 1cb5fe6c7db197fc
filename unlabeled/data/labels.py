"""Labels as users have them, integers or names with gaps, to indices into class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unlabeled.errors import UserError

COLUMNS = ("label", "labels", "fine_label", "class", "target", "y")
"""Names, in lower case, by which a column of labels is known."""


def as_labels(values: Any, classes: Sequence[str], n: int, name: str) -> tuple[np.ndarray[Any, Any] | None, tuple[str, ...]]:
    """Labels (n,) int64 with -1 where unlabelled, and class names.

    Args:
        values: n integers or strings; None, NaN, "" or a negative number is unlabelled.
        classes: names by label, if declared; otherwise they are the sorted values.
        n: number of images.
        name: what the message should call it.

    Returns:
        (None, ()) if nothing is labelled.

    Raises:
        UserError: another number of labels than images, another type, or a label without a class.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UserError(f"{name}: labels of shape {array.shape}; give one integer or name for each image")
    if len(array) != n:
        raise UserError(f"{name}: {len(array)} labels for {n} images: give one label for each image")
    if array.dtype.kind == "f" and np.array_equal(array[~np.isnan(array)] % 1, np.zeros((~np.isnan(array)).sum())):
        array = np.where(np.isnan(array), -1, array).astype(np.int64)
    if array.dtype.kind in "iub":
        number = array.astype(np.int64)
        number[number < 0] = -1
        if (number < 0).all():
            return None, ()
        if classes:
            if number.max() >= len(classes):
                raise UserError(f"{name}: label {number.max()} but only {len(classes)} class names: correct either")
            return number, tuple(classes)
        found = np.unique(number[number >= 0])
        return np.where(number < 0, -1, np.searchsorted(found, number)), tuple(map(str, found.tolist()))
    if array.dtype.kind in "USO":
        return _numbered([None if v is None or v == "" or v != v else v for v in array.tolist()], name)
    raise UserError(f"{name}: labels of type {array.dtype}; give integers or names")


def _numbered(values: Sequence[Any], name: str) -> tuple[np.ndarray[Any, Any] | None, tuple[str, ...]]:
    kinds = {type(v) for v in values if v is not None}
    if not kinds:
        return None, ()
    if len(kinds) > 1 or not kinds <= {int, str, bool}:
        listed = ", ".join(sorted(k.__name__ for k in kinds))
        raise UserError(f"{name}: labels of type {listed}; give integers or names, all alike")
    found = sorted({v for v in values if v is not None})
    number = {v: i for i, v in enumerate(found)} | {None: -1}
    return np.array([number[v] for v in values], np.int64), tuple(map(str, found))
