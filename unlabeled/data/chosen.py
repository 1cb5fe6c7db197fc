"""Some of the samples of a split: those of one side of a column, or a few drawn evenly over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from unlabeled.data.columns import column, numbered
from unlabeled.data.content import digest
from unlabeled.data.labels import Labels
from unlabeled.data.layout import TEST, TRAIN, VAL
from unlabeled.data.reader import Listing, Raw, Reader, Splits, session
from unlabeled.data.split import even_draw
from unlabeled.errors import UserError
from unlabeled.words import counted

SPLITS = ("split", "subset", "partition", "set")
"""Names, in lower case, by which a column is known that says of each sample whether it is trained on; if it says nothing
else."""

Array = np.ndarray[Any, Any]


class Rows:
    """Some samples of a reader, as a reader.

    Args:
        reader: of all.
        rows: positions in it.
    """

    def __init__(self, reader: Reader, rows: Sequence[int]) -> None:
        self._reader, self._rows = reader, list(rows)
        self.identity = digest(f"{reader.identity} {self._rows}")
        self.place, self.channels, self.lasting = reader.place, reader.channels, reader.lasting
        self.held: Array | None = None if reader.held is None else reader.held[self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def size(self, index: int) -> int:
        return self._reader.size(self._rows[index])

    def read(self, index: int) -> Raw:
        return self._reader.read(self._rows[index])

    def contents(self) -> list[bytes]:
        found = self._reader.contents()
        return [found[row] for row in self._rows]

    def path(self, index: int) -> str:
        return self._reader.path(self._rows[index])

    def session(self) -> AbstractContextManager[None]:
        return session(self._reader)


def chosen(listing: Listing, rows: Array) -> Listing:
    """Returns the split with these samples alone, in their order."""
    take = getattr(listing.reader, "chosen", None)
    reader = take(rows.tolist()) if take else Rows(listing.reader, rows.tolist())
    labels = None if listing.labels is None else listing.labels[rows]
    return replace(
        listing, reader=reader, labels=labels, columns={name: values[rows] for name, values in listing.columns.items()}
    )


def divided(listing: Listing, name: str, needed: bool) -> Splits:
    """Divides a split by what a column says of each sample.

    Words are those of folders: train, test, val and the like; val is the test split where nothing is called test, and is not
    used beside it.

    Args:
        listing: all samples.
        name: of the column; "" for one of `SPLITS` that has such words and no others.
        needed: whether there has to be such a column.

    Returns:
        The listing itself and None, where there is none.

    Raises:
        UserError: the column that is named is not there, or says something else.
    """
    if needed:
        column(listing.columns, name, "--split", listing.name)
    lower = {other.lower(): other for other in reversed(list(listing.columns))}
    name = name or next((lower[known] for known in SPLITS if known in lower), "")
    if name not in listing.columns:
        return listing, None
    which, values = numbered(listing.columns[name])
    words = [value.strip().lower() for value in values]
    sides = [np.flatnonzero(np.isin(which, [i for i, w in enumerate(words) if w in of])) for of in (TRAIN, TEST, VAL)]
    train, test, val = sides
    if not set(words) <= TRAIN | TEST | VAL or not len(train) or not (len(test) or len(val)):
        if needed:
            shown = ", ".join(values[:5]) + ", ..." * (len(values) > 5)
            raise UserError(
                f"{listing.name}: --split {name!r}, and that column holds {shown or 'nothing'}: it must say train, and "
                "test or val, of the samples"
            )
        return listing, None
    remarks = [f"{listing.name}: the split is that of its column {name!r}."]
    if len(test) and len(val):
        remarks.append(
            f"{listing.name}: of its column {name!r}, val ({counted(len(val), 'samples')}) is not used beside test."
        )
    if (left := int((which < 0).sum())) > 0:
        remarks.append(f"{listing.name}: left out: {counted(left, 'samples')} without a value of {name!r}.")
    rest = {other: values for other, values in listing.columns.items() if other != name}
    listing = replace(listing, columns=rest, remarks=(*listing.remarks, *remarks))
    return chosen(listing, train), replace(chosen(listing, test if len(test) else val), remarks=())


def limited(listing: Listing, labels: Labels, limit: int, of: int, seed: int) -> Listing:
    """Draws samples of a split, evenly over the classes where there are labels.

    Args:
        listing: the split.
        labels: of it.
        limit: how many samples are drawn of all splits, of each its share; 0 for all.
        of: how many samples all splits have.
        seed: same seed, same draw.
    """
    if not 0 < limit < of:
        return listing
    n = len(listing.reader)
    few = chosen(listing, even_draw(n, labels.values, max(1, round(limit * n / of)), seed))
    said = f"{listing.name}: {limit:,} of {counted(of, 'samples')} are used, as --limit asks; seed {seed} draws them."
    return replace(few, remarks=(*few.remarks, said))
