"""Labels as users have them, integers or names with gaps, to indices into class names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlabeled.data.columns import column, spell
from unlabeled.data.reader import Listing
from unlabeled.errors import UserError
from unlabeled.words import counted

COLUMNS = (
    "label", "labels", "fine_label", "class", "target", "y", "category", "class_name", "label_name", "category_name",
    "class_id", "label_id", "category_id",
)  # fmt: skip
"""Names, in lower case, by which a column of labels is known."""

FEW = 20
"""Different real numbers that may be classes, such as grades or magnifications; where there are more, they are measured. And
different values of any sort, of which each may have a single sample."""

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


def labels_of(listing: Listing, label: str = "", like: Labels | None = None, needed: bool = True) -> Labels:
    """Returns the labels of a split.

    Args:
        listing: the split.
        label: the column that the user names; "" for the split's own labels, or the column that is known by its name.
        needed: whether that column has to hold classes.
        like: of the training split, by whose classes a test split is numbered, and then by others that it has.

    Raises:
        UserError: no such column, or one that holds no classes.
    """
    found = _labels(listing, label) if label and needed else _own(listing, label)
    if like is None or found.values is None:
        return found
    if not like.classes:
        return Labels(column=found.column)
    values, classes = same_classes(like.classes, found.values, found.classes)
    return Labels(values, classes, found.column)


def _own(listing: Listing, label: str) -> Labels:
    if not label and (listing.labels is not None or not listing.columns):
        return Labels(listing.labels, listing.classes, remark=listing.unlabelled)
    name = label or listing.label or known(listing.columns)
    if not name:
        return Labels(remark=listing.unlabelled)
    if name not in listing.declared and (why := no_classes(listing.columns[name], f"column {name!r}")):
        return Labels(remark=why)
    return _labels(listing, name, needed=False)


def _labels(listing: Listing, name: str, needed: bool = True) -> Labels:
    values = column(listing.columns, name, "--label", listing.name)
    called = f"{listing.name}: column {name!r}"
    if values.dtype.kind in "iu" and name not in listing.declared and (why := no_classes(values, called)):
        raise UserError(f"{why}; give a column of names, or put them into bins")
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
        raise UserError(f"{name}: {counted(len(array), 'labels')} for {counted(n, 'images')}: give one label for each image")
    if array.dtype.kind == "f" and _whole(array):
        array = np.where(np.isnan(array), -1, array).astype(np.int64)
    if array.dtype.kind in "iub":
        number = array.astype(np.int64)
        number[number < 0] = -1
        if (number < 0).all():
            return None, ()
        if classes:
            if number.max() >= len(classes):
                raise UserError(
                    f"{name}: label {number.max()} but only {counted(len(classes), 'class names')}: correct either"
                )
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


def own_labels(values: Any, classes: Sequence[str], n: int, name: str) -> tuple[Array | None, tuple[str, ...], str]:
    """Returns what `as_labels` does of labels that come with the samples, or none and why they are no classes.

    Raises:
        UserError: another number of labels than samples, or a label without a class.
    """
    try:
        array = np.asarray(values)
    except ValueError:  # several a sample, of some more than of others
        array = np.fromiter(values, object, len(values))
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if (
        array.ndim
        and len(array) == n
        and not classes
        and (why := no_classes(array, f"what comes with the samples of {name}"))
    ):
        return None, (), why
    return (*as_labels(array, classes, n, name), "")


def too_many(classes: int, labelled: int) -> bool:
    """Tells whether values are too many to be classes: more than `FEW`, and fewer than two samples of each in the mean."""
    return classes > FEW and 2 * classes > labelled


def no_classes(values: Array, name: str) -> str:
    """Says why values (n, ...) are no classes: measured ones, several a sample, or almost as many as there are samples; ""
    where they may be."""
    if values.ndim > 1:
        return f"{name} has {counted(math.prod(values.shape[1:]), 'values')} a sample, and one is a class"
    if values.dtype.kind == "f":
        if _measured(values):
            return _measurement(values, name)
        values = values[~np.isnan(values)]
    if values.dtype.kind == "O":
        values = np.array([v for v in values.tolist() if v is not None and v != "" and v == v], object)
        if strange := {type(v).__name__ for v in values.tolist() if not isinstance(v, str | int | float)}:
            return f"{name} is of type {', '.join(sorted(strange))}, and a whole number or a name is a class"
    if values.dtype.kind in "iu":
        values = values[values >= 0]
    distinct = len(set(values.tolist()))
    if not too_many(distinct, len(values)):
        return ""
    if values.dtype.kind in "iuf":
        return _measurement(values, name)
    return (
        f"{name} holds {counted(distinct, 'different names')} for {counted(len(values), 'samples')}: too many to be classes"
    )


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
    real = "real " * (array.dtype.kind == "f")
    return (
        f"{name} holds {len(found):,} different {real}numbers, from {found[0]:g} to {found[-1]:g}: a measurement, no classes"
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


def same_classes(train: tuple[str, ...], labels: Array, test: tuple[str, ...]) -> tuple[Array, tuple[str, ...]]:
    """Returns the labels of a test split, numbered by the class names of train and, after these, by those of test that train
    does not have; and all these names."""
    if train == test:
        return labels, train
    strange = sorted({test[i] for i in np.unique(labels[labels >= 0])} - set(train))
    classes = (*train, *strange)
    number = {c: i for i, c in enumerate(classes)}
    table = np.array([number.get(c, -1) for c in test] + [-1], np.int64)
    return table[labels], classes
