"""Locks between processes, which end with the processes that hold them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[int | None]:
    """Holds the lock of that file, as a descriptor that a child process may inherit to hold it too; None if another process
    holds it and one does not `wait`. Where the system has no such locks, it is always free."""
    try:
        import fcntl
    except ImportError:
        yield -1
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield None
        else:
            yield handle
    finally:
        os.close(handle)
