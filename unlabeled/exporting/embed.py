"""The verb `embed`: features in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.probes.extract import features
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric

Columns = dict[str, np.ndarray[Any, Any]]


def embed(run: str | Path, data: Any, out: Path, *, root: str | Path | None, accelerator: str, batch_size: int) -> Path:
    """See `unlabeled.api.embed`."""
    writers = {".parquet": _write_parquet, ".npz": _write_npz}
    if out.suffix not in writers:
        raise UserError(f"cannot write features to {str(out)!r}: give a name that ends in .parquet or .npz")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {str(out.parent)!r}: make it, or write elsewhere")
    opened_run = Run.open(run)
    encoder = opened_run.encoder()
    recipe = opened_run.recipe
    channels = encoder.front.channels
    opened = open_data(data, kind=recipe.kind, channels=channels, root=root, seed=None)
    device = make_fabric(recipe, accelerator, 1).device
    encoder = encoder.to(device)
    columns: dict[str, list[Any]] = {name: [] for name in ("index", "path", "split", "label", "embedding")}
    for split, source in (("train" if opened.test else "all", opened.train), ("test", opened.test)):
        if source is None:
            continue
        h = features(encoder, source, device=device, batch_size=batch_size).numpy()
        good = np.flatnonzero(source.good())
        columns["index"].append(good)
        columns["path"].append(np.array([source.path(int(i)) for i in good], dtype=object))
        columns["split"].append(np.full(len(good), split, dtype=object))
        columns["label"].append((np.full(len(source), -1) if source.labels is None else source.labels)[good])
        columns["embedding"].append(h[good])
    joined = {name: np.concatenate(parts) for name, parts in columns.items()}
    return write_whole(out, lambda path: writers[out.suffix](path, joined))


def _write_parquet(path: Path, columns: Columns) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    h = np.ascontiguousarray(columns["embedding"], dtype=np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(h.ravel()), h.shape[1])
    plain = {name: pa.array(values) for name, values in columns.items() if name != "embedding"}
    pq.write_table(pa.table({**plain, "embedding": embedding}), path)


def _write_npz(path: Path, columns: Columns) -> None:
    text = {name: columns[name].astype(np.str_) for name in ("path", "split")}
    arrays: dict[str, Any] = {**columns, **text}
    with path.open("wb") as file:
        np.savez(file, **arrays)
