"""The verb `views`: a picture of what a method sees."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlabeled import registry
from unlabeled.data import open_data
from unlabeled.data.kinds.kind import sees
from unlabeled.errors import UserError
from unlabeled.notebook import Picture
from unlabeled.recipe import Recipe
from unlabeled.registry import Choice
from unlabeled.training.setup import resolved, shape_of
from unlabeled.views.own import name_views
from unlabeled.views.sheet import contact_sheet


def draw(
    data: Any,
    policy: Any,
    kind: str,
    options: Mapping[str, Any],
    out: Path,
    image_size: int | None,
    images: int,
    seed: int,
    root: str | Path | None,
) -> Picture:
    """Does what `unlabeled.api.contact_sheet` says."""
    policy, chosen = None if policy is None else name_views(policy), {}
    for key, value in options.items():
        head, _, option = key.partition(".")
        if head != "policy" or not option:
            raise UserError(f"unknown option --{key}: options of the policy are written --policy.NAME VALUE")
        chosen[option] = value
    opened = open_data(data, kind=Choice(kind, {} if image_size is None else {"size": image_size}), root=root, seed=seed)
    source = opened.train
    recipe = resolved(Recipe(kind=Choice("", source.kind.resolved(source.form).options)), source)
    views = registry.build("views", Choice(policy or source.kind.policy, chosen), shape_of(recipe, source))
    if source.kind.name not in sees(views):
        raise UserError(f"policy {policy!r} is not for {source.kind.nouns}: give --policy {source.kind.policy}, say")
    picked = np.random.default_rng(seed).permutation(len(source))[: max(1, images)]
    path = contact_sheet(
        source.fetch(picked), views, torch.Generator().manual_seed(seed), out,
        pictures=partial(source.kind.pictures, form=source.form), shown=partial(source.kind.shown, form=source.form),
    )  # fmt: skip
    return Picture(path)
