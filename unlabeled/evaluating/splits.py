"""The two splits that a run is judged on, and the classes that are new to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.console import console
from unlabeled.data import Data, Source, held_out_classes, open_data
from unlabeled.data.split import BALANCED
from unlabeled.errors import UserError
from unlabeled.evaluating.subjects import learned_from_labels
from unlabeled.run import Run
from unlabeled.words import counted


@dataclass(frozen=True)
class Columns:
    """What is said of the data, None where the run's own recipe decides: see `unlabeled.recipe.Roles`."""

    label: str | None = None
    group: str | None = None
    columns: str | None = None
    path: str | None = None
    split: str | None = None
    limit: int | None = None


def splits(
    data: Any, run: Run, channels: int, root: str | Path | None, needs_labels: bool, asked: Columns
) -> tuple[Source, Source, str]:
    """Opens training and test split of the data, the run's own if None, and the latter in words.

    Raises:
        UserError: no data, no labels where they are needed, no such column, or a group that would divide the run's own data
            in another way.
    """
    recipe = run.recipe
    if data is None and not recipe.data:
        raise UserError("this run was trained on arrays, which it did not keep: give them again as data=")
    named = run.data if data is None else data
    opened = _opened(
        partial(open_data, named, kind=recipe.kind, channels=channels, root=root, seed=recipe.seed, split=run.split),
        run, asked, data is None,
    )  # fmt: skip
    whole = opened
    opened = whole.limited(asked.limit or 0, recipe.seed)
    if data is None:
        tell_place(run)
        if whole.same_as(run.environment["data"]) is False:
            tell_other(opened.train)
    for remark in opened.remarks():
        console().print(remark, soft_wrap=True)
    if opened.undivided:
        raise UserError(f"{opened.alone()}: give train=PATH,test=PATH")
    if opened.test is None or (needs_labels and (opened.test.labels is None or opened.train.labels is None)):
        nouns = opened.train.kind.nouns
        raise UserError(
            f"{opened.train.name!r} has no labels to evaluate with: give labelled {nouns} as --data, for example a folder "
            f"with one sub-folder a class{opened.train.candidates}"
        )
    if opened.split == BALANCED and whole.same_as(run.environment["data"]) is False:
        _tell_moved(run, opened, str(named) in (recipe.data, run.data))
    if needs_labels and opened.test.labels is not None and (opened.test.labels < 0).all():
        raise UserError(
            f"{opened.train.name!r}: none of the {len(opened.test):,} test {opened.test.kind.nouns} is labelled: label "
            "more, or give train=PATH,test=PATH"
        )
    if opened.test.fingerprint == opened.train.fingerprint:
        raise UserError(
            f"{opened.train.name!r}: training and test {opened.test.kind.nouns} are the same, so that all would be right: "
            "give others to test on, or the data without train= and test=, of which a fifth is then held out"
        )
    held = f"a held-out fifth (seed {recipe.seed})" if opened.held_out else "the test split"
    if opened.held_out and opened.group:
        held = f"a part held out by {opened.group} (seed {recipe.seed})"
    by = f", by {opened.train.label}" * bool(asked.label or recipe.label)
    return opened.train, opened.test, f"{counted(len(opened.test), opened.test.kind.nouns)} of {held}{by}"


def tell_place(run: Run) -> None:
    """Says where the run's data are found, if its recipe's words mean other data here, or none."""
    if run.data != run.recipe.data:
        said = f"{run.recipe.data!r} would be other data here, or none: {run.data} is taken, as where the run was begun"
        console().print(said, soft_wrap=True)


def tell_other(source: Source) -> None:
    """Says that what a run's words for its data mean now is other data."""
    told = f"{source.name!r} is not what the run was trained on: it has changed, or is other data of that name"
    console().print(told, soft_wrap=True)


def _tell_moved(run: Run, opened: Data, own: bool) -> None:
    """Says that other data than the run's are held out as earlier versions did, where the side of a sample hangs on all
    others; refuses that where they are its own, which have changed."""
    name, nouns, called = opened.train.name, opened.train.kind.nouns, str(run.path)
    if own:
        raise UserError(
            f"{name!r} has changed since {called!r} was trained, by a version that held out others of it then: {nouns} to "
            "test on now were trained on; give others as --data, or pretrain anew"
        )
    told = f"{called!r} held out {nouns} as earlier versions did: some of {name!r} may have been trained on"
    console().print(told, soft_wrap=True)


def _opened(how: Callable[..., Data], run: Run, asked: Columns, own: bool) -> Data:
    """The data. Of those that the run was trained on the same is held out as then, by the run's label and group, so that
    nothing is judged on that it was trained on; only then are they labelled by another column."""
    recipe = run.recipe
    with_columns = partial(recipe.roles.given, columns=asked.columns, path=asked.path, split=asked.split, elsewhere=not own)
    anew, then = with_columns(label=asked.label, group=asked.group), with_columns()
    if own and then.split != recipe.split:
        raise UserError(f"the run was trained without --split {then.split!r}: leave it out, or give other --data")
    if asked.label is None and asked.group is None:
        return how(roles=then)
    opened = None
    with nullcontext() if own else suppress(UserError):  # other data need not bear what the run's do
        opened = how(roles=then)
    if opened is None or opened.same_as(run.environment["data"]) is False or not opened.held_out:
        return how(roles=anew)
    if asked.group not in (None, recipe.group):
        before = f"by {recipe.group!r}" if recipe.group else "without a group"
        raise UserError(
            f"{opened.train.name!r}: the run held out its test images {before}; by {asked.group!r} it would be judged on "
            f"{opened.train.kind.nouns} that it was trained on: leave --group out, or pretrain with --group {asked.group}"
        )
    return opened if asked.label is None else opened.labelled_by(asked.label)


def new_classes(run: Run, source: Source) -> np.ndarray:
    """Returns the labels of the classes to judge on, none of which the run's method saw a label of. Where it saw labels of
    some: all others, held out or of names it never met. Where it saw none: those held out, if it used no labels, or a half.

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
            f"{source.name!r} has {counted(len(names), 'classes')}, and 4 are needed to judge on new ones, 2 new and "
            "2 others: give --data with more classes"
        )
    if seen & set(source.classes):
        new = np.flatnonzero(~np.isin(names, list(seen)))
    elif held & set(source.classes) and not labels:
        new = np.flatnonzero(np.isin(names, list(held)))
    else:
        new = held_out_classes(len(names), len(names) // 2, recipe.seed)
    if not 2 <= len(new) <= len(names) - 2:
        raise UserError(
            f"only {len(new)} of the {counted(len(names), 'classes')} of {source.name!r} are new to this run, whose method "
            f"{recipe.method.name!r} saw the labels of the others: at least 2 must be, and 2 not; "
            "pretrain with --hold-out-classes, or give --data with other classes"
        )
    return new
