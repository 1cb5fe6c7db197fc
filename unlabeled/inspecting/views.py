"""The verb `views`: a picture of what a method sees."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unlabeled import registry
from unlabeled.about import About, of_roles
from unlabeled.console import console
from unlabeled.data import Source, open_data
from unlabeled.data.kinds.kind import sees
from unlabeled.errors import UserError
from unlabeled.notebook import Picture
from unlabeled.recipe import Recipe, Roles, presupposed
from unlabeled.registry import Choice
from unlabeled.training.setup import resolved, shape_of
from unlabeled.views.own import name_views
from unlabeled.views.sheet import contact_sheet
from unlabeled.views.view import Views
from unlabeled.words import counted

BLANK, MANY, TRIED = 2.0, 0.01, 256
"""Standard deviation of the pixels of a view, in levels of 256, below which nothing is to be seen in it. Share of such views
that is told. Samples that it is taken from."""


def draw(data: Any, policy: Any, out: Path, *, image_size: int | None, images: int, seed: int, about: About) -> Picture:
    """Does what `unlabeled.api.contact_sheet` says."""
    policy = None if policy is None else name_views(policy)
    chosen: dict[str, Any] = {}
    given: dict[str, Any] = {} if image_size is None else {"size": image_size}
    for key, value in (about.get("options") or {}).items():
        head, _, option = key.partition(".")
        if head not in ("policy", "views", "kind") or not option:
            raise UserError(
                f"unknown option --{key}: options of the policy are written --policy.NAME VALUE, or as for `pretrain` "
                "--views.NAME VALUE"
            )
        (given if head == "kind" else chosen)[option.replace("-", "_")] = value
    roles = replace(Roles().given(**of_roles(about)), bears=presupposed(chosen))
    kind = Choice(about.get("kind") or "", given)
    opened = open_data(data, kind=kind, root=about.get("root"), seed=seed, roles=roles, split=None)
    for remark in opened.remarks():
        console().print(remark, soft_wrap=True)
    source = opened.train
    recipe = resolved(Recipe(kind=Choice("", source.kind.resolved(source.form).options)), source)
    asked = registry.get("views", policy or source.kind.policy).resolve(chosen)
    views = registry.build("views", asked, shape_of(recipe, source))
    if source.kind.name not in sees(views):
        raise UserError(f"policy {policy!r} is not for {source.kind.nouns}: give --policy {source.kind.policy}, say")
    picked = np.random.default_rng(seed).permutation(len(source))[: max(1, images)]
    if said := blank_views(source, views, asked, seed):
        console().print(said, soft_wrap=True)
    path = contact_sheet(
        source.fetch(picked), views, torch.Generator().manual_seed(seed), out, first=source.form.shown,
        pictures=partial(source.kind.pictures, form=source.form), shown=partial(source.kind.shown, form=source.form),
    )  # fmt: skip
    return Picture(path)


def blank_views(source: Source, views: Views, asked: Choice, seed: int) -> str:
    """Says how many views of some samples are blank though their pictures are not, and which options leave more of them; ""
    where hardly any are.

    Args:
        source: of the samples.
        views: draws them.
        asked: the same, with its options.
        seed: of the draws.
    """
    picked = np.random.default_rng(seed).permutation(len(source))[:TRIED]
    fields = source.fetch(picked)
    seen = _spread(source.kind.pictures(fields, source.form)) >= 4 * BLANK
    drawn = [source.kind.shown(view, source.form) for view in views(fields, torch.Generator().manual_seed(seed))[0]]
    empty = [view[seen & (_spread(view) < BLANK)] for view in drawn]
    count, of = sum(map(len, empty)), len(drawn) * int(seen.sum())
    if count <= MANY * of:
        return ""
    white, black = (sum(int(f(view.flatten(1).float().mean(1)).sum()) for view in empty) for f in (_is_white, _is_black))
    which = " and ".join(f"{n:,} {colour}" for n, colour in ((white, "white"), (black, "black")) if n)
    strength, scale = asked.options.get("strength", 0.0), asked.options.get("scale")
    better = [f"--policy.strength {strength / 4:g}"] if strength > 0 and white + black > count / 2 else []
    better += ["--policy.scale 0.5,1"] if isinstance(scale, tuple | list) and scale[0] < 0.5 and not better else []
    remedy = f"; {' '.join(better)} leaves more to see" * bool(better)
    return (
        f"{count:,} of {counted(of, 'views')} ({count / of:.0%}) of {counted(int(seen.sum()), source.kind.nouns)} are "
        f"blank, though these are not{f': {which}' * bool(which)}{remedy}."
    )


def _spread(pictures: torch.Tensor) -> torch.Tensor:
    """Largest standard deviation of a channel of each of uint8 (N, [P,] C, H, W): (N,)."""
    return pictures.float().std((-2, -1)).flatten(1).amax(1)


def _is_white(mean: torch.Tensor) -> torch.Tensor:
    return mean > 250


def _is_black(mean: torch.Tensor) -> torch.Tensor:
    return mean < 5
