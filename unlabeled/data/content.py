"""Digests of content, or of pieces of it: the same where the bytes are the same, and cheap for many and for large files."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.console import EveryMinute, console
from unlabeled.distributed import rank
from unlabeled.files import open_regular

PIECE = 1 << 14
"""Bytes of the beginning, of the middle and of the end by which content longer than three such pieces is known."""
LOOKED_AT = 10_000
"""Files of a set whose content is looked at, evenly spread; half a second of a warm disk."""
THREADS, TOGETHER = 16, 64
TRIED = 64
WAITED = 1e-3
"""Seconds a file beyond which a disk is waited for. Where none is, threads take three times as long as one, as they wait for
each other (2 cores, 10,000 files, Python 3.11)."""


def digest(text: str) -> str:
    """Returns a digest of text, of names too that are no UTF-8."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def of_bytes(data: bytes | memoryview) -> bytes:
    """Digests content by its length, and all of it or three pieces: 16 bytes."""
    return _joined(len(data), (data[start : start + PIECE] for start in _starts(len(data))))


def of_file(path: str | Path) -> bytes:
    """Digests a file as `of_bytes` does; one that cannot be read by nothing."""
    try:
        with open_regular(path) as file:
            length = os.fstat(file.fileno()).st_size
            return _joined(length, [os.pread(file.fileno(), PIECE, start) for start in _starts(length)])
    except OSError:
        return b""


def of_files(paths: Sequence[str]) -> list[bytes]:
    """Digests files as `of_file` does, each once; on several threads where a few of them, evenly spread, had to be waited
    for."""
    different = list(dict.fromkeys(paths))
    began = time.perf_counter()
    known = {path: of_file(path) for path in different[:: max(1, len(different) // TRIED)]}
    threads = THREADS if time.perf_counter() - began > WAITED * len(known) else 1
    rest = [path for path in different if path not in known]
    parts = [rest[start : start + TOGETHER] for start in range(0, len(rest), TOGETHER)]
    minutes = EveryMinute(console(quiet=rank() > 0))
    with ThreadPoolExecutor(threads) as pool:
        for part in pool.map(lambda part: [(path, of_file(path)) for path in part], parts):
            known.update(part)
            minutes(len(known), len(different), lambda: f"reading files, {len(known):,} of {len(different):,}")
    return [known[path] for path in paths]


def of_what(read: Callable[[], bytes | Path | np.ndarray[Any, Any]]) -> bytes:
    """Digests what is read, contiguous where it is an array, or the file that it names; what cannot be read by nothing."""
    try:
        found = read()
    except Exception:  # decoders raise anything on broken data
        return b""
    if isinstance(found, Path):
        return of_file(found)
    return of_bytes(found if isinstance(found, bytes) else found.data.cast("B"))


def looked_at(n: int) -> list[int]:
    """Returns the places of up to `LOOKED_AT` of n files, evenly spread."""
    spread: list[int] = np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(int)).tolist()
    return spread


def _starts(length: int) -> Sequence[int]:
    if length <= 3 * PIECE:
        return range(0, length, PIECE)
    return 0, (length - PIECE) // 2, length - PIECE


def _joined(length: int, pieces: Iterable[bytes | memoryview]) -> bytes:
    made = hashlib.blake2b(length.to_bytes(8, "little"), digest_size=16)
    for piece in pieces:
        made.update(piece)
    return made.digest()
