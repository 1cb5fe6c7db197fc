"""What a tree of files means: splits, classes, labels. Pure functions of relative paths, for folders and zips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unlabeled.data.columns import printable
from unlabeled.data.labels import too_many
from unlabeled.data.reader import Listing, Reader, Splits, some
from unlabeled.errors import UserError
from unlabeled.words import counted

FOLDER = "folder"
"""The column of folders that are no classes."""
TRAIN = frozenset({"train", "training"})
TEST = frozenset({"test", "testing"})
VAL = frozenset({"val", "valid", "validation"})

Labelled = tuple["np.ndarray[Any, Any] | None", tuple[str, ...]]


def listings(paths: Sequence[str], kind: str, reader: Callable[[Sequence[str]], Reader], name: str) -> Splits:
    """Returns the splits of a tree of files.

    Args:
        paths: relative, sorted.
        kind: of the samples.
        reader: makes the reader of some of them.
        name: of the data.
    """
    train, test = split_paths(paths, name)
    unused = unused_paths(paths, train, test or [])
    listing = replace(_listing(train, kind, reader, name), remarks=(f"{name}: {unused}.",) if unused else ())
    return listing, None if test is None else _listing(test, kind, reader, name)


def _listing(paths: Sequence[str], kind: str, reader: Callable[[Sequence[str]], Reader], name: str) -> Listing:
    """Of one split. Folders of hardly more than one file each are no classes, but what belongs together."""
    labels, classes = label_paths(paths)
    if labels is None or not too_many(len(classes), int((labels >= 0).sum())):
        return Listing(name, reader(paths), labels, classes, kind)
    folders = np.array([*classes, ""], object)[labels]
    why = (
        f"{counted(len(classes), 'folders')} with {counted(int((labels >= 0).sum()), 'files')} are too many for "
        "classes; each is kept together where samples are held out, and --label folder makes classes of them all the same"
    )
    return Listing(name, reader(paths), None, (), kind, columns={FOLDER: folders}, group=FOLDER, unlabelled=why)


def unused_paths(paths: Sequence[str], train: Sequence[str], test: Sequence[str]) -> str:
    """Says which files are of neither split; "" if all are of one."""
    used = {*train, *test}
    left = [path for path in paths if path not in used]
    if not left:
        return ""
    start = len(_wrapper(paths))
    beside = sorted({path.split("/")[start] + "/" * (path.count("/") > start) for path in left})
    words = "files that are not used; train=PATH,test=PATH says which are"
    return f"{some(beside)} beside train/ and test/: {len(left):,} {words}"


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
    train = [p for name in groups if name in TRAIN for p in groups[name]]
    others = sorted(set(groups) - TRAIN - TEST - VAL)
    if train and others and set(groups) & (TEST | VAL):
        raise UserError(
            f"{name}: beside its train and test folders there is {others[0]!r}: move it away, or write train=PATH,test=PATH"
        )
    if not train or others:
        return list(paths), None
    tests = [[p for name in groups if name in names for p in groups[name]] for names in (TEST, VAL)]
    found = [t for t in tests if t]
    labelled = [t for t in found if any(p.count("/") > start + 1 for p in t)]
    return train, next(iter(labelled or found), None)


def label_paths(paths: Sequence[str]) -> Labelled:
    """Returns the labels (n,) and class names of relative paths: the class is the first folder below those that all paths
    share.

    Files beside class folders are unlabelled (-1). One folder only, or none, is no class: (None, ()).
    """
    start = len(_wrapper(paths))
    names = [printable(parts[start]) if len(parts := p.split("/")) > start + 1 else "" for p in paths]
    classes = tuple(sorted(set(names) - {""}))
    if len(classes) < 2:
        return None, ()
    number = {name: i for i, name in enumerate(classes)} | {"": -1}
    return np.array([number[n] for n in names], np.int64), classes


def _wrapper(paths: Sequence[str]) -> list[str]:
    """The folders that all paths share."""
    if not paths:
        return []
    first, last = min(paths).split("/")[:-1], max(paths).split("/")[:-1]
    shared = [a == b for a, b in zip(first, last, strict=False)] + [False]
    return first[: shared.index(False)]
