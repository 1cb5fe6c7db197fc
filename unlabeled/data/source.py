"""`Source`: one split, opened. An index, labels, and `fetch`; it never augments."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.data.kinds.image import native_channels, native_size
from unlabeled.data.reader import Listing, Reader, Skipped
from unlabeled.data.store import Store
from unlabeled.errors import UserError

Array = np.ndarray[Any, Any]

_SAMPLED, _COLOUR_SAMPLED = 256, 64  # headers read, images decoded, to find what a source is


@dataclass(frozen=True, slots=True)
class Geometry:
    """Channels and side of what is fetched, and the median native (H, W)."""

    channels: int
    size: int
    native: tuple[int, int]


class Source:
    """One split: n images as uint8 (C, S, S), their labels, and what may be done to them.

    Attributes:
        name: what the user said.
        numbers: (n,) int64, what each image is called: its position in the data as the user gave them, which goes on from
            the training to the test images.
        labels: (n,) int64, -1 where unlabelled; None if nothing is labelled.
        classes: class names, () if unlabelled.
        channels: C.
        native: (H, W), the median native size.
        size: S, in pixels.
        invariances: see `unlabeled.batch.DataShape`; colour only where there are three channels.
        fingerprint: same content, same string.
        lasting: whether the same string means the same content; not where only some of the samples were looked at.
    """

    def __init__(
        self, listing: Listing, store: Store, native: tuple[int, int], first: int, rows: Array | None = None
    ) -> None:
        self._listing, self._store, self.native, self._first = listing, store, native, first
        self._rows: Array = np.arange(len(store.reader)) if rows is None else rows
        self.numbers: Array = first + self._rows
        self._whole = rows is None
        self.lasting = listing.reader.lasting
        self.name = listing.name
        self.labels: Array | None = None if listing.labels is None else listing.labels[self._rows]
        self.classes = listing.classes
        self.channels, self.size = store.channels, store.size
        self.invariances = listing.invariances - ({"colour"} if store.channels != 3 else set())
        content = listing.reader.identity + ("" if self._whole else self._rows.astype("<i8").tobytes().hex())
        self.fingerprint = hashlib.blake2b(content.encode(), digest_size=12).hexdigest()

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        shape = f"{self.channels}x{self.size}x{self.size}"
        return f"Source({self.name!r}, {len(self)} images, {shape}, {len(self.classes)} classes)"

    @property
    def skipped(self) -> list[Skipped]:
        """The bad samples met so far, by index in this source."""
        bad = np.flatnonzero(self._store.bad[self._rows])
        return [replace(self._store.skipped[int(self._rows[i])], index=int(i)) for i in bad]

    def path(self, index: int) -> str:
        """Where the sample came from, as its reader names it."""
        return self._listing.reader.path(int(self._rows[index]))

    def good(self) -> Array:
        """(n,) bool, False for the samples that are known to be bad; all of them, once everything has been fetched."""
        good: Array = ~self._store.bad[self._rows]
        return good

    def fetch(self, indices: Tensor | Array | Sequence[int]) -> Tensor:
        """The images at `indices` (B,), as uint8 (B, C, S, S) on the CPU. Threads may call it at the same time.

        A bad sample is replaced by the next good one, cyclically, and is listed in `skipped`.

        Raises:
            IndexError: an index outside [0, n).
            UserError: more than a tenth of the samples turn out to be bad.
        """
        positions = np.asarray(indices, dtype=np.int64).reshape(-1)
        if positions.size and (positions.min() < 0 or positions.max() >= len(self)):
            raise IndexError(f"index {positions.min()} or {positions.max()} outside [0, {len(self)}) of {self.name}")
        pixels, good = self._store.read(self._rows[positions])
        for at in np.flatnonzero(~good):
            pixels[at] = self._next_good(int(positions[at]))
        return torch.from_numpy(pixels)

    def native_sizes(self, indices: Tensor | Array | Sequence[int]) -> Array:
        """Native (H, W) of the samples at `indices`, (b, 2) int64; those that cannot be read are left out."""
        sizes = []
        for row in self._rows[np.asarray(indices, dtype=np.int64)].tolist():
            with suppress(Exception):  # decoders raise anything on broken data
                sizes.append(native_size(self._listing.reader.read(row)))
        return np.array(sizes, np.int64).reshape(-1, 2)

    def subset(self, indices: Tensor | Array | Sequence[int]) -> Source:
        """The samples at `indices`, in that order; decoded pixels are shared with this source."""
        return Source(self._listing, self._store, self.native, self._first, self._rows[np.asarray(indices, dtype=np.int64)])

    def _next_good(self, position: int) -> Array:
        for step in range(1, len(self)):
            pixels, good = self._store.read(self._rows[[(position + step) % len(self)]])
            if good[0]:
                first: Array = pixels[0]
                return first
        raise UserError(f"{self.name}: none of its {len(self)} images can be read")


def told(*sources: Source) -> str:
    """The same for the same labels and names of classes, of which a source's fingerprint may know nothing."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(json.dumps(source.classes).encode())
        digest.update(b"none" if source.labels is None else source.labels.astype("<i8").tobytes())
    return digest.hexdigest()[:24]


def open_source(
    listing: Listing,
    image_size: int | None,
    like: Geometry | None,
    seconds: float,
    channels: int | None = None,
    first: int = 0,
) -> tuple[Source, Geometry]:
    """Opens a split and checks as many samples as `seconds` allow.

    Args:
        listing: the split.
        image_size: side of the views that will be cut from it, in pixels, or None if not known.
        like: the geometry of the training split, which a test split shares.
        seconds: time for the check.
        channels: to convert to where pictures are grey or RGB; None for what they are.
        first: the number of its first image.

    Raises:
        UserError: more than a tenth of the samples looked at are bad, or their channels do not match.
    """
    geometry = survey(listing, image_size, channels) if like is None else like
    own = _wanted(listing.reader.channels, channels)
    if own is not None and own != geometry.channels:
        raise UserError(f"{listing.name}: test has {own} channels and train {geometry.channels}: give both alike")
    store = Store(listing.reader, geometry.channels, geometry.size, listing.name)
    store.check(seconds)
    return Source(listing, store, geometry.native, first), geometry


def survey(listing: Listing, image_size: int | None, wanted: int | None = None) -> Geometry:
    """Finds channels, native size and canonical size from samples spread over the split.

    Raises:
        UserError: none of the samples can be read.
    """
    reader: Reader = listing.reader
    sizes, channels, reason, decoded = [], 0, "", 0
    for index in np.unique(np.linspace(0, len(reader) - 1, min(len(reader), _SAMPLED)).astype(int)).tolist():
        try:
            raw = reader.read(index)
            sizes.append(native_size(raw))  # before the look at its colours, which decodes at a reduced size
            if reader.channels is None and channels != 3 and decoded < _COLOUR_SAMPLED:
                channels, decoded = max(channels, native_channels(raw)), decoded + 1
        except Exception as error:  # decoders raise anything on broken data; the check counts them
            reason = reason or f"{reader.path(index)}: {error}"
    if not sizes:
        raise UserError(f"{listing.name}: none of its images can be read ({reason}); check that these are image files")
    native = (int(np.median([h for h, _ in sizes])), int(np.median([w for _, w in sizes])))
    alike = len(set(sizes)) == 1 and native[0] == native[1]
    own = _wanted(reader.channels, wanted) or wanted or channels or 3
    return Geometry(own, _canonical_size(native, alike, image_size), native)


def _wanted(own: int | None, wanted: int | None) -> int | None:
    """An array's own channels, or those that are wanted if grey and colour can become one another."""
    return wanted if own in (1, 3) and wanted in (1, 3) else own


def _canonical_size(native: tuple[int, int], alike: bool, image_size: int | None) -> int:
    """Native where all are one small square; otherwise an eighth more than the view's share, or 256, never enlarged."""
    if alike and native[0] <= max(64, image_size or 0):
        return native[0]
    return max(1, min(*native, 256 if image_size is None else round(image_size * 8 / 7)))
