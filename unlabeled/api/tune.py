"""The verb `tune`, for Python and the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.training.tune import Tuned


def tune(
    data: Any = None,
    /,
    *,
    label: str | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    encoder: str | None = None,
    views: str | None = None,
    optimizer: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    precision: str | None = None,
    recipe: str | Path | None = None,
    root: str | Path | None = None,
    accelerator: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Tuned:
    """Show how fast this machine trains a network in each way to compute, and which way `pretrain --speed auto` takes.

    What was found is kept for this machine and network, and `pretrain` uses it. Compiling is tried here whatever the length
    of the run.

    Args:
        data: as for `pretrain` (default: the recipe's).
        label: column of the classes, of a .csv with a header, of a Parquet file or of `columns` (default: one that is called
            label, class or the like; or the folders).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        encoder: any backbone of timm (default: resnet18).
        views: policy that draws the views (default: simclr).
        optimizer: sgd, adamw, muon or lars (default: sgd).
        epochs: passes over the images, by which compiling pays or not (default: 100).
        batch_size: images per step (default: 256).
        image_size: side of a view in pixels (default: the images' own, between 16 and 224).
        precision: auto, bf16 or 32 (default: auto).
        recipe: YAML file that says any of the above, or the name of a packaged one: `unlabeled recipes` lists them.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.
        options: dotted options.

    Returns:
        The timings and the choice.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.training.tune import tune as tune_it

    given = {
        "label": label,
        "path": path,
        "split": split,
        "limit": limit,
        "encoder": encoder,
        "views": views,
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "kind.size": image_size,
        "precision": precision,
    }
    layer = {k: v for k, v in given.items() if v is not None} | dict(options or {})
    return tune_it(data, layer, recipe, root, accelerator)
