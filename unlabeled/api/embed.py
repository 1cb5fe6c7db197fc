"""The verb `embed`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, takes_data

if TYPE_CHECKING:
    import numpy as np


@takes_data
def embed(
    run: str | Path,
    data: Any,
    /,
    *,
    out: str | Path | None = None,
    accelerator: str = "auto",
    batch_size: int = 512,
    **about: Unpack[About],
) -> Path | dict[str, np.ndarray[Any, Any]]:
    """Write the features of samples to a file.

    Samples that cannot be read have no row; they are listed in NAME-skipped.csv beside the file.

    Args:
        run: folder of the run.
        data: samples, as for `pretrain`; labels and columns of text and numbers are copied where there are some.
        out: `.parquet` (columns index, path, split, label, class, embedding), `.csv` (likewise, with columns h0, h1, ... of
            features), `.npz` (arrays of the same names) or `.npy` (the features alone, with the other columns in
            NAME-rows.csv). `class` is the name or value that the data have, `label` its number. The data's own columns
            stand beside these, with data_ before a name that is taken. In Python without a file, these arrays are returned.
        accelerator: auto, cpu, cuda, mps.
        batch_size: samples at a time.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The file; or the arrays, by the names of the columns.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.exporting.embed import embed as embed_it

    path = None if out is None else Path(out)
    return embed_it(run, data, path, accelerator=accelerator, batch_size=batch_size, about=about)
