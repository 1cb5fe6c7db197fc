"""A module of this package in a process of its own, whose memory is its own and which Ctrl-C stops cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from unlabeled.comparing.forks import Forked, ForkServer
from unlabeled.training.interrupt import stoppable

LOOK_EVERY, POLL_EVERY = 0.5, 0.05
"""Seconds between two looks at how it is doing, and at whether it is over."""


class ChildError(Exception):
    """It ended badly; the message says why, in its own words."""


class Child:
    """Runs modules one after the other; what they say goes to the log.

    Args:
        log: file that is written on.
        handle: descriptor of a lock, held as long as the process lives, even if this one is killed; -1 for none.
        server: that forks it; None for a process that imports everything anew.
    """

    def __init__(self, log: Path, handle: int = -1, server: ForkServer | None = None) -> None:
        self.log, self.handle, self.server = log, handle, server

    def run(self, words: Sequence[str], look: Callable[[], None]) -> None:
        """Runs `python -m WORDS` to its end; calls `look` now and then.

        Raises:
            ChildError: it failed.
            KeyboardInterrupt: Ctrl-C or SIGTERM came; it was asked to save and end, and did.
        """
        with self.log.open("ab") as log, stoppable() as stop:
            before = log.tell()
            process = self._start(words, log)
            try:
                looked = time.monotonic()
                while process.poll() is None and not stop.wait(POLL_EVERY):
                    if time.monotonic() - looked > LOOK_EVERY:
                        look()
                        looked = time.monotonic()
                if stop.is_set() and process.poll() is None:
                    process.send_signal(signal.SIGINT)
                code = process.wait()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait()
            if stop.is_set():
                raise KeyboardInterrupt
            if code:
                raise ChildError(self._reason(before, code))

    def _start(self, words: Sequence[str], log: IO[bytes]) -> Forked | subprocess.Popen[bytes]:
        if self.server:
            return self.server.start(words, log, self.handle)
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(self.handle,) if self.handle >= 0 else (),
        )

    def _reason(self, before: int, code: int) -> str:
        with self.log.open("rb") as log:
            log.seek(before)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        said = lines[-1] if lines else f"exit code {code}"
        if code < 0:
            said = f"killed by {signal.Signals(-code).name}" + " (out of memory?)" * (code == -signal.SIGKILL)
        return said.removeprefix("unlabeled: error: ")
