"""What a tree of files means: splits, classes, labels. Pure functions of relative paths, for folders and zips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unlabeled.data.reader import Listing, Reader, Splits
from unlabeled.errors import UserError

_TRAIN = frozenset({"train", "training"})
_TEST = frozenset({"test", "testing"})
_VAL = frozenset({"val", "valid", "validation"})

Labelled = tuple["np.ndarray[Any, Any] | None", tuple[str, ...]]


def listings(paths: Sequence[str], kind: str, reader: Callable[[Sequence[str]], Reader], name: str) -> Splits:
    """The splits of a tree of files.

    Args:
        paths: relative, sorted.
        kind: of the samples.
        reader: makes the reader of some of them.
        name: of the data.

    Raises:
        UserError: a class of the test split that train does not have.
    """
    train, test = split_paths(paths, name)
    labels, classes = label_paths(train)
    listing = Listing(name, reader(train), labels, classes, kind)
    if test is None:
        return listing, None
    test_labels, test_classes = label_paths(test)
    renumbered = same_classes(classes, test_labels, test_classes, name) if classes else None
    return listing, Listing(name, reader(test), renumbered, classes, kind)


def split_paths(paths: Sequence[str], name: str) -> tuple[list[str], list[str] | None]:
    """Separates relative paths into those of `train/` and those of `test/` (or `val/`), inside any wrapping folders.

    The tree has splits if one of its top folders is named `train` and the others `test` or `val`. Of these two the first
    that has class folders is the test set. Without splits all paths are train, and test is None.

    Raises:
        UserError: folders beside `train/` and `test/`: taken as classes, they would bring the test images into training.
    """
    start = len(_wrapper(paths))
    groups: dict[str, list[str]] = {}
    for path in paths:
        parts = path.split("/")
        if len(parts) > start + 1:
            groups.setdefault(parts[start].lower(), []).append(path)
    train = [p for name in groups if name in _TRAIN for p in groups[name]]
    others = sorted(set(groups) - _TRAIN - _TEST - _VAL)
    if train and others and set(groups) & (_TEST | _VAL):
        raise UserError(
            f"{name}: beside its train and test folders there is {others[0]!r}: move it away, or write train=PATH,test=PATH"
        )
    if not train or others:
        return list(paths), None
    tests = [[p for name in groups if name in names for p in groups[name]] for names in (_TEST, _VAL)]
    found = [t for t in tests if t]
    labelled = [t for t in found if any(p.count("/") > start + 1 for p in t)]
    return train, next(iter(labelled or found), None)


def label_paths(paths: Sequence[str]) -> Labelled:
    """Labels (n,) and class names of relative paths: the class is the first folder below those that all paths share.

    Files beside class folders are unlabelled (-1). One folder only, or none, is no class: (None, ()).
    """
    start = len(_wrapper(paths))
    names = [parts[start] if len(parts := p.split("/")) > start + 1 else "" for p in paths]
    classes = tuple(sorted(set(names) - {""}))
    if len(classes) < 2:
        return None, ()
    number = {name: i for i, name in enumerate(classes)} | {"": -1}
    return np.array([number[n] for n in names], np.int64), classes


def same_classes(
    train: tuple[str, ...], labels: np.ndarray[Any, Any] | None, test: tuple[str, ...], name: str
) -> np.ndarray[Any, Any] | None:
    """Labels of a test split, numbered by the class names of train.

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
    renumbered: np.ndarray[Any, Any] = table[labels]
    return renumbered


def _wrapper(paths: Sequence[str]) -> list[str]:
    """The folders that all paths share."""
    if not paths:
        return []
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    shared = [a == b for a, b in zip(first, last, strict=False)] + [False]
    return first[: shared.index(False)]
