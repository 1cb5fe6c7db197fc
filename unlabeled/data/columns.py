"""Columns beside the samples, of text or numbers, one value a sample: what classes and groups are made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from pathlib import PurePosixPath
from string import Formatter
from typing import Any

import numpy as np

from unlabeled.errors import UserError
from unlabeled.words import counted

Array = np.ndarray[Any, Any]
Columns = Mapping[str, Array]
"""Name -> (n,): int64, float64 with NaN where there is no value, bool, or text as objects with "" where there is none."""

_WHOLE = re.compile(r"-?(?:0|[1-9]\d{0,14})")  # fewer digits than a float64 holds; 007 is a name
_REAL = re.compile(r"[+-]?(?:(?:0|[1-9]\d{0,14})(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?|nan", re.IGNORECASE)


def printable(text: str) -> str:
    """Returns text that can be written and drawn: bytes of a name that are no UTF-8 become escapes.

    >>> printable("caf\\udce9")
    'caf\\\\xe9'
    """
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def typed(cells: Sequence[str]) -> Array:
    """Returns a column of text (n,) as whole numbers if all cells are such, as real ones if all are numbers or empty, else
    as it is, less the blanks around. What begins with a needless 0, or has more than 15 digits, is a name."""
    words = {cell: printable(cell.strip()) for cell in set(cells)}
    filled = set(words.values()) - {""}
    if filled and all(map(_WHOLE.fullmatch, filled)) and "" not in words.values():
        return np.array([int(cell) for cell in cells], np.int64)
    if filled and all(map(_REAL.fullmatch, filled)):
        numbers = {cell: float(word) if word else np.nan for cell, word in words.items()}
        return np.array([numbers[cell] for cell in cells], np.float64)
    return np.array([words[cell] for cell in cells], object)


def column(columns: Columns, name: str, option: str, data: str) -> Array:
    """Returns the column that an option names.

    Raises:
        UserError: there is none of that name; it lists those that there are, the most similar first.
    """
    if name in columns:
        return columns[name]
    if not columns:
        raise UserError(
            f"{data}: {option} {name!r}, and there are no columns: a .csv with a header or a Parquet file has some, and "
            "--columns '{name}_{name}' makes some of the parts of file names"
        )
    raise UserError(missing_column(columns, name, option, data))


def missing_column(columns: Iterable[str], name: str, option: str, data: str) -> str:
    """Says that an option names no column, and which there are, the most similar first."""
    near = sorted(columns, key=lambda other: -SequenceMatcher(None, name.lower(), other.lower()).ratio())
    return f"{data}: {option} {name!r}, and there is no such column: give one of {', '.join(near)}"


def numbered(values: Array) -> tuple[Array, list[str]]:
    """Returns which of its distinct values each sample has, (n,) int64 and -1 where it has none; and these k values as text,
    in their order."""
    if values.dtype.kind == "O":
        found = sorted(set(values.tolist()) - {""})
        number = {value: i for i, value in enumerate(found)} | {"": -1}
        return np.array([number[value] for value in values.tolist()], np.int64), found
    missing = np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), bool)
    distinct, which = np.unique(values[~missing], return_inverse=True)
    which_of_all = np.full(len(values), -1, np.int64)
    which_of_all[~missing] = which
    return which_of_all, [spell(value) for value in distinct.tolist()]


def spell(value: float | str) -> str:
    """Returns a value as text; a whole number without a decimal point."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def shared(train: Array, test: Array) -> tuple[list[str], int, int]:
    """Returns the values that both splits have, how many distinct ones the test split has, and how many of its samples have
    one that is in train, too."""
    of_train, of_test = set(numbered(train)[1]), numbered(test)
    both = [value in of_train for value in of_test[1]]
    torn = np.array([*both, False])[of_test[0]]  # -1, without a value, is the last
    return [value for value, yes in zip(of_test[1], both, strict=True) if yes], len(both), int(torn.sum())


def parts(pattern: str, paths: Sequence[str], name: str) -> dict[str, Array]:
    """Returns the parts of file names as columns.

    Args:
        pattern: such as `{digit}_{speaker}_{index}`, for the name of a file without its suffix; with folders before it where
            it has slashes, `{patient}/{}`. A part holds neither of the characters beside it in the pattern; `{}` is a part
            that is not kept, and may hold anything.
        paths: of the files.
        name: of the data, for messages.

    Raises:
        UserError: it is not such a pattern, or there are files that do not match it.

    >>> parts("{digit}_{speaker}_{}", ["sounds/7_jackson_32.wav"], "sounds.zip")
    {'digit': array([7]), 'speaker': array(['jackson'], dtype=object)}
    """
    fields, expression = _compiled(pattern)
    matches = [expression.fullmatch(stem) for stem in _stems(paths, pattern.count("/") + 1)]
    wrong = [path for path, match in zip(paths, matches, strict=True) if match is None]
    if wrong:
        raise UserError(
            f"{name}: --columns {pattern!r} does not fit {len(wrong):,} of {counted(len(paths), 'files')}, the first "
            f"of them {wrong[0]!r}: write the pattern of their names without the suffix, or rename these files"
        )
    found = [match.groups() for match in matches if match]
    return {field: typed([groups[i] for groups in found]) for i, field in enumerate(fields) if field}


def fits(pattern: str, paths: Sequence[str]) -> bool:
    """Tells whether any of the files has a name of the pattern of `parts`."""
    _, expression = _compiled(pattern)
    return any(map(expression.fullmatch, _stems(paths, pattern.count("/") + 1)))


def _stems(paths: Sequence[str], depth: int) -> Iterator[str]:
    """The last parts of paths, without the suffix."""
    for path in paths:
        *folders, file = path.split("/")[-depth:]
        yield "/".join([*folders, PurePosixPath(file).stem])


def _compiled(pattern: str) -> tuple[list[str], re.Pattern[str]]:
    """Names of the fields, "" for one that is not kept, and the expression, with a group for each."""
    try:
        pieces = list(Formatter().parse(pattern))
    except ValueError as error:
        raise UserError(f"--columns {pattern!r} is not a pattern ({error}): write it as '{{patient}}_{{slide}}'") from None
    fields = [field for _, field, _, _ in pieces if field is not None]
    kept = [field for field in fields if field]
    if not kept or len(set(kept)) < len(kept) or any(spec or conversion for _, _, spec, conversion in pieces):
        raise UserError(f"--columns {pattern!r}: name each part once, in braces, as in '{{patient}}_{{slide}}'")
    text = ""
    for at, (literal, field, _, _) in enumerate(pieces):
        text += re.escape(literal)
        after = pieces[at + 1] if at + 1 < len(pieces) else ("", None, None, None)
        if field is not None and not after[0] and after[1] is not None:
            raise UserError(f"--columns {pattern!r}: where does {{{field}}} end? Write a character between two parts")
        if field is not None:
            text += f"([^/{re.escape(literal[-1:] + after[0][:1]) * bool(field)}]+)"
    return fields, re.compile(text, re.DOTALL)
