"""Decoded samples of one split: decoded once by a pool of threads, kept in a memory-mapped file, gathered from there."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.kinds.kind import Form, Kind
from unlabeled.data.reader import Reader, Skipped, in_a_line, session, some
from unlabeled.data.room import raw_room
from unlabeled.errors import UserError
from unlabeled.files import reserve
from unlabeled.words import counted

MAX_CACHE_BYTES = 4 << 30
BAD_FRACTION = 0.1
ENOUGH = 4096
"""Samples that tell whether a tenth is bad: their fraction is then known to half a percent (standard deviation)."""
DAMAGED = 2
"""State of a sample that is damaged and decoded all the same."""

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


class Store:
    """What a kind makes of the samples, (n, ...) for each of its fields, filled as they are asked for.

    The cache is a file for each field and one byte a sample (0 unknown, 1 decoded, 2 decoded though damaged), written after
    the fields. Writing is
    idempotent, so processes may share a cache while they fill it. Bad samples are remembered by the process only: a
    file that could not be read today is tried again tomorrow.

    Args:
        reader: the raw samples.
        kind: decodes them.
        form: what they are then.
        name: of the data, for messages.

    Attributes:
        remark: why nothing that is decoded is kept though it could be, "" for nothing to say.
    """

    def __init__(self, reader: Reader, kind: Kind, form: Form, name: str) -> None:
        self.reader, self.kind, self.form, self.name = reader, kind, form, name
        self.bad = np.zeros(len(reader), bool)
        self.skipped: dict[int, Skipped] = {}
        self._damaged = np.zeros(len(reader), bool)
        self.remark = ""
        self._lock = threading.Lock()
        self._held: Arrays | None = kind.ready(reader, form)
        self._decoded = np.full(len(reader), self._held is not None, np.uint8)
        if self._held is None:
            self._open_cache()

    @property
    def damaged(self) -> Array:
        """Returns (n,) bool: which are known to be damaged and were decoded all the same."""
        found: Array = self._damaged | (self._decoded == DAMAGED)
        return found

    def read(self, rows: Array) -> tuple[Arrays, Array]:
        """Reads the fields (B, ...) of the samples `rows` (B,), and (B,) bool: whether each is good. Bad ones are undefined.

        Raises:
            UserError: more than a tenth of the samples are bad.
        """
        if self._held is not None:
            missing = rows[(self._decoded[rows] == 0) & ~self.bad[rows]]
            if missing.size:
                self._decode(self._with_them(missing), self._held)
            return {name: held.take(rows, axis=0) for name, held in self._held.items()}, ~self.bad[rows]
        wanted, where = np.unique(rows, return_inverse=True)
        fields = {name: np.zeros((len(wanted), *shape), kind) for name, (kind, shape) in self.form.fields.items()}
        good = ~self.bad[wanted]
        self._decode(wanted[good], fields, np.flatnonzero(good))
        return {name: values[where] for name, values in fields.items()}, ~self.bad[rows]

    def check(self, seconds: float) -> None:
        """Decodes samples spread evenly over the split until all or `ENOUGH` are done, or the time is over.

        Raises:
            UserError: more than a tenth of those looked at are bad; it counts and lists them.
        """
        n, start, done = len(self.reader), time.monotonic(), 0
        spread = np.argsort((np.arange(n) * 0.6180339887498949) % 1.0, kind="stable")
        todo = spread[self._decoded[spread] == 0][:ENOUGH]
        known = int((self._decoded != 0).sum())
        while done < len(todo) and (spent := time.monotonic() - start) < seconds:
            chunk = max(16, int(0.1 * seconds * done / spent))  # a tenth of the time, at the rate so far
            self.read(todo[done : done + chunk])
            done += chunk
        self._refuse_if_bad(min(done, len(todo)) + known)

    def _decode(self, rows: Array, fields: Arrays, places: Array | None = None) -> None:
        """Decodes `rows` into places of the fields (`rows` in the cache) and notes the bad ones."""
        places = rows if places is None else places
        known = len(self.skipped)
        workers = min(os.cpu_count() or 1, 16)
        parts = np.array_split(np.arange(len(rows)), workers) if len(rows) > 1 else [np.arange(len(rows))]
        jobs = [zip(rows[p].tolist(), places[p].tolist(), strict=True) for p in parts if len(p)]
        for _ in _pool(os.getpid(), workers).map(lambda job: self._decode_each(job, fields), jobs):
            pass
        if len(self.skipped) > known:
            self._refuse_if_bad(len(self.reader))

    def _with_them(self, missing: Array) -> Array:
        """Samples to decode, and those not decoded yet that lie in one file with them; sorted."""
        together = getattr(self.reader, "together", np.unique)(missing)
        found: Array = together[(self._decoded[together] == 0) & ~self.bad[together]]
        return found

    def _decode_each(self, pairs: Iterable[tuple[int, int]], fields: Arrays) -> None:
        with session(self.reader):
            self._decode_in_order(pairs, fields)

    def _decode_in_order(self, pairs: Iterable[tuple[int, int]], fields: Arrays) -> None:
        for row, place in pairs:
            try:
                decoded, damaged = self._decoded_one(row)
                for name, values in decoded.items():
                    fields[name][place] = values
            except Exception as error:  # decoders raise anything on broken data
                reason = in_a_line(error)
                with self._lock:
                    self.bad[row] = True
                    self.skipped.setdefault(row, Skipped(row, self.reader.path(row), reason))
            else:
                self._damaged[row] = damaged
                if fields is self._held:
                    self._decoded[row] = DAMAGED if damaged else 1

    def _decoded_one(self, row: int) -> tuple[Mapping[str, Any], bool]:
        """The fields of a sample, and whether it is damaged. The raw one, which may hold much, ends with this call."""
        with raw_room.hold(self.reader.size(row)):
            raw = self.reader.read(row)
            return self.kind.decode(raw, self.form), bool(getattr(raw, "damaged", False))

    def _refuse_if_bad(self, looked_at: int) -> None:
        count = len(self.skipped)
        if count > BAD_FRACTION * looked_at:
            listed = some([f"{s.path}: {s.reason}" for _, s in sorted(self.skipped.items())])
            raise UserError(
                f"{self.name}: {count} of {counted(looked_at, self.kind.nouns)} looked at are bad, more than a tenth: "
                f"{listed}. Repair or remove them"
            )

    def _open_cache(self) -> None:
        """Maps fields and state, if they fit: in the cache folder, or in a temporary one."""
        content = f"{self.kind.name} {self.kind.version} {self.reader.identity} {self.reader.place}{self.form.how}"
        key = hashlib.blake2b(content.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()
        shapes = ["x".join(map(str, shape)) for _, shape in self.form.fields.values() if shape]
        folder = cache_folder() / "-".join([key, *shapes, *([str(self.form.rate)] if self.form.rate else [])])
        size = sum(map(self._bytes, self.form.fields))
        if size > MAX_CACHE_BYTES:
            return
        if self.reader.lasting:
            try:
                self._map(folder)
                return
            except OSError:
                pass
        temporary = Path(tempfile.mkdtemp(prefix="unlabeled-"))
        weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        try:
            self._map(temporary)
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            self._held, self._decoded = None, np.zeros(len(self.reader), np.uint8)
            self.remark = (
                f"The {self.kind.nouns} are decoded each time anew: there is no room for {size >> 20:,} MiB of them in "
                f"{cache_folder()}, nor among temporary files ({error.strerror or error}). Make room, or name another "
                "folder with $UNLABELED_CACHE"
            )

    def _bytes(self, field: str) -> int:
        """Of all samples."""
        kind, shape = self.form.fields[field]
        return len(self.reader) * math.prod(shape) * np.dtype(kind).itemsize

    def _map(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        n, state = len(self.reader), folder / "decoded.u8"
        lengths = {folder / f"{field}.bin": self._bytes(field) for field in self.form.fields} | {state: n}
        if not state.exists() and sum(lengths.values()) >= shutil.disk_usage(folder).free / 2:
            raise OSError("less than half of the free disk would be left")
        fresh = not state.exists()
        try:
            for path, length in lengths.items():
                reserve(path, length)
        except OSError:
            if fresh:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._held = {
            field: np.asarray(np.memmap(folder / f"{field}.bin", kind, "r+", shape=(n, *shape)))
            for field, (kind, shape) in self.form.fields.items()
        }
        self._decoded = np.asarray(np.memmap(state, np.uint8, "r+", shape=(n,)))


def cache_folder() -> Path:
    """Returns `$UNLABELED_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("UNLABELED_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "unlabeled"


@cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """One pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(workers, thread_name_prefix="unlabeled-decode")
