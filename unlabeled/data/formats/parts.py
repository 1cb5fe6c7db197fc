"""Files that hold several samples: pages, slices of a volume, tiles of a large picture."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from unlabeled.console import EveryMinute, console
from unlabeled.data.content import digest
from unlabeled.data.kinds.kind import Kind
from unlabeled.data.kinds.medical import MissingPackageError, are_patients, patient_of
from unlabeled.data.layout import FOLDER
from unlabeled.data.reader import Listing, Raw, Reader
from unlabeled.data.room import decoding_room
from unlabeled.distributed import rank
from unlabeled.errors import UserError
from unlabeled.words import counted

Array = np.ndarray[Any, Any]


class Cutting(Protocol):
    """A kind whose files may hold several samples."""

    def cuts(self, paths: Sequence[str]) -> str:
        """Returns what a part of a file is called; "" where each file is one sample."""
        ...

    def parts(self, raw: Raw) -> int:
        """Returns how many samples a file holds."""
        ...

    def part(self, raw: Raw, number: int, whole: Callable[[], Array]) -> Raw:
        """Returns one of them; `whole` decodes the file, and remembers it for the next part."""
        ...

    def whole(self, raw: Raw) -> Array:
        """Decodes a file to (H, W, C)."""
        ...

    def whole_weight(self, raw: Raw) -> int:
        """Estimates the bytes that this takes."""
        ...


class PartReader:
    """The parts of the files of another reader, one file after the other.

    Args:
        reader: of the files.
        kind: cuts them.
        counts: parts of each file.
        noun: of a part.
    """

    held = None

    def __init__(self, reader: Reader, kind: Cutting, counts: Sequence[int], noun: str) -> None:
        self._reader, self._kind, self._noun = reader, kind, noun
        self._counts = np.array(counts, np.int64)
        self._starts = np.cumsum([0, *counts]).tolist()
        self.channels, self.lasting, self.place = reader.channels, reader.lasting, reader.place
        self.identity = digest(f"{reader.identity} {noun} {','.join(map(str, counts))}")
        self._kept = threading.local()

    def __len__(self) -> int:
        return int(self._starts[-1])

    def size(self, index: int) -> int:
        """Returns 0: what a file takes is held while it is decoded."""
        return 0

    def read(self, index: int) -> Raw:
        file = bisect_right(self._starts, index) - 1
        raw = self._opened(file)
        return self._kind.part(raw, index - self._starts[file], lambda: self._whole(file))

    def contents(self) -> list[bytes]:
        """Returns those of the files, so that the parts of one are on one side; of a single file each part's own."""
        found = self._reader.contents()
        if len(found) == 1:
            return [found[0] + number.to_bytes(4, "little") for number in range(len(self))]
        return [one for one, count in zip(found, self._counts.tolist(), strict=True) for _ in range(count)]

    def path(self, index: int) -> str:
        file = bisect_right(self._starts, index) - 1
        alone = self._counts[file] == 1
        return self._reader.path(file) + ("" if alone else f"[{self._noun} {index - self._starts[file]}]")

    def together(self, rows: Array) -> Array:
        """Returns the rows of all parts of the files that have some of `rows`: a file is opened once for all."""
        files = np.unique(np.searchsorted(self._starts, rows, side="right") - 1)
        return np.concatenate([np.arange(self._starts[file], self._starts[file + 1]) for file in files.tolist()])

    @contextmanager
    def session(self) -> Iterator[None]:
        """Lets this thread remember the last file, opened and decoded, until the end."""
        outer, self._kept.file, self._kept.open = getattr(self._kept, "open", False), None, True
        try:
            yield
        finally:
            self._forget()
            self._kept.open = outer

    def _opened(self, file: int) -> Raw:
        if not getattr(self._kept, "open", False):
            return self._reader.read(file)
        if self._kept.file != file:
            self._forget()
            self._kept.raw, self._kept.file, self._kept.array = self._reader.read(file), file, None
        return self._kept.raw

    def _whole(self, file: int) -> Array:
        """The file, decoded; in a session its room is held until another one is."""
        raw = self._opened(file)
        if not getattr(self._kept, "open", False):
            with decoding_room.hold(self._kind.whole_weight(raw)):
                return self._kind.whole(raw)
        if self._kept.array is None:
            room = decoding_room.hold(self._kind.whole_weight(raw))
            room.__enter__()
            try:
                self._kept.array = self._kind.whole(raw)
            except BaseException:
                room.__exit__(None, None, None)
                raise
            self._kept.room = room
        found: Array = self._kept.array
        return found

    def _forget(self) -> None:
        room, self._kept.room = getattr(self._kept, "room", None), None
        self._kept.raw = self._kept.file = self._kept.array = None
        if room is not None:
            room.__exit__(None, None, None)


def in_parts(listing: Listing, kind: Kind, split: str = "") -> Listing:
    """Returns the split with each part of a file a sample of its own, which has the file's label and columns; beside them
    the columns `source` (the file), the number of the part by its noun, and of medical images `patient`, their group.

    What is said of it names the split, where that is given.

    Raises:
        UserError: what reads such files is not installed.
    """
    reader, cutting = listing.reader, kind
    paths = [reader.path(i) for i in range(len(reader))] if hasattr(cutting, "cuts") else []
    noun = cutting.cuts(paths) if hasattr(cutting, "cuts") else ""
    if not noun:
        return listing
    counts: list[int] = []
    patients: list[str] = []
    minutes = EveryMinute(console(quiet=rank() > 0))
    for i, path in enumerate(paths):
        minutes(i, len(paths), lambda: f"counting {noun}s, {len(counts):,} of {len(paths):,} files")
        raw = None
        try:
            raw = reader.read(i)
            counts.append(cutting.parts(raw))  # type: ignore[attr-defined]
        except MissingPackageError as error:
            raise UserError(f"{listing.name}: {error}") from None
        except Exception:  # decoders raise anything on broken data; it stays one bad sample
            counts.append(1)
        patients.append(getattr(raw, "patient", "") or patient_of(path))
    folders = [] if listing.labels is None else [(*listing.classes, "")[label] for label in listing.labels.tolist()]
    if noun == "slice" and are_patients(folders, patients):
        listing, patients = _unlabelled(listing, folders), patients if any(patients) else folders
    patients = [patient or path for patient, path in zip(patients, paths, strict=True)]
    which = np.repeat(np.arange(len(counts)), counts)
    own = {
        "source": np.array(paths, object)[which],
        noun: np.concatenate([np.arange(count) for count in counts]),
        **({"patient": np.array(patients, object)[which]} if noun == "slice" else {}),
    }
    columns = {name: values[which] for name, values in listing.columns.items()}
    free = {name if name not in columns else f"data_{name}": values for name, values in own.items()}
    patient = "patient" if "patient" in free and len(set(patients)) > 1 else ""
    return replace(
        listing,
        reader=PartReader(reader, cutting, counts, noun),  # type: ignore[arg-type]
        labels=None if listing.labels is None else listing.labels[which],
        columns={**columns, **free},
        made=frozenset(free),
        group=patient or listing.group,
        remarks=(*listing.remarks, *_tell_several(counts, noun, split)),
    )


def _tell_several(counts: Sequence[int], noun: str, split: str) -> list[str]:
    """Says how many samples there are, where a file holds several."""
    if max(counts, default=1) < 2:
        return []
    files = counted(len(counts), f"files of the {split}" if split else "files", "hold")
    return [f"{files} {sum(counts):,} {noun}s, each of them a sample."]


def _unlabelled(listing: Listing, folders: Sequence[str]) -> Listing:
    """The split whose folders are patients."""
    why = (
        f"{len(listing.classes):,} folders hold the files of a patient each, and are no classes; patients are kept together "
        "where samples are held out, and --label folder makes classes of the folders all the same"
    )
    columns = {**listing.columns, FOLDER: np.array(folders, object)}
    return replace(listing, labels=None, classes=(), columns=columns, unlabelled=why)
