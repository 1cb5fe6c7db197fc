"""A list of files, and what stands beside them: `.csv` or `.txt`, its cells between commas, semicolons, tabs or blanks."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice, product
from pathlib import Path
from typing import TextIO

import numpy as np

from unlabeled.data.columns import Array, missing_column, printable, typed
from unlabeled.data.formats.folder import FileReader, Stamp, stamp
from unlabeled.data.kinds.kind import suffixes
from unlabeled.data.reader import Listing, Splits, readable
from unlabeled.errors import UserError

_PATHS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "image_name", "img", "img_path",
    "audio", "sound", "wav",
)  # fmt: skip
_STAMPED = 100_000  # files that are asked for their size and time, which takes half a second
_UTF16 = b"\xff\xfe", b"\xfe\xff"  # as Excel writes "Unicode text"

Cells = Callable[[Iterable[str]], Iterator[list[str]]]
"""Lines of a list -> the cells of each, [] of an empty one."""


@dataclass(frozen=True, slots=True)
class _Head:
    """What the first two lines of a list say.

    Attributes:
        cells: takes its lines apart.
        at: position of the files.
        places: of the other columns, by name.
        width: number of cells of the first line, up to the last that is not empty.
        header: whether that names the columns.
        decimals: whether numbers may be written with a comma.
    """

    cells: Cells
    at: int
    places: dict[str, int]
    width: int
    header: bool
    decimals: bool


def open_list(path: Path, name: str, asked: str = "", tried: Sequence[str] = ("",)) -> Splits:
    """Reads a list of files, with columns beside them or without; opens none of the files.

    Files are named relative to the folder of the list, or absolutely; where none is there, relative to where the program
    runs, to the folder above, or to one beside the list, which is then said. Backslashes stand for slashes, and blanks
    around a name for nothing, unless there is a file that is called so. A header may name the columns. Without one they
    are label, column3 and so on. Of a list of more than 100,000 files only so many, spread evenly, are asked for their
    size and time, and what is decoded is not kept for another process.

    Args:
        path: of the list.
        name: of the data.
        asked: the kind of the samples; "" for that of the first file's suffix.
        tried: columns that may name the files, the first that is there; "" for the one that is known by its name, or holds
            such names.

    Raises:
        UserError: unreadable, empty, no such column, or a first line that is neither a header nor a sample.
    """
    with readable(name, "a list", "write one path a line"), _text(path) as file:
        head = _head(list(islice(filter(str.strip, file), 2)), path.suffix.lower(), name, tried)
        file.seek(0)
        paths, cells, remarks = _rows(file, head, name, path.parent)
    if not paths:
        raise UserError(f"{name}: the list is empty: write one path a line")
    columns = {column: _typed(values, head.decimals) for column, values in cells.items()}
    lasting = len(paths) <= _STAMPED
    kind = asked or suffixes().get(Path(paths[0]).suffix.lower(), "image")
    root = _root(path, paths)
    if root != path.parent:
        remarks = (*remarks, f"{name}: its files are not beside it, and were found in {str(root.resolve())!r}.")
    reader = FileReader(root, paths, _stamps(root, paths), lasting, kind)
    return Listing(name, reader, None, (), kind, columns=columns, remarks=remarks), None


def _root(path: Path, paths: Sequence[str]) -> Path:
    """Where the files of a list lie: beside it; else where some of them are found, as `train.csv` beside `train/` has it."""
    asked = [paths[at].replace("\0", "") for at in (0, len(paths) // 2, -1)]
    beside = (found for found in sorted(path.parent.iterdir(), key=lambda p: (p.name != path.stem, p)) if found.is_dir())
    places = (root for make in ((path.parent, Path(), path.parent.parent), beside) for root in make)
    return next((root for root in places if any(os.path.lexists(root / name) for name in asked)), path.parent)


def _text(path: Path) -> TextIO:
    with path.open("rb") as file:
        encoding = "utf-16" if file.read(2) in _UTF16 else "utf-8-sig"
    return path.open(encoding=encoding, errors="surrogateescape", newline="")


def _rows(file: TextIO, head: _Head, name: str, root: Path) -> tuple[list[str], dict[str, list[str]], tuple[str, ...]]:
    """Files; the other cells of their rows, by column, "" for one that a row lacks; and what is wrong with some rows."""
    paths: list[str] = []
    cells: dict[str, list[str]] = {column: [] for column in head.places}
    beside = [(cells[column], place) for column, place in head.places.items()]
    odd: dict[str, list[int]] = {"few": [], "many": [], "none": []}
    rows = enumerate(head.cells(file), 1)
    if head.header:
        next(row for _, row in rows if row)
    for number, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) <= head.at or not row[head.at].strip():
            odd["none"].append(number)
            continue
        if len(row) < head.width:
            odd["few"].append(number)
        if any(cell.strip() for cell in row[head.width :]):
            odd["many"].append(number)
        paths.append(_file(row[head.at], root))
        for values, place in beside:
            values.append(row[place] if place < len(row) else "")
    said = {
        "few": f"fewer than the {head.width} cells of the first line: what they lack counts as empty",
        "many": f"more than the {head.width} cells of the first line: what they have beyond is not used",
        "none": "no name of a file: they are left out",
    }
    return paths, cells, tuple(_said(name, found, said[what]) for what, found in odd.items() if found)


def _said(name: str, rows: Sequence[int], what: str) -> str:
    return f"{name}: {len(rows):,} row{'s have' * (len(rows) > 1) or ' has'} (the first is row {rows[0]:,}) {what}."


def _file(cell: str, root: Path) -> str:
    """The name of a file as it is written, or as it is meant: without blanks around, and of Windows."""
    if (cell == cell.strip() and "\\" not in cell) or os.path.lexists(root / cell.replace("\0", "")):
        return cell
    bare = cell.strip()
    return bare if os.path.lexists(root / bare.replace("\0", "")) else bare.replace("\\", "/")


def _typed(cells: Sequence[str], decimals: bool) -> Array:
    """A column; where cells are between semicolons, 0,5 may be a number."""
    values = typed(cells)
    if decimals and values.dtype.kind == "O":
        numbers = typed([cell.replace(",", ".") for cell in cells])
        return values if numbers.dtype.kind == "O" else numbers
    return values


def _head(lines: Sequence[str], suffix: str, name: str, tried: Sequence[str]) -> _Head:
    """What the first lines say; the first way to take them apart of which they make sense.

    Raises:
        UserError: there is none; or no column of that name.
    """
    if not lines:
        raise UserError(f"{name}: the list is empty: write one path a line")
    for column, (mark, way) in product(tried, _ways(lines[0], suffix)):
        first, *rest = way(lines)
        places = _places(first, rest[0] if rest else [], column)
        if places is not None:
            at, header = places
            others = [i for i in range(len(first)) if i != at]
            names = [printable(first[i].strip()) for i in others] if header else _unnamed(others)
            named = {name: i for name, i in reversed([*zip(names, others, strict=True)]) if name}  # the first of a name
            width = 1 + max(i for i, cell in enumerate(first) if cell.strip())
            return _Head(way, at, dict(reversed(named.items())), width, header, mark == ";")
    cells = [printable(cell.strip()) for cell in re.split("[,;\t]", lines[0].strip())]
    if tried[-1]:
        raise UserError(missing_column(cells, tried[-1], "--path", name))
    raise UserError(
        f"{name}: its first line begins with {cells[0]!r}, neither a file that can be read nor "
        "the header of a list: write one path a line, or name the columns path and label, with commas, semicolons or tabs "
        "between them; --path COLUMN says which holds the files"
    )


def _ways(line: str, suffix: str) -> Iterator[tuple[str, Cells]]:
    """What may stand between cells, and how lines are then taken apart, in the order in which they are tried. In a .txt
    nothing but a tab has a meaning where there is one, or where the line is a file, whose name may hold the others."""
    ways: dict[str, Cells] = {",": csv.reader, ";": _semicolons, "\t": _tabs}
    if suffix == ".txt":
        ways = {"\t": _bare_tabs} if "\t" in line or _is_file(line) else {",": csv.reader, ";": _semicolons}
    yield from sorted(ways.items(), key=lambda way: len(next(way[1]([line]))) < 2)
    yield " ", _by_blanks


def _semicolons(lines: Iterable[str]) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=";")


def _tabs(lines: Iterable[str]) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter="\t")


def _bare_tabs(lines: Iterable[str]) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)


def _unnamed(places: Sequence[int]) -> list[str]:
    """Names of columns that have none: label, and then by their number."""
    return ["label", *(f"column{i + 1}" for i in places[1:])][: len(places)]


def _places(first: Sequence[str], second: Sequence[str], column: str) -> tuple[int, bool] | None:
    """Position of the files, and whether `first` is a header; None where neither line tells."""
    named = [printable(cell.strip()) for cell in first]
    if column:
        return (named.index(column), True) if column in named else None
    lower = [cell.lower() for cell in named]
    at = next((lower.index(p) for p in _PATHS if p in lower), None)
    if at is not None:
        return at, True
    for row, header in ((first, False), (second, True)):
        files = [i for i, cell in enumerate(row) if _is_file(cell)]
        if files and files[0] < len(first):
            return files[0], header
    return None


def _is_file(cell: str) -> bool:
    return Path(cell.strip()).suffix.lower() in suffixes()


@cache
def _file_first() -> re.Pattern[str]:
    """A line that begins with a file, in whose name there may be blanks."""
    return re.compile(rf"\s*(\S.*?(?:{'|'.join(map(re.escape, suffixes()))}))(?:\s+(.*))?", re.IGNORECASE | re.DOTALL)


def _by_blanks(lines: Iterable[str]) -> Iterator[list[str]]:
    for line in lines:
        match = _file_first().fullmatch(line.rstrip())
        yield [match[1], *(match[2] or "").split()] if match else line.split()


def _stamps(root: Path, paths: Sequence[str]) -> list[Stamp]:
    """What the file system says of each file, or of some in a long list and nothing of the others."""
    stamps, folder = [(-1, 0)] * len(paths), str(root)
    for i in np.unique(np.linspace(0, len(paths) - 1, min(len(paths), _STAMPED)).astype(int)).tolist():
        stamps[i] = stamp(partial(os.stat, os.path.join(folder, paths[i])))  # noqa: PTH118
    return stamps
