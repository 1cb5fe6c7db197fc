"""Columns of the data: how many values each has, and which look like groups that a split tears apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from unlabeled.data import Source
from unlabeled.data.columns import numbered, shared

_KNOWN = (
    "patient subject person participant individual animal donor case study exam slide wsi block specimen biopsy tissue core "
    "speaker singer talker voice session recording site hospital clinic centre center institution lab scanner camera device "
    "microscope day date night week batch plate well run video movie clip sequence scene track flight tile field plot user "
    "author rater"
)
GROUPS = frozenset(_KNOWN.split(" "))
"""Words by which a column is known for a group: those whose samples have a body, a place, a time or an instrument in common,
as splits by patient, slide, speaker or batch are made in the respective fields."""

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
        group: whether it looks like a group, and no other one holds whole values of it.
    """

    name: str
    holds: str
    values: Mapping[str, int]
    shared: int | None
    torn: int | None
    label: bool
    group: bool

    def json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return asdict(self)


def describe(sources: Mapping[str, Source]) -> list[Described]:
    """Looks at every column of the training split, which comes first."""
    train, *rest = sources.values()
    columns = train.columns
    codes = {name: numbered(values) for name, values in columns.items()}
    likely = [name for name, (which, values) in codes.items() if _is_likely(train, name, which, len(values))]
    outer = [a for a in likely if not any(_inside(codes[a], codes[b]) for b in likely if b != a)]
    found = []
    for name, values in columns.items():
        counts, both, torn = {next(iter(sources)): len(codes[name][1])}, None, None
        if rest and name in rest[0].columns:
            common, counts["test"], torn = shared(values, rest[0].columns[name])
            both = len(common)
        holds = HOLDS.get(values.dtype.kind, "whole numbers")
        found.append(Described(name, holds, counts, both, torn, name == train.label, name in outer))
    return found


def warnings(found: list[Described], sources: Mapping[str, Source]) -> list[str]:
    """Tells which columns look like groups that the given split tears apart; or one that is drawn at random would."""
    train, *rest = sources.values()
    nouns, said = train.kind.nouns, []
    for one in (one for one in found if one.group):
        count = next(iter(one.values.values()))
        if not rest:
            said.append(
                f"{one.name!r} looks like a group ({count:,} values, {len(train) / count:,.0f} {nouns} each in the mean): "
                f"{nouns} of one value would be trained on and judged on. Give --group {one.name}, and values are held out "
                "as wholes."
            )
        elif one.shared:
            said.append(
                f"{one.name!r} looks like a group that the split tears apart: {one.shared:,} of the {one.values['test']:,} "
                f"values in the test split, with {one.torn:,} of its {len(rest[0]):,} {nouns}, are in train as well, and "
                f"figures say little of new ones. Give all {nouns} as one, with --group {one.name}."
            )
    return said


def _is_likely(train: Source, name: str, which: np.ndarray, count: int) -> bool:
    """Names or whole numbers, some samples to a value, and either a word for it or a single class to every value."""
    if train.columns[name].dtype.kind in "fb" or name == train.label or not 2 <= count <= len(train) / 2:
        return False
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


def _determines(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether equal values of a, (n,) integers, have equal values of b."""
    pairs = np.unique(np.stack([a, b]), axis=1)
    return bool(pairs.shape[1] == len(np.unique(a)))


def _inside(a: tuple[np.ndarray, list[str]], b: tuple[np.ndarray, list[str]]) -> bool:
    """Whether each value of a lies in one of b, which are fewer."""
    return len(b[1]) < len(a[1]) and _determines(a[0], b[0])
