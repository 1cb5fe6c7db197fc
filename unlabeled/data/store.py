"""Decoded pixels of one split: decoded once by a pool of threads, kept in a memory-mapped file, gathered from there."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.kinds.image import to_pixels
from unlabeled.data.reader import Reader, Skipped
from unlabeled.errors import UserError

MAX_CACHE_BYTES = 4 << 30
BAD_FRACTION = 0.1
ENOUGH = 4096
"""Samples that tell whether a tenth is bad: their fraction is then known to half a percent (standard deviation)."""
_DECODING = 2  # part of the cache's name: raise it whenever `to_pixels` gives other pixels than before

Array = np.ndarray[Any, Any]


class Store:
    """uint8 (n, C, S, S), filled as samples are asked for.

    The cache is two files: the pixels, and one byte a sample (0 unknown, 1 decoded), written after the pixels. Writing is
    idempotent, so processes may share a cache while they fill it. Bad samples are remembered by the process only: a
    file that could not be read today is tried again tomorrow.

    Args:
        reader: the raw samples.
        channels: C.
        size: S.
        name: of the data, for messages.
    """

    def __init__(self, reader: Reader, channels: int, size: int, name: str) -> None:
        self.reader, self.channels, self.size, self.name = reader, channels, size, name
        self.bad = np.zeros(len(reader), bool)
        self.skipped: dict[int, Skipped] = {}
        self._lock = threading.Lock()
        self._pixels: Array | None = None
        self._decoded = np.zeros(len(reader), np.uint8)
        ready = reader.pixels
        if ready is not None and ready.shape[1:] == (size, size, channels):
            self._pixels, self._decoded = np.ascontiguousarray(ready.transpose(0, 3, 1, 2)), np.ones(len(reader), np.uint8)
        else:
            self._open_cache()

    def read(self, rows: Array) -> tuple[Array, Array]:
        """Pixels (B, C, S, S) of the samples `rows` (B,), and (B,) bool: whether each is good. Bad ones are undefined.

        Raises:
            UserError: more than a tenth of the samples are bad.
        """
        if self._pixels is not None:
            missing = rows[(self._decoded[rows] == 0) & ~self.bad[rows]]
            if missing.size:
                self._decode(np.unique(missing), self._pixels)
            return self._pixels.take(rows, axis=0), ~self.bad[rows]
        wanted, where = np.unique(rows, return_inverse=True)
        pixels = np.zeros((len(wanted), self.channels, self.size, self.size), np.uint8)
        good = ~self.bad[wanted]
        self._decode(wanted[good], pixels, np.flatnonzero(good))
        return pixels[where], ~self.bad[rows]

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

    def _decode(self, rows: Array, pixels: Array, places: Array | None = None) -> None:
        """Decodes `rows` into `pixels[places]` (`pixels[rows]` in the cache) and notes the bad ones."""
        places = rows if places is None else places
        known = len(self.skipped)
        workers = min(os.cpu_count() or 1, 16)
        parts = np.array_split(np.arange(len(rows)), workers) if len(rows) > 1 else [np.arange(len(rows))]
        jobs = [zip(rows[p].tolist(), places[p].tolist(), strict=True) for p in parts if len(p)]
        for _ in _pool(os.getpid(), workers).map(lambda job: self._decode_each(job, pixels), jobs):
            pass
        if len(self.skipped) > known:
            self._refuse_if_bad(len(self.reader))

    def _decode_each(self, pairs: Iterable[tuple[int, int]], pixels: Array) -> None:
        for row, place in pairs:
            try:
                pixels[place] = to_pixels(self.reader.read(row), self.channels, self.size)
            except Exception as error:  # decoders raise anything on broken data
                reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
                with self._lock:
                    self.bad[row] = True
                    self.skipped.setdefault(row, Skipped(row, self.reader.path(row), reason))
            else:
                self._decoded[row] = pixels is self._pixels

    def _refuse_if_bad(self, looked_at: int) -> None:
        count = len(self.skipped)
        if count > BAD_FRACTION * looked_at:
            listed = "; ".join(f"{s.path}: {s.reason}" for _, s in sorted(self.skipped.items()))
            raise UserError(
                f"{self.name}: {count} of {looked_at} images looked at are bad, more than a tenth: {listed}. "
                "Repair or remove them"
            )

    def _open_cache(self) -> None:
        """Maps the pixels and the state bytes, if they fit: in the cache folder, or in a temporary one."""
        n = len(self.reader)
        shape = (n, self.channels, self.size, self.size)
        key = hashlib.blake2b(f"{_DECODING} {self.reader.identity}".encode(), digest_size=10).hexdigest()
        folder = cache_folder() / f"{key}-{self.channels}x{self.size}"
        bytes_ = int(np.prod(shape))
        if bytes_ > MAX_CACHE_BYTES:
            return
        if self.reader.lasting:
            try:
                self._map(folder, shape, bytes_)
                return
            except OSError:
                pass
        temporary = Path(tempfile.mkdtemp(prefix="unlabeled-"))
        weakref.finalize(self, shutil.rmtree, temporary, ignore_errors=True)
        try:
            self._map(temporary, shape, bytes_)
        except OSError:
            self._pixels, self._decoded = None, np.zeros(n, np.uint8)

    def _map(self, folder: Path, shape: tuple[int, ...], bytes_: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        pixels, state = folder / "pixels.u8", folder / "decoded.u8"
        fresh = not pixels.exists()
        if fresh and bytes_ >= shutil.disk_usage(folder).free / 2:
            raise OSError("less than half of the free disk would be left")
        for path, length in ((pixels, bytes_), (state, shape[0])):
            with path.open("ab") as file:
                file.truncate(length)
        self._pixels = np.asarray(np.memmap(pixels, np.uint8, "r+", shape=shape))
        self._decoded = np.asarray(np.memmap(state, np.uint8, "r+", shape=shape[:1]))


def cache_folder() -> Path:
    """`$UNLABELED_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("UNLABELED_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "unlabeled"


@cache
def _pool(process: int, workers: int) -> ThreadPoolExecutor:
    """One pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(workers, thread_name_prefix="unlabeled-decode")
