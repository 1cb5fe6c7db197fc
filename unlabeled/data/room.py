"""Memory that threads share: who needs much waits until the others leave so much."""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MiB = 1 << 20
RAW, DECODING = 256 * MiB, 768 * MiB
"""Bytes of samples as they are stored, and of those that are being decoded, in all threads together: a GiB. Ours."""

LARGE = 256 * MiB
"""Bytes before which others that were freed are given back. Ours."""


class Room:
    """So many bytes.

    Args:
        limit: how many there are.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.clear()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.clear)

    def clear(self) -> None:
        """Forgets all that hold it: a child process has none of its parent's threads."""
        self._left, self._changed = self._limit, threading.Condition()

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Keeps so many bytes for a while, waiting for them; who wants more than there are gets all."""
        count = min(count, self._limit)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= count)
            self._left -= count
        if count >= LARGE:
            give_back()
        try:
            yield
        finally:
            with self._changed:
                self._left += count
                self._changed.notify_all()


def give_back() -> None:
    """Gives the system what was freed in all threads, which glibc keeps for the next time."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


raw_room, decoding_room = Room(RAW), Room(DECODING)
"""Of samples as they are stored, and of those that are being decoded. The first is taken first, and held meanwhile."""
