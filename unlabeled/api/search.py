"""The verb that looks for similar samples: search. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, takes_data

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL import Image

    from unlabeled.evaluating.search import Found


@takes_data
def search(
    run: str | Path,
    image: str | Path | int | np.ndarray[Any, Any] | torch.Tensor | Image.Image,
    /,
    *,
    data: Any = None,
    n: int = 10,
    out: str | Path = "search.png",
    accelerator: str = "auto",
    **about: Unpack[About],
) -> Found:
    """Find the samples of a data set that are most similar to one of its kind, by the cosine of their features.

    Args:
        run: folder of the run.
        image: a file, or the number or the path of a sample of the data as this prints it, such as zip/member. What is of
            the data is not found itself, nor are the pages of a file that is given, nor what equals an array. Numbers begin
            with 0 and go on from the training to the test samples, as in the table that this prints and in what `evaluate`
            draws; write ./7 for a file 7. In Python also an image itself: an array (H, W) or (H, W, C), a tensor (C, H, W),
            or one of PIL.
        data: samples to search, as for `pretrain`, of all splits; they need no labels (default: the run's own data).
        n: how many to find, at most.
        out: PNG file to draw them in, or a folder for `search.png`.
        accelerator: auto, cpu, cuda, mps.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        What was found, the most similar first; `lines()` is the table.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.evaluating.search import search as search_it

    return search_it(run, image, data=data, n=n, out=Path(out), accelerator=accelerator, about=about)
