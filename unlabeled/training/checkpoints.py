"""What a resumed run needs, written and put back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from unlabeled.distributed import rank, world
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.parts.heads import LinearClassifier
from unlabeled.parts.memory import Ema
from unlabeled.run import Run


def save(
    run: Run,
    method: Method,
    judged: Encoder,
    classifier: LinearClassifier | None,
    average: Ema | None,
    optimizers: Optimizers | None,
    step: int,
    total: int,
    *,
    finished: bool = False,
) -> None:
    """Writes the checkpoint, the encoder that is judged from now on, and the classifier on it; once for all processes."""
    if rank() == 0:
        state = {
            "step": step,
            "total": total,
            "finished": finished,
            "processes": world(),
            "method": method.state_dict(),
            "average": average.state_dict() if average else {},
            "optimizers": optimizers.state_dict() if optimizers else {},
        }
        run.write_encoder(judged)
        if classifier is not None:
            run.write_classifier(classifier, run.environment.get("data", {}).get("classes", ()))
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
