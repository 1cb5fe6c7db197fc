"""The verb `embed`: features in a file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.about import About
from unlabeled.console import console
from unlabeled.data import Source, left_out
from unlabeled.data.columns import printable, spell
from unlabeled.data.formats.arrays import write_npz
from unlabeled.errors import UserError
from unlabeled.evaluating.reading import open_for
from unlabeled.files import write_whole
from unlabeled.probes.extract import features
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric

Columns = dict[str, np.ndarray[Any, Any]]


def embed(
    run: str | Path,
    data: Any,
    out: Path | None,
    *,
    accelerator: str,
    batch_size: int,
    about: About,
) -> Path | Columns:
    """Does what `unlabeled.api.embed` says."""
    if out is not None:
        _check(out)
    opened_run = Run.judged(run)
    encoder = opened_run.encoder()
    opened = open_for(opened_run, encoder.front.channels, data, about)
    device = make_fabric(opened_run.recipe, accelerator, 1).device
    encoder = encoder.to(device)
    splits: list[Columns] = []
    sources = {"train": opened.train, "test": opened.test} if opened.test else {"all": opened.train}
    for part, source in sources.items():
        h = features(encoder, source, device=device, batch_size=batch_size).numpy()
        splits.append(_columns(part, source, h))
    for line in left_out(opened.train, opened.test):
        console().print(line, soft_wrap=True)
    joined = {name: _joined(name, splits) for name in dict.fromkeys(name for part in splits for name in part)}
    if out is None:
        return joined
    _list_skipped(out, {part: source for part, source in sources.items() if source.skipped})
    write_whole(out, lambda file: WRITERS[out.suffix](file, joined, opened.train.classes))
    if out.suffix == ".npy":
        _list_rows(out, joined)
    return out


def _check(out: Path) -> None:
    """Refuses a file that cannot be written."""
    if out.suffix not in WRITERS:
        *others, last = WRITERS
        raise UserError(f"cannot write features to {str(out)!r}: give a name that ends in {', '.join(others)} or {last}")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {str(out.parent)!r}: make it, or write elsewhere")


def _list_skipped(out: Path, sources: Mapping[str, Source]) -> None:
    """Writes which samples have no row, and why, beside the features; nothing where there are none."""
    path = out.with_name(f"{out.stem}-skipped.csv")
    if not sources:
        path.unlink(missing_ok=True)  # of another time
        return
    rows = [(split, one.path, one.reason) for split, source in sources.items() for one in source.skipped]
    write_whole(path, lambda p: _write_rows(p, [("split", "path", "reason"), *rows]))
    console().print(f"written: {path}, which lists them", soft_wrap=True)


def _list_rows(out: Path, columns: Columns) -> None:
    """Writes what each row of an array is, which has no place in it, beside the features."""
    path = out.with_name(f"{out.stem}-rows.csv")
    plain = {name: values.tolist() for name, values in columns.items() if name != "embedding"}
    write_whole(path, lambda p: _write_rows(p, [list(plain), *zip(*plain.values(), strict=True)]))
    console().print(f"written: {path}, which says what each row is", soft_wrap=True)


def _write_rows(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _columns(split: str, source: Source, h: np.ndarray[Any, Any]) -> Columns:
    """What is written of a split, of the samples that can be read."""
    good = np.flatnonzero(source.good())
    found: Columns = {
        "index": good,
        "path": np.array([source.path(int(i)) for i in good], dtype=object),
        "split": np.full(len(good), split, dtype=object),
        "label": (labels := (np.full(len(source), -1) if source.labels is None else source.labels)[good]),
        "class": np.array([*source.classes, ""], object)[labels],  # -1 is the last
        "embedding": h[good],
    }
    for name, values in source.columns.items():
        free = name
        while free in found:
            free = f"data_{free}"
        found[free] = values[good]
    return found


def _joined(name: str, splits: list[Columns]) -> np.ndarray[Any, Any]:
    """A column of all splits, one after the other; no value where one of them does not have it, text where one is text."""
    there = [part[name] for part in splits if name in part]
    if any(values.dtype == object for values in there):
        missing: Any = np.array("", object)
        there = [np.array([spell(v) for v in values.tolist()], object) for values in there]
    else:
        missing = np.array(np.nan)
    left = iter(there)
    return np.concatenate([next(left) if name in part else np.repeat(missing, len(part["index"])) for part in splits])


def _write_parquet(path: Path, columns: Columns, classes: Sequence[str]) -> None:
    """With the names of the classes where the Hub's readers look for them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    h = np.ascontiguousarray(columns["embedding"], dtype=np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(h.ravel()), h.shape[1])
    plain = {name: pa.array(_writable(values)) for name, values in columns.items() if name != "embedding"}
    table = pa.table({name: plain.get(name, embedding) for name in columns})
    if classes:
        features = {"label": {"names": list(classes), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, path)


def _writable(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Text as UTF-8 can hold it: bytes of other encodings become escapes."""
    if values.dtype != object:
        return values
    return np.array(list(map(printable, values)), object)


def _write_npz(path: Path, columns: Columns, classes: Sequence[str]) -> None:
    arrays: dict[str, Any] = {k: v.astype(np.str_) if v.dtype == object else v for k, v in columns.items()}
    write_npz(path, arrays)


def _write_csv(path: Path, columns: Columns, classes: Sequence[str]) -> None:
    """A column for each feature, h0 to hD."""
    h = columns["embedding"]
    plain = {name: values.tolist() for name, values in columns.items() if name != "embedding"}
    head = [*plain, *(f"h{i}" for i in range(h.shape[1]))]
    _write_rows(path, [head, *([*row, *map(str, line)] for *row, line in zip(*plain.values(), h, strict=True))])


def _write_npy(path: Path, columns: Columns, classes: Sequence[str]) -> None:
    with path.open("wb") as file:
        np.save(file, columns["embedding"])


WRITERS = {".parquet": _write_parquet, ".csv": _write_csv, ".npz": _write_npz, ".npy": _write_npy}
