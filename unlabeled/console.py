"""Where words are printed: as they are written."""

from __future__ import annotations

import io
from collections.abc import Iterable

from rich.console import Console, RenderableType


def console(*, quiet: bool = False) -> Console:
    """Returns a console that takes brackets in names, paths and reasons for what they are, and colours no numbers."""
    return Console(quiet=quiet, highlight=False, markup=False)


def text(parts: Iterable[RenderableType]) -> str:
    """Returns what a terminal of 120 columns would show of sentences and tables."""
    file = io.StringIO()
    shown = Console(file=file, width=120, highlight=False, markup=False)
    for part in parts:
        shown.print(part, soft_wrap=isinstance(part, str))
    return file.getvalue().rstrip()
