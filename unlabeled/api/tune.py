"""The verb `tune`, for Python and the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from unlabeled.about import About, of_recipe, takes_data

if TYPE_CHECKING:
    from torch import nn

    from unlabeled.training.tune import Tuned


@takes_data
def tune(
    data: Any = None,
    /,
    *,
    encoder: str | nn.Module | Callable[..., nn.Module] | None = None,
    views: str | Callable[..., Any] | None = None,
    optimizer: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    image_size: int | None = None,
    precision: str | None = None,
    recipe: str | Path | None = None,
    accelerator: str = "auto",
    **about: Unpack[About],
) -> Tuned:
    """Show how fast this machine trains a network in each way to compute, and which way `pretrain --speed auto` takes.

    What was found is kept for this machine and network, and `pretrain` uses it. Compiling is tried here whatever the length
    of the run.

    Args:
        data: as for `pretrain` (default: the recipe's).
        encoder: any backbone of timm (default: resnet18). In Python also one of your own, as for `pretrain`.
        views: policy that draws the views (default: simclr). In Python also one of your own, as for `pretrain`.
        optimizer: sgd, adamw, muon or lars (default: sgd).
        epochs: passes over the images, by which compiling pays or not (default: 100).
        batch_size: images per step (default: 256).
        image_size: side of a view in pixels (default: the images' own, between 16 and 224).
        precision: auto, bf16 or 32 (default: auto).
        recipe: YAML file that says any of the above, or the name of a packaged one: `unlabeled recipes` lists them.
        accelerator: auto, cpu, cuda, mps.
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The timings and the choice.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.training.given import named
    from unlabeled.training.tune import tune as tune_it

    given = {
        **named(encoder=encoder, views=views),
        "optimizer": optimizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "kind.size": image_size,
        "precision": precision,
    }
    layer = of_recipe(about, **given)
    return tune_it(data, layer, recipe, about.get("root"), accelerator)
