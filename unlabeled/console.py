"""Where words are printed: as they are written."""

from __future__ import annotations

from rich.console import Console


def console(*, quiet: bool = False) -> Console:
    """A console that takes brackets in names, paths and reasons for what they are, and colours no numbers."""
    return Console(quiet=quiet, highlight=False, markup=False)
