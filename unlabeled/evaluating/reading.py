"""How data are read for an encoder: as its run was told, and as is said anew."""

from __future__ import annotations

from typing import Any

from unlabeled import registry
from unlabeled.about import About, of_kind, of_roles
from unlabeled.console import console
from unlabeled.data import Data, Source, open_data
from unlabeled.data.kinds.kind import build
from unlabeled.errors import UserError
from unlabeled.recipe import Roles
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.words import counted


def roles_of(run: Run, about: About, *, elsewhere: bool, views: bool = False) -> Roles:
    """Returns what is said of columns and samples.

    Args:
        run: of the encoder.
        about: what is said anew.
        elsewhere: whether it is of other data than the run was trained on; see `Roles.given`.
        views: whether the verb draws views.

    Raises:
        UserError: something of views, where none are drawn.
    """
    if about.get("invariances") is not None and not views:
        raise UserError("--invariances says what views may do to a sample, and none are drawn here: leave it out")
    return run.recipe.roles.given(**of_roles(about), elsewhere=elsewhere)


def kind_of(run: Run, about: About) -> Choice:
    """Returns the kind of data that the encoder of a run takes, with what decides what a sample is made of as is said.

    Raises:
        UserError: another kind, or an option that the encoder was made for.
    """
    kind, called, asked = run.recipe.kind, str(run.path), about.get("kind")
    if asked not in (None, kind.name):
        nouns = build(kind).nouns
        raise UserError(f"--kind {asked}: {called!r} was trained on {nouns}, and takes nothing else: leave it out")
    given, entry = of_kind(about), registry.get("kinds", kind.name)
    for option in given:
        if option in entry.options() and option not in build(kind).reading and given[option] != kind.options.get(option):
            raise UserError(
                f"--kind.{option.replace('_', '-')} {given[option]}: the encoder of {called!r} was made for "
                f"{kind.options.get(option)}, and for nothing else: leave it out"
            )
    return entry.resolve({**kind.options, **given})


def open_for(run: Run, channels: int, data: Any, about: About) -> Data:
    """Opens all of some data as the encoder of a run takes it, holding nothing out, and prints what is to be said of it; of
    None, what the run was trained on, saying so if that has changed.

    Args:
        run: of the encoder.
        channels: that it takes.
        data: as for `open_data`, or None.
        about: what is said of it.

    Raises:
        UserError: arrays that were not kept, samples of other channels, or anything else wrong with the data.
    """
    recipe, own = run.recipe, data is None
    if own and not recipe.data:
        raise UserError("this run was trained on arrays, which it did not keep: give them again as data=")
    opened = open_data(
        run.data if own else data, kind=kind_of(run, about), channels=channels, root=about.get("root"), seed=recipe.seed,
        roles=roles_of(run, about, elsewhere=not own), split=None, judged=True,
    )  # fmt: skip
    opened.tell()
    if own:
        tell_place(run)
        if run.environment["data"].get("whole", opened.train.whole) != opened.train.whole:
            tell_other(opened.train)
    check_channels(opened.train, channels)
    return opened


def check_channels(source: Source, channels: int) -> None:
    """Refuses samples that the encoder does not take."""
    if source.channels != channels:
        raise UserError(
            f"{source.name!r} has {counted(source.channels, 'channels')}, and the run was trained on "
            f"{source.kind.nouns} with {channels}: give other data, or pretrain on such {source.kind.nouns}"
        )


def tell_place(run: Run) -> None:
    """Says where the run's data are found, if its recipe's words mean other data here, or none."""
    if run.data != run.recipe.data:
        said = f"{run.recipe.data!r} would be other data here, or none: {run.data} is taken, as where the run was begun"
        console().print(said, soft_wrap=True)


def tell_other(source: Source) -> None:
    """Says that what a run's words for its data mean now is other data."""
    told = f"{source.name!r} is not what the run was trained on: it has changed, or is other data of that name"
    console().print(told, soft_wrap=True)
