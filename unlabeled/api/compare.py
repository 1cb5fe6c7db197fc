"""The verb `compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unlabeled.comparing.table import Tabled


def compare(
    data: Any = None,
    /,
    *,
    method: Sequence[str],
    recipe: str | Path | None = None,
    label: str | None = None,
    group: str | None = None,
    columns: str | None = None,
    path: str | None = None,
    split: str | None = None,
    limit: int | None = None,
    invariances: str | None = None,
    encoder: str | None = None,
    optimizer: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    warmup_epochs: float | None = None,
    lr_scaling: str | None = None,
    precision: str | None = None,
    seed: int | None = None,
    out: str | Path = "runs/compare",
    root: str | Path | None = None,
    accelerator: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> Tabled:
    """Train several methods with one encoder and one budget, judge them by one protocol, and write the table.

    Rows for the untrained encoder and for the same network trained with 1% and with 100% of the labels are always there.
    Each row trains in a process of its own, one after the other. The same command goes on where it was stopped, and adds
    rows to a table that is there. Options of the encoder and the optimiser are written with a dot, as for `pretrain`.

    Args:
        data: labelled data, a path or a name as for `pretrain` (default: the recipe's). In Python also arrays, such as
            (images, labels).
        method: a method's name, with options after a colon (`moco:queue=1024`); a recipe, a file or a packaged one's name
            (`cifar10/moco-v2`); or the folder of a finished run. Several may be given. In Python also
            a class.
        recipe: YAML file of what holds for all rows: encoder, sizes, batch.
        label: column of the classes, of a .csv with a header, of a Parquet file or of `columns` (default: one that is called
            label, class or the like; or the folders).
        group: column of what must not be divided between training and test images, such as patient, slide or speaker: whole
            values of it are held out (default: none).
        columns: pattern by which the names of files make columns, such as {digit}_{speaker}_{index}; or with folders,
            {patient}/{} (default: none).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        invariances: what views may do to a sample that keeps its meaning, of images some of mirror, flip, rotation, colour
            and intensity with commas between them (default: what the data set declares; mirror,colour,intensity of images of
            your own).
        encoder: any backbone of timm (default: resnet18).
        optimizer: sgd, adamw, muon or lars, for rows given by name (default: each method's own).
        epochs: passes over the images for each row (default: 100).
        minutes: of training for each row, in place of epochs: a trial says how many epochs that makes.
        batch_size: images per step (default: 256).
        image_size: side of a view in pixels (default: the images' own, between 16 and 224).
        warmup_epochs: of linear warm-up (default: a tenth of the epochs, at most 10).
        lr_scaling: how the learning rate follows the batch size from 256 on: linear, sqrt or none (default: the paper's with
            its optimiser, else linear).
        precision: auto, bf16 or 32 (default: auto).
        seed: of everything random (default: 0).
        out: folder of the table, its figure and the runs.
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        accelerator: auto, cpu, cuda, mps.
        options: dotted options.

    Returns:
        The table; its rows are also in `table.json`.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.comparing.compare import compare as compare_them

    given = {
        "label": label,
        "group": group,
        "columns": columns,
        "path": path,
        "split": split,
        "limit": limit,
        "invariances": invariances,
        "encoder": encoder,
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "kind.size": image_size,
        "warmup_epochs": warmup_epochs,
        "lr_scaling": lr_scaling,
        "precision": precision,
        "seed": seed,
    }
    layer = {k: v for k, v in given.items() if v is not None} | dict(options or {})
    return compare_them(
        data, method=method, layer=layer, minutes=minutes, out=Path(out), recipe_file=recipe, root=root,
        accelerator=accelerator,
    )  # fmt: skip
