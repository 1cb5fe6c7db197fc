"""What a file format has to offer: a `Reader`, and the `Listing` that describes the split behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from unlabeled.errors import UserError

NATURAL = frozenset({"mirror", "colour", "intensity"})  # what photographs allow, unless a set declares otherwise

Raw = Any
"""What a reader gives, of which its kind makes a sample. It may have an attribute `damaged`, true once decoding found
that it is and made a sample of it all the same."""


class Reader(Protocol):
    """Random access to the raw samples of one split.

    Attributes:
        identity: the same for the same content, wherever it lies: names, sizes, and bytes or a sample of them.
        place: where it lies and when it was written last, so that what is kept of it for later is not taken for another's;
            "" where `identity` is certain.
        channels: of every sample where the format knows it (arrays), None where it has to be found from the samples.
        lasting: whether both are certain enough to keep what is decoded, and what is computed from it, for the next process:
            not where they were taken from some of the samples only.
        held: (n, ...) the whole split where it is already in memory, channels last, else None.
    """

    @property
    def identity(self) -> str: ...

    @property
    def place(self) -> str: ...

    @property
    def channels(self) -> int | None: ...

    @property
    def lasting(self) -> bool: ...

    @property
    def held(self) -> np.ndarray[Any, Any] | None: ...

    def __len__(self) -> int: ...

    def size(self, index: int) -> int:
        """Returns how many bytes `read` will take in; 0 where they are in memory, or that is not known before."""

    def read(self, index: int) -> Raw:
        """Returns the sample: an array, or a file that need not be decoded yet. Raises anything if it is bad."""

    def contents(self) -> list[bytes]:
        """Returns a digest of the content of each sample as it is stored, whatever its name; "" of what cannot be read."""

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
        by_user: whether the user says them.
        columns: see `unlabeled.data.columns.Columns`; of text and numbers, labels among them.
        label: the column that holds the labels where the format says so; "" where it does not.
        declared: column -> names of the classes that its integers stand for, where the format has them.
        made: the columns that were not given, and say which part of which file a sample is.
        group: the column whose values are not divided between training and held-out samples, unless the user names another;
            "" for none.
        unlabelled: why what seems to be labels was not taken; "" for nothing to say.
        remarks: what the user should know of what was read and what was not, in sentences.
    """

    name: str
    reader: Reader
    labels: np.ndarray[Any, Any] | None
    classes: tuple[str, ...]
    kind: str = "image"
    invariances: frozenset[str] | None = None
    by_user: bool = False
    columns: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    label: str = ""
    declared: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    made: frozenset[str] = frozenset()
    group: str = ""
    unlabelled: str = ""
    remarks: tuple[str, ...] = ()


def session(reader: Reader) -> AbstractContextManager[None]:
    """Returns a time in which this thread reads samples in order, and a file of several is opened once for all of them."""
    made: AbstractContextManager[None] = getattr(reader, "session", nullcontext)()
    return made


@contextmanager
def readable(name: str, form: str, remedy: str) -> Iterator[None]:
    """Turns whatever a library raises on a broken file into a line for the user, who is told the remedy.

    Args:
        name: of the data.
        form: of the file, in words.
        remedy: what to do about it.

    Raises:
        UserError: anything was raised.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name}: cannot be read as {form} ({in_a_line(error)}): {remedy}") from None


def in_a_line(error: Exception) -> str:
    """Returns why something failed, in one line of readable length; a library's words for it may quote all of the data."""
    said = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return said if len(said) <= LONGEST else said[:LONGEST] + "…"


def some(names: Sequence[str]) -> str:
    """Returns the first of some names, and how many more there are."""
    return "; ".join(names[:NAMED]) + (f"; and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


NAMED = 3
"""Bad samples that a line names."""
LONGEST = 200
"""Characters of a reason that are shown."""

Splits = tuple[Listing, Listing | None]  # train, and test where the data come with one
