"""The verb `compare`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, of_recipe, takes_data

if TYPE_CHECKING:
    from torch import nn

    from unlabeled.comparing.table import Tabled


@takes_data
def compare(
    data: Any = None,
    /,
    *,
    method: Sequence[str] | Sequence[Any],
    recipe: str | Path | None = None,
    encoder: str | Callable[..., nn.Module] | None = None,
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
    accelerator: str = "auto",
    **about: Unpack[About],
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
            a class of your own, or with options `(Mine, {"temperature": 0.2})`.
        recipe: YAML file of what holds for all rows: encoder, sizes, batch.
        encoder: any backbone of timm (default: resnet18). In Python also a class of `torch.nn.Module`.
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
        accelerator: auto, cpu, cuda, mps.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The table; its rows are also in `table.json`.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.comparing.compare import compare as compare_them
    from unlabeled.training.given import named

    given = {
        **named(encoder=encoder),
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "kind.size": image_size,
        "warmup_epochs": warmup_epochs,
        "lr_scaling": lr_scaling,
        "precision": precision,
        "seed": seed,
    }
    layer = of_recipe(about, **given)
    return compare_them(
        data, method=method, layer=layer, minutes=minutes, out=Path(out), recipe_file=recipe, root=about.get("root"),
        accelerator=accelerator,
    )  # fmt: skip
