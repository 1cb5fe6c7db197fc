"""Columns of the data: how many values each has, and which look like groups that a split tears apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unlabeled.data import Source
from unlabeled.data.columns import numbered, shared
from unlabeled.words import counted

_KNOWN = (
    "patient subject person participant individual animal donor case study exam slide wsi block specimen biopsy tissue core "
    "speaker singer talker voice session recording site hospital clinic centre center institution lab scanner camera device "
    "microscope day date night week batch plate well run video movie clip sequence scene track flight tile field plot user "
    "author rater"
)
GROUPS = frozenset(_KNOWN.split(" "))
"""Words by which a column is known for a group: those whose samples have a body, a place, a time or an instrument in common,
as splits by patient, slide, speaker or batch are made in the respective fields."""

FEWEST = 5
"""Values of a group of which a fifth can be held out."""

HOLDS = {"O": "names", "f": "real numbers", "b": "true or false"}
"""By NumPy's kind of type; all others are whole numbers."""


@dataclass(frozen=True, slots=True)
class Described:
    """What is in a column.

    Attributes:
        name: of it.
        holds: names, whole numbers, real numbers, or true or false.
        values: how many distinct ones each split has.
        shared: how many of those of the test split are in train, too; None without a test split that has the column.
        torn: how many test samples have one of these; None likewise.
        label: whether the classes are taken from it.
        group: whether it looks like a group.
        gaps: samples without a value, in all splits.
    """

    name: str
    holds: str
    values: Mapping[str, int]
    shared: int | None
    torn: int | None
    label: bool
    group: bool
    gaps: int

    def json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return asdict(self)


def describe(sources: Mapping[str, Source]) -> list[Described]:
    """Looks at every column of the training split, which comes first."""
    train, *rest = sources.values()
    columns = train.columns
    codes = {name: numbered(values) for name, values in columns.items()}
    likely = {name for name, (which, values) in codes.items() if _is_likely(train, name, which, len(values))}
    found = []
    for name, values in columns.items():
        counts, both, torn = {next(iter(sources)): len(codes[name][1])}, None, None
        gaps = int((codes[name][0] < 0).sum())
        if rest and name in rest[0].columns:
            common, counts["test"], torn = shared(values, rest[0].columns[name])
            both = len(common)
            gaps += int((numbered(rest[0].columns[name])[0] < 0).sum())
        found.append(Described(name, _holds(values), counts, both, torn, name == train.label, name in likely, gaps))
    return found


def advised(found: list[Described], train: Source) -> str | None:
    """Returns the column to hold out by: of those that look like groups and have `FEWEST` values or more, if any has, the
    one that holds whole values of the others; None where nothing looks like a group."""
    codes = {one.name: numbered(train.columns[one.name]) for one in found if one.group}
    enough = {name for name, (_, values) in codes.items() if len(values) >= FEWEST} or codes.keys()
    outer = [a for a in codes if a in enough and not any(_inside(codes[a], codes[b]) for b in enough if b != a)]
    return outer[0] if outer else None


def warnings(found: list[Described], sources: Mapping[str, Source]) -> list[str]:
    """Tells which columns look like groups that the given split tears apart; or one that is drawn at random would."""
    train, *rest = sources.values()
    nouns, said = train.kind.nouns, []
    best = advised(found, train)
    for one in sorted((one for one in found if one.group), key=lambda one: -next(iter(one.values.values()))):
        count = next(iter(one.values.values()))
        if not rest and one.name == best:
            said.append(
                f"{one.name!r} looks like a group ({counted(count, 'values')}, "
                f"{counted(len(train) / count, nouns, form=',.0f')} each in the mean): "
                f"{nouns} of one value would be trained on and judged on. Give --group {one.name}, and values are held out "
                "as wholes."
            )
        elif rest and one.shared:
            said.append(
                f"{one.name!r} looks like a group that the split tears apart: {one.shared:,} of the {one.values['test']:,} "
                f"values in the test split, with {one.torn:,} of its {counted(len(rest[0]), nouns)}, are in train as "
                f"well, and figures say little of new ones. Give all {nouns} as one, with --group {one.name}."
            )
    return said


def _holds(values: np.ndarray) -> str:
    """What a column holds, in words: whole numbers with gaps are kept as real ones."""
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    whole = values.dtype.kind == "f" and len(known) < len(values) and bool((known == np.round(known)).all())
    return "whole numbers" if whole else HOLDS.get(values.dtype.kind, "whole numbers")


def _is_likely(train: Source, name: str, which: np.ndarray, count: int) -> bool:
    """Names or whole numbers, some samples to a value, and either a word for it or a single class to every value."""
    if _holds(train.columns[name]) in (HOLDS["f"], HOLDS["b"]) or name == train.label or not 2 <= count <= len(train) / 2:
        return False
    if _names_files(train, name):
        return False  # sides go by the content of files, whose parts are together as it is
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    if any(word in GROUPS or word.removesuffix("s") in GROUPS for word in words):
        return True
    if train.labels is None:
        return False
    known = (which >= 0) & (train.labels >= 0)
    classes, sizes = len(np.unique(train.labels[known])), np.bincount(which[known])
    if not 2 <= classes < count or np.median(sizes[sizes > 0]) < 2:
        return False
    return _determines(which[known], train.labels[known])


def _names_files(train: Source, name: str) -> bool:
    """Whether the column holds the file of each sample, or the number of a part in its file, as those of tiles and pages."""
    values = train.columns[name].tolist()
    paths = [train.path(i) for i in range(len(values))]
    whole = all(path == value or path.startswith(f"{value}[") for path, value in zip(paths, values, strict=True))
    return whole or any(path.endswith(f"[{name} {value}]") for path, value in zip(paths, values, strict=True))


def _determines(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether equal values of a, (n,) integers, have equal values of b."""
    pairs = np.unique(np.stack([a, b]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(a)))


def _inside(a: tuple[np.ndarray, list[str]], b: tuple[np.ndarray, list[str]]) -> bool:
    """Whether each value of a lies in one of b, which are fewer."""
    return len(b[1]) < len(a[1]) and _determines(a[0], b[0])
