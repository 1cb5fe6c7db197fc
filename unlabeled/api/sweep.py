"""The verb `sweep`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, of_recipe, takes_data

if TYPE_CHECKING:
    from torch import nn

    from unlabeled.comparing.table import Tabled
    from unlabeled.methods.base import Method


@takes_data
def sweep(
    recipe: Any,
    data: Any = None,
    /,
    *,
    grid: Sequence[str],
    method: str | type[Method] | None = None,
    encoder: str | nn.Module | Callable[..., nn.Module] | None = None,
    views: str | Callable[..., Any] | None = None,
    optimizer: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    warmup_epochs: float | None = None,
    lr_scaling: str | None = None,
    precision: str | None = None,
    seed: int | None = None,
    out: str | Path = "runs/sweep",
    accelerator: str = "auto",
    **about: Unpack[About],
) -> Tabled:
    """Train a recipe with every combination of some options' values, judge all alike, and write the table and a figure.

    Each row trains in a process of its own, one after the other. The same command goes on where it was stopped; with more
    values it adds rows. Dotted options change the recipe of all rows.

    Args:
        recipe: YAML file or name of a packaged one; or the data, for the default recipe.
        data: labelled data, a path or a name as for `pretrain` (default: the recipe's). In Python also arrays, such as
            (images, labels).
        grid: an option and its values: `method.temperature=0.1,0.5`, semicolons between values with commas. Several
            may be given; the first is the figure's horizontal axis. `views`, or `views=crop,colour,blur`, is each pair of
            transformations, in a matrix (SimCLR, figure 5).
        method: what learns (default: the recipe's). In Python also a class of your own.
        encoder: any backbone of timm (default: resnet18). In Python also a `torch.nn.Module`, or a class of such, as for
            `pretrain`.
        views: policy that draws the views (default: the method's own). In Python also anything to call, as for `pretrain`.
        optimizer: sgd, adamw, muon or lars (default: the method's own).
        epochs: passes over the images for each row (default: the recipe's).
        minutes: of training for each row, in place of epochs: a trial says how many epochs that makes.
        batch_size: images per step (default: the recipe's).
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
    from unlabeled.comparing.sweep import sweep as sweep_it
    from unlabeled.training.given import named

    given = {
        **named(method=method, encoder=encoder, views=views),
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
    return sweep_it(
        recipe, data, axes=grid, layer=layer, minutes=minutes, out=Path(out), root=about.get("root"), accelerator=accelerator
    )  # fmt: skip
