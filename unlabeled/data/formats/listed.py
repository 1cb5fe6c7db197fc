"""A list of files, one a line, and columns beside them: `.csv`, or `.txt` with tabs."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TextIO

import numpy as np

from unlabeled.data.columns import printable, typed
from unlabeled.data.formats.folder import FileReader, Stamp, stamp
from unlabeled.data.kinds.kind import suffixes
from unlabeled.data.reader import Listing, Splits, readable
from unlabeled.errors import UserError

_PATHS = ("path", "file", "filename", "file_name", "filepath", "image", "image_path", "audio", "sound", "wav")
_STAMPED = 100_000  # files that are asked for their size and time, which takes half a second


def open_list(path: Path, name: str, asked: str = "") -> Splits:
    """Reads a list of paths, with columns beside them or without; opens none of the files.

    Paths are relative to the folder of the list, or absolute. A header may name the columns, such as path and label; without
    one they are the first and the second, and others have no name. Of a list of more than 100,000 files only so many, spread
    evenly, are asked for their size and time, and what is decoded is not kept for another process.

    Raises:
        UserError: unreadable, empty, or a first line that is neither a header nor a sample.
    """
    paths: list[str] = []
    with readable(name, "a list", "write one path a line"), _text(path) as file:
        rows = csv.reader(file, csv.excel if path.suffix.lower() == ".csv" else _Tabs)
        first: list[str] = next(filter(None, rows), [])
        at, places, header = _columns(first, name)
        cells: dict[str, list[str]] = {column: [] for column in places}
        beside = [(cells[column], place) for column, place in places.items()]
        for row in rows if header else chain([first], rows):
            if len(row) > at:
                paths.append(row[at])
                for values, place in beside:
                    values.append(row[place] if place < len(row) else "")
    if not paths:
        raise UserError(f"{name}: the list is empty: write one path a line")
    columns = {column: typed(values) for column, values in cells.items()}
    lasting = len(paths) <= _STAMPED
    kind = asked or suffixes().get(Path(paths[0]).suffix.lower(), "image")
    reader = FileReader(path.parent, paths, _stamps(path.parent, paths), lasting, kind)
    return Listing(name, reader, None, (), kind, columns=columns), None


def _text(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


class _Tabs(csv.excel_tab):
    """Nothing but a tab has a meaning: file names may contain quotes."""

    quoting = csv.QUOTE_NONE


def _columns(first: Sequence[str], name: str) -> tuple[int, dict[str, int], bool]:
    """Position of the paths; those of the other columns, by name; and whether `first` is a header."""
    named = [printable(cell.strip()) for cell in first]
    lower = [cell.lower() for cell in named]
    at = next((lower.index(p) for p in _PATHS if p in lower), None)
    if at is not None:
        return at, {cell: named.index(cell) for i, cell in enumerate(named) if cell and i != at}, True
    if first and Path(first[0]).suffix.lower() not in suffixes():
        raise UserError(
            f"{name}: its first line begins with {first[0]!r}, neither a file that can be read nor the header of a list: "
            "write one path a line, or name the columns path and label"
        )
    return 0, {"label": 1}, False


def _stamps(root: Path, paths: Sequence[str]) -> list[Stamp]:
    """What the file system says of each file, or of some in a long list and nothing of the others."""
    stamps, folder = [(-1, 0)] * len(paths), str(root)
    for i in np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _STAMPED)).astype(int)).tolist():
        stamps[i] = stamp(partial(os.stat, os.path.join(folder, paths[i])))  # noqa: PTH118
    return stamps
