"""Ctrl-C, SIGTERM and the end of the terminal (SIGHUP) end a run after the step under way."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TOGETHER = 0.25
"""Seconds within which several signals are one: a terminal and a wrapper both pass Ctrl-C on. A person takes longer."""


@contextmanager
def stoppable() -> Iterator[threading.Event]:
    """Yields an event that Ctrl-C, SIGTERM or SIGHUP sets; the step under way is finished. A later Ctrl-C or SIGTERM
    interrupts at once. Where SIGHUP is ignored, as by nohup, it stays so."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    first = 0.0

    def note(number: int, frame: Any) -> None:
        nonlocal first
        if not stop.is_set():
            first = time.monotonic()
            stop.set()
        elif number != hangup and time.monotonic() - first > TOGETHER:
            raise KeyboardInterrupt

    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    ends = [signal.SIGINT, signal.SIGTERM]
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        ends.append(hangup)
    before = {s: signal.signal(s, note) for s in ends}
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
