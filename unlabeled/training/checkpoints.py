"""What a resumed run needs, written and put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlabeled.console import console
from unlabeled.distributed import rank, world
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.kept import Kept
from unlabeled.methods.base import Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.parts.memory import Ema
from unlabeled.recipe import Recipe
from unlabeled.run import Run
from unlabeled.training.keep import Keeper
from unlabeled.training.setup import Setup
from unlabeled.words import counted


def save(run: Run, made: Setup, keeper: Keeper, done: int, encoder: Encoder, kept: Kept, *, finished: bool = False) -> None:
    """Writes the encoder that is kept so far, the classifier on it, and last the checkpoint; once for all processes."""
    if rank() == 0:
        step = made.step
        state = {
            "step": done,
            "total": made.clock.total,
            "finished": finished,
            "processes": world(),
            "method": made.method.state_dict(),
            "average": made.ema.state_dict() if made.ema else {},
            "optimizers": step.optimizers.state_dict() if step else {},
            "kept": keeper.state(),
        }
        run.write_encoder(encoder, kept)
        if made.classifier is not None:
            run.write_classifier(made.classifier, made.source.classes)
        run.write_checkpoint(state)


def restore(
    state: Mapping[str, Any] | None, method: Method, optimizers: Optimizers | None, average: Ema | None, total: int
) -> int:
    """Puts back what a checkpoint holds; returns the steps taken.

    Raises:
        UserError: it is of another network, or of more steps than the `total`.
    """
    if state is None or optimizers is None:
        return 0
    if state["step"] > total:
        raise UserError(
            f"the run took {counted(state['step'], 'steps')} already, and would have {total:,}: give more --epochs, "
            "or leave them out"
        )
    try:
        method.load_state_dict(state["method"])
        optimizers.load_state_dict(state["optimizers"])
        if average:
            average.load_state_dict(state["average"])
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            "the checkpoint is of another version of unlabeled, whose network or optimisers differ: start a new run with "
            "another --out"
        ) from error
    return int(state["step"])


def tell_changes(run: Run, recipe: Recipe, state: Mapping[str, Any]) -> None:
    """Says what makes a resumed run another than one that was never stopped: devices, or epochs."""
    before, now = state.get("processes", world()), world()
    if before != now:
        console().print(
            f"begun on {before} process{'es' * (before > 1)}, and goes on with {now}: the batches stay the same; views are "
            f"drawn anew from here on, so that the bits are not those of a run on {before} alone",
            soft_wrap=True,
        )
    if run.recipe.epochs != recipe.epochs:
        console().print(
            f"{counted(run.recipe.epochs, 'epochs', 'become')} {recipe.epochs}: from here on the learning rate is that "
            f"of a run of {recipe.epochs}, so that the bits are not those of a run that began with them",
            soft_wrap=True,
        )
