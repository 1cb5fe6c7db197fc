"""The verb `embed`: features in a file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.console import console
from unlabeled.data import Source, left_out, open_data
from unlabeled.data.columns import printable, spell
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.probes.extract import features
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric

Columns = dict[str, np.ndarray[Any, Any]]


def embed(
    run: str | Path,
    data: Any,
    out: Path,
    *,
    label: str | None,
    columns: str | None,
    path: str | None,
    split: str | None,
    limit: int | None,
    root: str | Path | None,
    accelerator: str,
    batch_size: int,
) -> Path:
    """Does what `unlabeled.api.embed` says."""
    writers = {".parquet": _write_parquet, ".npz": _write_npz}
    if out.suffix not in writers:
        raise UserError(f"cannot write features to {str(out)!r}: give a name that ends in .parquet or .npz")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {str(out.parent)!r}: make it, or write elsewhere")
    opened_run = Run.judged(run)
    encoder = opened_run.encoder()
    recipe = opened_run.recipe
    channels = encoder.front.channels
    roles = recipe.roles.given(label=label, columns=columns, path=path, split=split, limit=limit, elsewhere=True)
    opened = open_data(data, kind=recipe.kind, channels=channels, root=root, seed=None, roles=roles)
    opened.tell()
    device = make_fabric(recipe, accelerator, 1).device
    encoder = encoder.to(device)
    splits: list[Columns] = []
    for part, source in (("train" if opened.test else "all", opened.train), ("test", opened.test)):
        if source is not None:
            h = features(encoder, source, device=device, batch_size=batch_size).numpy()
            splits.append(_columns(part, source, h))
    for line in left_out(opened.train, opened.test):
        console().print(line, soft_wrap=True)
    joined = {name: _joined(name, splits) for name in dict.fromkeys(name for part in splits for name in part)}
    return write_whole(out, lambda file: writers[out.suffix](file, joined, opened.train.classes))


def _columns(split: str, source: Source, h: np.ndarray[Any, Any]) -> Columns:
    """What is written of a split, of the samples that can be read."""
    good = np.flatnonzero(source.good())
    found: Columns = {
        "index": good,
        "path": np.array([source.path(int(i)) for i in good], dtype=object),
        "split": np.full(len(good), split, dtype=object),
        "label": (np.full(len(source), -1) if source.labels is None else source.labels)[good],
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
    with path.open("wb") as file:
        np.savez(file, **arrays)
