"""A module of this package in a process of its own, whose memory is its own and which Ctrl-C stops cleanly."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from unlabeled.training.interrupt import stoppable

LOOK_EVERY = 0.5
"""Seconds between two looks at how it is doing."""


class ChildError(Exception):
    """It ended badly; the message says why, in its own words."""


class Child:
    """Runs modules one after the other; what they say goes to the log.

    Args:
        log: file that is written on.
        handle: descriptor of a lock, held as long as the process lives, even if this one is killed; -1 for none.
    """

    def __init__(self, log: Path, handle: int = -1) -> None:
        self.log, self.handle = log, handle

    def run(self, words: Sequence[str], look: Callable[[], None]) -> None:
        """Runs `python -m WORDS` to its end; calls `look` now and then.

        Raises:
            ChildError: it failed.
            KeyboardInterrupt: Ctrl-C or SIGTERM came; it was asked to save and end, and did.
        """
        with self.log.open("ab") as log, stoppable() as stop:
            before = log.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self.handle,) if self.handle >= 0 else (),
            )
            try:
                while process.poll() is None and not stop.wait(LOOK_EVERY):
                    look()
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

    def _reason(self, before: int, code: int) -> str:
        with self.log.open("rb") as log:
            log.seek(before)
            lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
        said = lines[-1] if lines else f"exit code {code}"
        if code < 0:
            said = f"killed by {signal.Signals(-code).name}" + " (out of memory?)" * (code == -signal.SIGKILL)
        return said.removeprefix("unlabeled: error: ")
