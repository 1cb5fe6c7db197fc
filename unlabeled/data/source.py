"""`Source`: one split, opened. An index, labels, and `fetch`; it never augments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.batch import Fields
from unlabeled.data.kinds.kind import Form, Kind
from unlabeled.data.kinds.stored import in_bytes, in_floats
from unlabeled.data.labels import Labels, labels_of
from unlabeled.data.reader import Listing, Skipped, session, some
from unlabeled.data.store import Store
from unlabeled.errors import UserError
from unlabeled.words import counted

Array = np.ndarray[Any, Any]

OF_CONTENT = "content-"
"""Begins a fingerprint. That of an earlier version begins otherwise, and was of names, sizes and times of files."""


class Source:
    """One split: n samples, their labels, and what may be done to them.

    Attributes:
        name: what the user said.
        numbers: (n,) int64, what each sample is called: its position in the data as the user gave them, which goes on from
            the training to the test samples.
        labels: (n,) int64, -1 where unlabelled; None if nothing is labelled.
        classes: class names, () if unlabelled.
        label: name of the column that the labels come from, "" for none.
        remark: why a column that seems to hold labels was not taken, "" for nothing to say.
        kind: of the samples.
        form: what they are once decoded.
        field: the one that the encoder sees.
        invariances: see `unlabeled.batch.DataShape`.
        by_user: whether the user says them.
        fingerprint: same content, same string, wherever it lies.
        whole: likewise, of all samples of the split that it is a part of.
        key: likewise, of this content in this place: by it is kept what is computed from the samples.
        lasting: whether the same key means the same content; not where only some of the samples were looked at.
    """

    def __init__(self, listing: Listing, labels: Labels, store: Store, first: int, rows: Array | None = None) -> None:
        self._listing, self._labels, self._store, self._first = listing, labels, store, first
        self.kind, self.form, self.field = store.kind, store.form, store.kind.name
        self._rows: Array = np.arange(len(store.reader)) if rows is None else rows
        self.numbers: Array = first + self._rows
        self._whole = rows is None
        self.lasting = listing.reader.lasting
        self.name = listing.name
        self.labels: Array | None = None if labels.values is None else labels.values[self._rows]
        self.classes, self.label, self.remark = labels.classes, labels.column, labels.remark
        declared = self.kind.invariances if listing.invariances is None else listing.invariances
        self.invariances = self.kind.allowed(declared, self.form)
        self.by_user = listing.by_user
        which = "" if self._whole else self._rows.astype("<i8").tobytes().hex()
        self.whole, self.fingerprint = (_fingerprint(listing.reader.identity + rows) for rows in ("", which))
        self.key = f"{self.fingerprint} {listing.reader.place}"

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        about = f"{counted(len(self), self.kind.nouns)}, {self.kind.describe(self.form)}"
        return f"Source({self.name!r}, {about}, {counted(len(self.classes), 'classes')})"

    def same_as(self, recorded: Mapping[str, Any]) -> bool | None:
        """Tells whether these are the samples that a run was trained on, by what it recorded of its data; None where an
        earlier version did, which knew files by their times, so that nobody can tell."""
        then = str(recorded["fingerprint"])
        if self.fingerprint in (then, OF_CONTENT + then):
            return True
        return False if then.startswith(OF_CONTENT) else None

    @property
    def columns(self) -> dict[str, Array]:
        """What the data say of each sample, (n,) by name; see `unlabeled.data.columns.Columns`."""
        return {name: values[self._rows] for name, values in self._listing.columns.items()}

    @property
    def named(self) -> list[str]:
        """The columns that the data were given with, by name: not those that say which part of a file a sample is."""
        return [name for name in self._listing.columns if name not in self._listing.made]

    @property
    def notices(self) -> tuple[str, ...]:
        """What was read otherwise than one may think, or not at all, in sentences."""
        return (*self._listing.remarks, *(f"{line}." for line in self.form.said))

    @property
    def candidates(self) -> str:
        """What else may hold labels, as the end of a sentence that misses them; "" for nothing."""
        why = f" ({self.remark})" * bool(self.remark)
        return why + f"; or name a column with --label: {', '.join(self.named)}" * bool(self.named)

    @property
    def skipped(self) -> list[Skipped]:
        """The bad samples met so far, by index in this source."""
        bad = np.flatnonzero(self._store.bad[self._rows])
        return [replace(self._store.skipped[int(self._rows[i])], index=int(i)) for i in bad]

    @property
    def uncached(self) -> str:
        """Why its samples are decoded again each time, where the user can put that right; "" for nothing to say."""
        return self._store.remark

    @property
    def damaged(self) -> list[Skipped]:
        """The damaged samples met so far that are used all the same, by index in this source."""
        found = np.flatnonzero(self._store.damaged[self._rows]).tolist()
        return [Skipped(i, self.path(i), "damaged, and used as far as it can be decoded") for i in found]

    def path(self, index: int) -> str:
        """Tells where the sample came from, as its reader names it."""
        return self._listing.reader.path(int(self._rows[index]))

    def contents(self) -> list[bytes]:
        """Returns a digest of the content of each sample, all of which are read for it; see `Reader`."""
        found = self._listing.reader.contents()
        return found if self._whole else [found[row] for row in self._rows.tolist()]

    def good(self) -> Array:
        """Returns (n,) bool, False for the samples that are known to be bad; all of them, once everything has been
        fetched."""
        good: Array = ~self._store.bad[self._rows]
        return good

    @property
    def channels(self) -> int:
        """Of each sample."""
        return self.form.channels

    @property
    def size(self) -> int:
        """Of each sample along its other axes."""
        return self.form.size

    @property
    def native(self) -> tuple[int, ...]:
        """See `Form`."""
        return self.form.native

    def fetch(self, indices: Tensor | Array | Sequence[int]) -> Fields:
        """Returns the samples at `indices` (B,), each field (B, ...) on the CPU, images as bytes. Threads may call it at the
        same time.

        A bad sample is replaced by the next good one, cyclically, and is listed in `skipped`.

        Raises:
            IndexError: an index outside [0, n).
            UserError: more than a tenth of the samples turn out to be bad.
        """
        return {name: torch.from_numpy(in_bytes(values)) for name, values in self._read(indices).items()}

    def _read(self, indices: Tensor | Array | Sequence[int]) -> dict[str, Array]:
        """The fields as they are kept."""
        positions = np.asarray(indices, dtype=np.int64).reshape(-1)
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"index {positions.min()} or {positions.max()} outside [0, {len(self)}) of {self.name}")
        fields, good = self._store.read(self._rows[positions])
        for at in np.flatnonzero(~good):
            for name, value in self._next_good(int(positions[at])).items():
                fields[name][at] = value
        return fields

    def seen(self, indices: Tensor | Array | Sequence[int]) -> Tensor:
        """Returns what an encoder sees of the samples at `indices` (B,): their first field; images that are kept finely as
        floats in [0, 1]."""
        return torch.from_numpy(in_floats(self._read(indices)[self.field]))

    def pictures(self, indices: Tensor | Array | Sequence[int]) -> Tensor:
        """Returns the samples at `indices` (B,) for people to look at: uint8 (B, C, H, W)."""
        return self.kind.pictures(self.fetch(indices), self.form)

    def native_sizes(self, indices: Tensor | Array | Sequence[int]) -> Array:
        """Returns what `Form.native` holds, of each of the samples at `indices`, (b, k) int64, without those that cannot be
        read."""
        sizes = []
        with session(self._listing.reader):
            for row in self._rows[np.asarray(indices, dtype=np.int64)].tolist():
                with suppress(Exception):  # decoders raise anything on broken data
                    sizes.append(self.kind.native(self._listing.reader.read(row)))
        return np.array(sizes, np.int64).reshape(-1, len(self.form.native))

    def subset(self, indices: Tensor | Array | Sequence[int]) -> Source:
        """Returns the samples at `indices`, in that order; what is decoded is shared with this source."""
        rows = self._rows[np.asarray(indices, dtype=np.int64)]
        return Source(self._listing, self._labels, self._store, self._first, rows)

    def labelled_by(self, label: str, like: Source | None = None) -> Source:
        """Returns the same samples with the labels of another column, or with their own for ""; see `labels_of`."""
        labels = labels_of(self._listing, label, None if like is None else like._labels)
        return Source(self._listing, labels, self._store, self._first, None if self._whole else self._rows)

    def among(self, classes: tuple[str, ...]) -> Source:
        """Returns the same samples with the names of more classes, of which they have none, if there are more."""
        if self.labels is None or len(classes) <= len(self.classes):
            return self
        labels = replace(self._labels, classes=classes)
        return Source(self._listing, labels, self._store, self._first, None if self._whole else self._rows)

    def _next_good(self, position: int) -> dict[str, Array]:
        for step in range(1, len(self)):
            fields, good = self._store.read(self._rows[[(position + step) % len(self)]])
            if good[0]:
                return {name: values[0] for name, values in fields.items()}
        raise UserError(f"{self.name}: none of its {counted(len(self), self.kind.nouns)} can be read")


def _fingerprint(content: str) -> str:
    return OF_CONTENT + hashlib.blake2b(content.encode(), digest_size=12).hexdigest()


def told(*sources: Source) -> str:
    """Returns the same for the same labels and names of classes, of which a source's fingerprint may know nothing."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(json.dumps(source.classes).encode())
        digest.update(b"none" if source.labels is None else source.labels.astype("<i8").tobytes())
    return digest.hexdigest()[:24]


def open_source(
    listing: Listing,
    labels: Labels,
    kind: Kind,
    like: Form | None,
    seconds: float,
    channels: int | None = None,
    first: int = 0,
    judged: bool = False,
) -> Source:
    """Opens a split and checks as many samples as `seconds` allow.

    Args:
        listing: the split.
        labels: of its samples.
        kind: of its samples.
        like: the form of the training split, which a test split shares.
        seconds: time for the check.
        channels: to convert to where that has a meaning; None for what they are.
        first: the number of its first sample.
        judged: whether by an encoder alone; see `Kind.survey`.

    Raises:
        UserError: more than a tenth of the samples looked at are bad, or are not like those of the training split.
    """
    form = kind.survey(listing.reader, listing.name, channels, judged=judged) if like is None else like
    kind.like(listing.reader, form, listing.name, channels)
    store = Store(listing.reader, kind, form, listing.name)
    store.check(seconds)
    return Source(listing, labels, store, first)


def left_out(*sources: Source | None) -> list[str]:
    """Returns a line of the bad samples that were met and left out, the first of them by path and reason, and one of those
    that are damaged and were used all the same; none if there are none."""
    there = [source for source in sources if source is not None]
    skipped = [one for source in there for one in source.skipped]
    damaged = [one for source in there for one in source.damaged]
    nouns = there[0].kind.nouns if there else ""
    named = [f"{one.path}: {one.reason}" for one in skipped]
    said = [f"left out {counted(len(skipped), f'bad {nouns}')}: {some(named)}"] if skipped else []
    words = f"used as far as {'it' if len(damaged) == 1 else 'they'} can be decoded: {some([s.path for s in damaged])}"
    return said + ([f"{counted(len(damaged), f'damaged {nouns}')}, {words}"] if damaged else [])
