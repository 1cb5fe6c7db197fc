"""What a file format has to offer: a `Reader`, and the `Listing` that describes the split behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

NATURAL = frozenset({"mirror", "colour", "intensity"})  # what photographs allow, unless a set declares otherwise

Raw = Any
"""What a reader gives, of which its kind makes a sample."""


class Reader(Protocol):
    """Random access to the raw samples of one split.

    Attributes:
        identity: changes when the content may have changed (names, sizes, times or bytes); equal for equal content.
        channels: of every sample where the format knows it (arrays), None where it has to be found from the samples.
        lasting: whether `identity` is certain enough to keep what is decoded, and what is computed from them, for the next
            process: not where it was taken from some of the samples only.
        held: (n, ...) the whole split where it is already in memory, channels last, else None.
    """

    @property
    def identity(self) -> str: ...

    @property
    def channels(self) -> int | None: ...

    @property
    def lasting(self) -> bool: ...

    @property
    def held(self) -> np.ndarray[Any, Any] | None: ...

    def __len__(self) -> int: ...

    def read(self, index: int) -> Raw:
        """Returns the sample: an array, or a file that need not be decoded yet. Raises anything if it is bad."""

    def path(self, index: int) -> str:
        """Returns a name by which the user finds the sample again."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A sample that cannot be used: its index in the source, its path, and the reason in one line."""

    index: int
    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A split before any sample is decoded.

    Attributes:
        name: what the user said.
        reader: access to the n raw samples.
        labels: (n,) int64 indices into `classes`, -1 where unlabelled; None if nothing is labelled, or by a column only.
        classes: names, in the order of the labels.
        kind: name of the kind of the samples.
        invariances: see `unlabeled.batch.DataShape`; None for those of the kind.
        columns: see `unlabeled.data.columns.Columns`; of text and numbers, labels among them.
        label: the column that holds the labels where the format says so; "" where it does not.
        declared: column -> names of the classes that its integers stand for, where the format has them.
    """

    name: str
    reader: Reader
    labels: np.ndarray[Any, Any] | None
    classes: tuple[str, ...]
    kind: str = "image"
    invariances: frozenset[str] | None = None
    columns: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    label: str = ""
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


Splits = tuple[Listing, Listing | None]  # train, and test where the data come with one
