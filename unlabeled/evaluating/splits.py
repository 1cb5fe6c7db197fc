"""The two splits that a run is judged on, and the classes that are new to it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np

from unlabeled.about import About, of_limit
from unlabeled.console import console
from unlabeled.data import Data, Source, held_out_classes, open_data
from unlabeled.data.split import BALANCED, seed_in
from unlabeled.errors import UserError
from unlabeled.evaluating.reading import kind_of, roles_of, tell_other, tell_place
from unlabeled.evaluating.subjects import learned_from_labels
from unlabeled.probes.paired import Clusters
from unlabeled.run import Run
from unlabeled.words import counted


def splits(
    data: Any, run: Run, channels: int, needs_labels: bool, about: About
) -> tuple[Source, Source, str, Clusters | None]:
    """Opens training and test split of the data, the run's own if None; tells the latter in words, and which of its samples
    are not independent.

    Raises:
        UserError: no data, no labels where they are needed, no such column, or a group that would divide the run's own data
            in another way.
    """
    recipe = run.recipe
    if data is None and not recipe.data:
        raise UserError("this run was trained on arrays, which it did not keep: give them again as data=")
    named = run.data if data is None else data
    kind, root = kind_of(run, about), about.get("root")
    if data is None and (other := [name for name, value in kind.options.items() if value != recipe.kind.options.get(name)]):
        raise UserError(
            f"the run was trained with {other[0]} = {recipe.kind.options.get(other[0])}: leave --{other[0]} out, or give "
            "other --data"
        )
    how = partial(open_data, named, kind=kind, channels=channels, root=root, seed=recipe.seed, split=run.split, judged=True)
    whole = _opened(how, run, about, data is None)
    opened = whole.limited(of_limit(about), recipe.seed)
    if data is None:
        tell_place(run)
        if whole.same_as(run.environment["data"]) is False:
            tell_other(opened.train)
    for remark in opened.remarks(run.recipe.more_labels):
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
    by = f", by {opened.train.label}" * bool(about.get("label") or recipe.label)
    alike = opened.clusters()
    return opened.train, opened.test, _tested(opened, opened.test, recipe.seed) + by, alike and Clusters(*alike)


def _tested(opened: Data, test: Source, seed: int) -> str:
    """Says how many samples there are to test on, and how they came about."""
    held = "the test split"
    if opened.held_out:
        part = f"a part held out by {opened.group}" if opened.group else "a held-out fifth"
        held = f"{part} (seed {seed_in(opened.split, seed)})"
    return f"{counted(len(test), test.kind.nouns)} of {held}"


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


def _opened(how: Callable[..., Data], run: Run, about: About, own: bool) -> Data:
    """The data. Of those that the run was trained on the same is held out as then, by the run's label and group, so that
    nothing is judged on that it was trained on; only then are they labelled by another column."""
    recipe = run.recipe
    label, group = about.get("label"), about.get("group")
    rest: About = {**about, "label": None, "group": None, "limit": None}
    then = roles_of(run, rest, elsewhere=not own, views=True)
    anew = roles_of(run, {**rest, "label": label, "group": group}, elsewhere=not own, views=True)
    if own and then.split != recipe.split:
        raise UserError(f"the run was trained without --split {then.split!r}: leave it out, or give other --data")
    if label is None and group is None:
        return how(roles=then)
    opened = None
    with nullcontext() if own else suppress(UserError):  # other data need not bear what the run's do
        opened = how(roles=then)
    if opened is None or opened.same_as(run.environment["data"]) is False or not opened.held_out:
        return how(roles=anew)
    if group not in (None, recipe.group):
        before = f"by {recipe.group!r}" if recipe.group else "without a group"
        raise UserError(
            f"{opened.train.name!r}: the run held out its test images {before}; by {group!r} it would be judged on "
            f"{opened.train.kind.nouns} that it was trained on: leave --group out, or pretrain with --group {group}"
        )
    return opened if label is None else opened.labelled_by(label)


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
