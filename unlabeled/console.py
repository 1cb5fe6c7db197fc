"""Where words are printed: as they are written, on any terminal, and on none."""

from __future__ import annotations

import codecs
import io
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from rich.console import Console, RenderableType

SPELLED = {"×": "x", "±": "+-", "→": "->", "·": "*", "…": "...", "–": "-", "√": "sqrt", "µ": "u"}
"""Characters that are printed, for terminals that do not have them; others are escaped."""

SAID_EVERY = 60
"""Seconds between two lines of how far something is, where no bar shows it."""


def console(*, quiet: bool = False) -> Console:
    """Returns a console that takes brackets in names, paths and reasons for what they are, and colours no numbers."""
    file: Any = _Output()
    return Console(file=file, quiet=quiet, highlight=False, markup=False, force_jupyter=False)  # a notebook is no terminal


class EveryMinute:
    """Says how far something is, a line a minute, where no bar shows it: in a log file.

    Args:
        shown: where; None for a console of its own.
    """

    def __init__(self, shown: Console | None = None) -> None:
        self._console = shown or console()
        self.begin(0)

    def begin(self, done: float) -> None:
        """Takes the time from now on, where so much is done."""
        now = time.monotonic()
        self._began, self._said = (now, done), now

    def __call__(self, done: float, total: float, said: Callable[[], str]) -> None:
        """Prints it with the time left, if a minute is over and something is left to do."""
        now, (began, first) = time.monotonic(), self._began
        if self._console.is_terminal or now - self._said < SAID_EVERY or not first < done < total:
            return
        self._said = now
        left = timedelta(seconds=round((now - began) / (done - first) * (total - done)))
        self._console.print(f"{said()}, {left} left", soft_wrap=True)


def text(parts: Iterable[RenderableType]) -> str:
    """Returns what a terminal of 120 columns would show of sentences and tables."""
    file = io.StringIO()
    shown = Console(file=file, width=120, highlight=False, markup=False)
    for part in parts:
        shown.print(part, soft_wrap=isinstance(part, str))
    return file.getvalue().rstrip()


class _Output(io.TextIOBase):
    """Standard output. Characters that it lacks are spelled; once nobody reads it, what is printed is lost, and nothing ends
    by it."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return getattr(_stdout(), "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        return bool(_stdout().isatty())

    def fileno(self) -> int:
        return int(_stdout().fileno())

    def write(self, text: str) -> int:
        out = _stdout()
        try:
            out.write(text.encode(self.encoding, "spelled").decode(self.encoding))
        except OSError:
            _let_go(out)
        return len(text)

    def flush(self) -> None:
        out = _stdout()
        try:
            out.flush()
        except OSError:
            _let_go(out)


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """What stands for characters that an encoding does not have, as `codecs.register_error` wants it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SPELLED.get(c) or c.encode("ascii", "backslashreplace").decode() for c in lacking), error.end


codecs.register_error("spelled", _spelled)


def _stdout() -> Any:
    """Standard output itself, which rich puts something before while it draws a bar; a closed one is nowhere."""
    out = getattr(sys.stdout, "rich_proxied_file", sys.stdout)
    return io.StringIO() if out is None or out.closed else out


def _let_go(out: Any) -> None:
    """Turns a stream that nobody reads any more to nowhere, with what it still holds: else Python fails when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, out.fileno())
        os.close(nowhere)
