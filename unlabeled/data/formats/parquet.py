"""Parquet with the Hub's image column: `image: struct<bytes, path>`, and columns beside it such as `label`, with names of
classes in the schema's metadata."""

from __future__ import annotations

import hashlib
import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.content import digest, of_file, of_what
from unlabeled.data.kinds.kind import build
from unlabeled.data.labels import known
from unlabeled.data.reader import Listing, Raw, Splits, in_a_line, readable
from unlabeled.errors import UserError
from unlabeled.files import check_regular
from unlabeled.registry import Choice

_NAMES = {"image": ("image", "img"), "sound": ("audio", "sound", "speech", "recording", "wav")}
_KEPT_BYTES = 1 << 30  # of encoded row groups held in memory
_HASHED_BYTES = 1 << 30  # of files known by their bytes, so that a copy is the same data; larger ones by name, size and some


class ParquetReader:
    """The column of samples of one or more files.

    Row groups are read whole and kept, up to a GiB of them: small groups make random access to large sets cheap.

    Args:
        paths: of the files, in order.
        files: the same, as `pyarrow.parquet.ParquetFile`.
        column: name of the column of samples: a struct of bytes and path, or binary.
        kind: of the samples.
    """

    channels = None
    lasting = True
    held = None

    def __init__(self, paths: Sequence[Path], files: Sequence[Any], column: str, kind: str = "image") -> None:
        self._paths, self._files, self._column = list(paths), list(files), column
        self._open = build(Choice(kind)).open
        self._groups = [(f, g) for f, file in enumerate(files) for g in range(file.num_row_groups)]
        rows = [files[f].metadata.row_group(g).num_rows for f, g in self._groups]
        self._starts = np.cumsum([0, *rows]).tolist()
        self._first_rows = np.cumsum([0, *(f.metadata.num_rows for f in files)]).tolist()
        self._kept: OrderedDict[int, tuple[Any, int]] = OrderedDict()
        self._lock = threading.Lock()
        whole = sum(p.stat().st_size for p in paths) <= _HASHED_BYTES
        self.identity = digest("\n".join(map(_digest if whole else _sampled, paths)) + column)
        self.place = "\n".join(f"{p.resolve()} {p.stat().st_mtime_ns}" for p in paths)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def size(self, index: int) -> int:
        return 0

    def read(self, index: int) -> Raw:
        return self._open(self._stored(index))

    def contents(self) -> list[bytes]:
        return [of_what(partial(self._stored, i)) for i in range(len(self))]

    def _stored(self, index: int) -> bytes | Path:
        """The bytes of a sample, or the file that has them."""
        group = bisect_right(self._starts, index) - 1
        cell: Any = self._group(group)[index - self._starts[group]].as_py()
        if isinstance(cell, bytes):
            return bytes(cell)
        if cell is not None and cell.get("bytes") is not None:
            return bytes(cell["bytes"])
        if cell is not None and cell.get("path"):
            return self._paths[self._groups[group][0]].parent / str(cell["path"])
        raise ValueError("null: neither bytes nor a path")

    def path(self, index: int) -> str:
        file = bisect_right(self._first_rows, index) - 1
        return f"{self._paths[file]}[{index - self._first_rows[file]}]"

    def _group(self, group: int) -> Any:
        """The image column of a row group; a broken one stays broken, so its error is kept in its place."""
        with self._lock:
            if group not in self._kept:
                file, number = self._groups[group]
                try:
                    table = self._files[file].read_row_group(number, columns=[self._column])
                    column = table.column(self._column).combine_chunks()
                    self._kept[group] = (column, column.nbytes)
                except Exception as error:  # pyarrow raises OSError, ArrowInvalid and others on broken pages
                    self._kept[group] = (ValueError(f"row group {number} is broken: {in_a_line(error)}"), 0)
                while len(self._kept) > 1 and sum(n for _, n in self._kept.values()) > _KEPT_BYTES:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(group)
            column = self._kept[group][0]
        if isinstance(column, Exception):
            raise column
        return column


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def _sampled(path: Path) -> str:
    return f"{path.name} {of_file(path).hex()}"


def open_parquet(path: Path, name: str, asked: str = "") -> Splits:
    """Opens one file, or a folder of `*train*.parquet` and `*test*.parquet` (or `*val*.parquet`), at any depth.

    Raises:
        UserError: not Parquet, no image column, a column of text or numbers that cannot be read, files that differ.
    """
    with readable(name, "Parquet", "make or download it again"):
        if path.is_file():
            return _listing([path], name, asked), None
        files = sorted(file for file in path.rglob("*.parquet") if not file.is_dir())
        train = [f for f in files if "train" in f.name.lower()]
        test = [f for f in files if "test" in f.name.lower()] or [f for f in files if "val" in f.name.lower()]
        test = [f for f in test if f not in train]
        if not train:
            return _listing([f for f in files if f not in test] or files, name, asked), None
        first = _listing(train, name, asked)
        return first, _listing(test, name, first.kind) if test else None


def _listing(paths: Sequence[Path], name: str, asked: str) -> Listing:
    import pyarrow.parquet as pq

    files = []
    for path in paths:
        with readable(str(path), "Parquet", "make or download it again"):
            check_regular(path)
            files.append(pq.ParquetFile(path))
    schema = files[0].schema_arrow
    for path, file in zip(paths, files, strict=True):
        if file.schema_arrow.names != schema.names:
            raise UserError(f"{path}: its columns {file.schema_arrow.names} differ from {paths[0].name}: make them alike")
    column, kind = _sample_column(schema, name, asked)
    reader = ParquetReader(paths, files, column, kind)
    if not len(reader):
        raise UserError(f"{name}: the Parquet file has no rows: give one with some")
    _check_there(reader, column, name)
    others = [other for other in schema.names if other != column]
    plain = [other for other in others if all(_is_plain(file.schema_arrow.field(other).type) for file in files)]
    columns = _columns(files, plain, name)
    declared = {other: names for other, names in _declared(schema).items() if other in columns}
    label = known(columns) or next(iter(declared), "")
    return Listing(name, reader, None, (), kind, columns=columns, label=label, declared=declared)


def _check_there(reader: ParquetReader, column: str, name: str) -> None:
    """Refuses a file that names its samples' files, and not their bytes, where the first of these is not there."""
    try:
        first = reader._stored(0)
    except Exception:  # a broken row is one bad sample
        return
    if isinstance(first, Path) and not first.exists():
        raise UserError(
            f"{name}: its column {column!r} holds no bytes, only paths of files such as {str(first)!r}, which is not there: "
            "write the file again with the bytes in it (in `datasets`, embed_external_files=True), or move it to the files"
        )


def _is_plain(kind: Any) -> bool:
    """Whether a column holds one text, number, day or time a sample, or nothing at all."""
    import pyarrow.types as t

    kind = kind.value_type if t.is_dictionary(kind) else kind
    tests = (
        t.is_string,
        t.is_large_string,
        t.is_integer,
        t.is_floating,
        t.is_boolean,
        t.is_decimal,
        t.is_temporal,
        t.is_null,
    )
    return any(test(kind) for test in tests) and not t.is_duration(kind)


def _columns(files: Sequence[Any], names: list[str], name: str) -> dict[str, np.ndarray[Any, Any]]:
    """Columns of all files, one after the other. Days, times and what is partly missing of true and false are text."""
    import pyarrow as pa

    with readable(f"{name}: one of its columns {', '.join(names)}", "a column", "write the file again"):
        table = pa.concat_tables([f.read(columns=names) for f in files], promote_options="permissive")
        return {column: _array(table.column(column)) for column in names}


def _array(values: Any) -> np.ndarray[Any, Any]:
    """A column as `unlabeled.data.columns.Columns` has it."""
    import pyarrow as pa
    import pyarrow.types as t

    values = values.cast(values.type.value_type) if t.is_dictionary(values.type) else values
    if t.is_boolean(values.type) and values.null_count:
        return np.array(["" if v is None else str(v) for v in values.to_pylist()], object)
    if t.is_boolean(values.type) or (t.is_integer(values.type) and not values.null_count):
        return np.asarray(values.to_numpy())
    if t.is_integer(values.type) or t.is_floating(values.type) or t.is_decimal(values.type):
        return np.asarray(values.cast(pa.float64(), safe=False).to_numpy())
    if t.is_timestamp(values.type):
        values = values.cast(pa.timestamp(values.type.unit))  # without the zone, whose name need not be known here
    coded = values.cast(pa.string()).fill_null("").dictionary_encode().unify_dictionaries()
    known = coded.chunk(0).dictionary.to_pylist() if coded.num_chunks else []
    which = np.concatenate([chunk.indices.to_numpy() for chunk in coded.chunks])
    text: np.ndarray[Any, Any] = np.array(known, object)[which]
    return text


def _sample_column(schema: Any, name: str, asked: str) -> tuple[str, str]:
    """Name of the column of samples, and their kind: as asked for, or by the name that the Hub gives such a column."""
    import pyarrow as pa

    def holds_files(kind: Any) -> bool:
        if pa.types.is_struct(kind):
            parts = {kind.field(i).name: kind.field(i).type for i in range(kind.num_fields)}
            of_paths = "path" in parts and pa.types.is_null(parts.get("bytes"))  # in a file that has the bytes of none
            return "bytes" in parts and (binary(parts["bytes"]) or of_paths)
        return binary(kind)

    def binary(kind: Any) -> bool:
        return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

    fitting = [f.name for f in schema if holds_files(f.type)]
    if not fitting:
        columns = ", ".join(f"{f.name}: {f.type}" for f in schema)
        wanted = asked or "image"
        raise UserError(
            f"{name}: no {wanted} column: expected `{wanted}: struct<bytes: binary, path: string>`, found {columns}"
        )
    named = [(f, kind) for kind, words in _NAMES.items() for f in fitting if f.lower() in words and asked in ("", kind)]
    return named[0] if named else (str(fitting[0]), asked or "image")


def _declared(schema: Any) -> dict[str, tuple[str, ...]]:
    """The names of classes that the Hub's metadata give, by column."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        classes = {k: v for k, v in features.items() if isinstance(v, dict) and v.get("_type") == "ClassLabel"}
        return {k: tuple(map(str, v.get("names") or ())) for k, v in classes.items() if k in schema.names}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
