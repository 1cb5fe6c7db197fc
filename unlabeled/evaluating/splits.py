"""The two splits that a run is judged on, and the classes that are new to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data import Source, held_out_classes, open_data
from unlabeled.errors import UserError
from unlabeled.evaluating.subjects import learned_from_labels
from unlabeled.recipe import Recipe
from unlabeled.run import Run


def splits(
    data: Any, recipe: Recipe, channels: int, root: str | Path | None, needs_labels: bool
) -> tuple[Source, Source, str]:
    """Training and test split of the data, the run's own if None, and the latter in words.

    Raises:
        UserError: no data, or no labels where they are needed.
    """
    if data is None and not recipe.data:
        raise UserError("this run was trained on arrays, which it did not keep: give them again as data=")
    named = recipe.data if data is None else data
    opened = open_data(named, kind=recipe.kind, channels=channels, root=root, seed=recipe.seed)
    if opened.test is None or (needs_labels and (opened.test.labels is None or opened.train.labels is None)):
        raise UserError(
            f"{opened.train.name!r} has no labels to evaluate with: give labelled images as --data, for example a folder "
            "with one sub-folder a class"
        )
    held = f"a held-out fifth (seed {recipe.seed})" if opened.held_out else "the test split"
    return opened.train, opened.test, f"{len(opened.test):,} images of {held}"


def new_classes(run: Run, source: Source) -> np.ndarray:
    """Labels of the classes to judge on, none of which the run's method saw a label of. Where it saw labels of some: all
    others, held out or of names it never met. Where it saw none: those held out, if it used no labels, or a half.

    Raises:
        UserError: there are fewer than two, or fewer than two others.
    """
    recipe, trained = run.recipe, run.environment["data"]["classes"]
    held = {trained[c] for c in held_out_classes(len(trained), recipe.hold_out_classes, recipe.seed)}
    labels = learned_from_labels(run)
    seen = set(trained) - held if labels else set()
    names = np.array(source.classes)
    if len(names) < 4:
        raise UserError(
            f"{source.name!r} has {len(names)} classes, and 4 are needed to judge on new ones, 2 new and 2 others: "
            "give --data with more classes"
        )
    if seen & set(source.classes):
        new = np.flatnonzero(~np.isin(names, list(seen)))
    elif held & set(source.classes) and not labels:
        new = np.flatnonzero(np.isin(names, list(held)))
    else:
        new = held_out_classes(len(names), len(names) // 2, recipe.seed)
    if not 2 <= len(new) <= len(names) - 2:
        raise UserError(
            f"{len(new)} of the {len(names)} classes of {source.name!r} are new to this run, whose method "
            f"{recipe.method.name!r} saw the labels of the others: at least 2 must be, and 2 not; "
            "pretrain with --hold-out-classes, or give --data with other classes"
        )
    return new
