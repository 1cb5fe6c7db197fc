"""What a resumed run needs, written and put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlabeled.distributed import rank, world
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.kept import Kept
from unlabeled.methods.base import Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.parts.memory import Ema
from unlabeled.run import Run
from unlabeled.training.keep import Keeper
from unlabeled.training.setup import Setup


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
            run.write_classifier(made.classifier, run.environment.get("data", {}).get("classes", ()))
        run.write_checkpoint(state)


def restore(state: Mapping[str, Any] | None, method: Method, optimizers: Optimizers | None, average: Ema | None) -> int:
    """Puts back what a checkpoint holds; returns the steps taken."""
    if state is None or optimizers is None:
        return 0
    if state.get("processes", world()) != world():
        raise UserError(
            f"the run began on {state['processes']} devices, and its views depend on their number: "
            f"give --devices {state['processes']}"
        )
    try:
        method.load_state_dict(state["method"])
        optimizers.load_state_dict(state["optimizers"])
        if average:
            average.load_state_dict(state["average"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise UserError(
            "the checkpoint is of another version of unlabeled, whose network or optimisers differ: start a new run with "
            "another --out"
        ) from error
    return int(state["step"])
