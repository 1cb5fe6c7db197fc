"""Labels as users have them, integers or names with gaps, to indices into class names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlabeled.data.columns import column, spell
from unlabeled.data.reader import Listing
from unlabeled.errors import UserError

COLUMNS = ("label", "labels", "fine_label", "class", "target", "y")
"""Names, in lower case, by which a column of labels is known."""

FEW = 20
"""Different real numbers that may be classes, such as grades or magnifications; where there are more, they are measured."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Labels:
    """Which class each sample of a split is of.

    Attributes:
        values: (n,) int64 indices into `classes`, -1 where unlabelled; None if nothing is labelled.
        classes: names.
        column: that they come from; "" where they come from none.
        remark: why a column that seems to hold labels was not taken; "" for nothing to say.
    """

    values: Array | None = None
    classes: tuple[str, ...] = ()
    column: str = ""
    remark: str = ""


def labels_of(listing: Listing, label: str = "", like: Labels | None = None) -> Labels:
    """Returns the labels of a split.

    Args:
        listing: the split.
        label: the column that the user names; "" for the split's own labels, or the column that is known by its name.
        like: of the training split, by whose classes a test split is numbered.

    Raises:
        UserError: no such column, one that holds no classes, or a class that the training split does not have.
    """
    found = _own(listing) if not label else _labels(listing, label)
    if like is None or found.values is None:
        return found
    values = same_classes(like.classes, found.values, found.classes, listing.name) if like.classes else None
    return Labels(values, like.classes, found.column)


def _own(listing: Listing) -> Labels:
    if listing.labels is not None or not listing.columns:
        return Labels(listing.labels, listing.classes)
    name = listing.label or known(listing.columns)
    if not name:
        return Labels()
    values = listing.columns[name]
    if values.dtype.kind == "f" and _measured(values):
        return Labels(remark=_measurement(values, f"column {name!r}"))
    return _labels(listing, name, needed=False)


def _labels(listing: Listing, name: str, needed: bool = True) -> Labels:
    values = column(listing.columns, name, "--label", listing.name)
    called = f"{listing.name}: column {name!r}"
    numbers, classes = as_labels(values, listing.declared.get(name, ()), len(listing.reader), called)
    if needed and numbers is None:
        raise UserError(f"{called} has no value: give another --label")
    return Labels(numbers, classes, name)


def known(columns: Iterable[str]) -> str:
    """Returns the first of the names by which a column of labels is known, as it is written here; "" if there is none."""
    lower = {name.lower(): name for name in reversed(list(columns))}
    return next((lower[name] for name in COLUMNS if name in lower), "")


def as_labels(values: Any, classes: Sequence[str], n: int, name: str) -> tuple[Array | None, tuple[str, ...]]:
    """Returns the labels (n,) int64 with -1 where unlabelled, and class names.

    Args:
        values: n integers or strings, or a few different real numbers; None, NaN, "" or a negative integer is unlabelled.
        classes: names by label, if declared; otherwise they are the sorted values.
        n: number of images.
        name: what the message should call it.

    Returns:
        (None, ()) if nothing is labelled.

    Raises:
        UserError: another number of labels than images, another type, measured values, or a label without a class.
    """
    array = np.asarray(values)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise UserError(f"{name}: labels of shape {array.shape}; give one integer or name for each image")
    if len(array) != n:
        raise UserError(f"{name}: {len(array)} labels for {n} images: give one label for each image")
    if array.dtype.kind == "f" and _whole(array):
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
    if array.dtype.kind == "f":
        if _measured(array):
            raise UserError(f"{_measurement(array, name)}; give a column of names or whole numbers, or put them into bins")
        different = np.unique(array[~np.isnan(array)])
        return np.where(np.isnan(array), -1, np.searchsorted(different, array)), tuple(map(spell, different.tolist()))
    if array.dtype.kind in "USO":
        return _numbered([None if v is None or v == "" or v != v else v for v in array.tolist()], name)
    raise UserError(f"{name}: labels of type {array.dtype}; give integers or names")


def _whole(array: Array) -> bool:
    present = array[~np.isnan(array)]
    return bool((np.isfinite(present) & (np.floor(present) == present)).all())


def _measured(array: Array) -> bool:
    """Whether real numbers are too many different ones to be classes: more than `FEW`, or more than half of the samples."""
    if _whole(array):
        return False
    return len(np.unique(array[~np.isnan(array)])) > min(FEW, len(array) // 2)


def _measurement(array: Array, name: str) -> str:
    found = np.unique(array[~np.isnan(array)])
    return (
        f"{name} holds {len(found):,} different real numbers, from {found[0]:g} to {found[-1]:g}: a measurement, no classes"
    )


def _numbered(values: Sequence[Any], name: str) -> tuple[Array | None, tuple[str, ...]]:
    kinds = {type(v) for v in values if v is not None}
    if not kinds:
        return None, ()
    if len(kinds) > 1 or not kinds <= {int, str, bool}:
        listed = ", ".join(sorted(k.__name__ for k in kinds))
        raise UserError(f"{name}: labels of type {listed}; give integers or names, all alike")
    found = sorted({v for v in values if v is not None})
    number = {v: i for i, v in enumerate(found)} | {None: -1}
    return np.array([number[v] for v in values], np.int64), tuple(map(str, found))


def same_classes(train: tuple[str, ...], labels: Array | None, test: tuple[str, ...], name: str) -> Array | None:
    """Returns the labels of a test split, numbered by the class names of train.

    Raises:
        UserError: a test image has a class that train does not have.
    """
    if labels is None or train == test:
        return labels
    number = {c: i for i, c in enumerate(train)}
    strange = sorted({test[i] for i in np.unique(labels[labels >= 0])} - set(train))
    if strange:
        shown = ", ".join(repr(s) for s in strange[:3]) + (" ..." if len(strange) > 3 else "")
        raise UserError(f"{name}: its test split has class {shown} which train does not have: name classes alike in both")
    table = np.array([number.get(c, -1) for c in test] + [-1], np.int64)
    renumbered: Array = table[labels]
    return renumbered
