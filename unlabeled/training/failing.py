"""What ends a training from outside, in words: a memory that is full, a process that is gone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_fabric import Fabric

from unlabeled.errors import UserError, is_full_memory
from unlabeled.recipe import Recipe

GONE = (
    "closed by peer", "reset by peer", "broken pipe", "remote process exited", "socket timeout", "timed out", "nccl", "gloo",
)  # fmt: skip
"""Words of errors that a process gets when another has ended or is silent: gloo's and NCCL's, in lower case."""
SILENCE = 600.0
"""Seconds for which processes wait for a silent one: PyTorch's own for NCCL, which are 30 minutes for gloo."""
LOST = (
    "another process of this training has ended, by its own error or killed{silent}: see what it said; to go on from the "
    "last checkpoint, repeat the command with --resume"
)
LAUNCHER = "lightning_fabric.strategies.launchers.subprocess_script"
"""Who kills all processes some seconds after one has failed, and says so to a log: this one, too, if it is at work then."""


def tell_end() -> None:
    """Lets the launcher say in our words, in one line, that it ends this process because another has ended."""

    def ours(record: logging.LogRecord) -> bool:
        record.msg, record.args = f"unlabeled: error: {LOST.format(silent='')}", ()
        return True

    launcher = logging.getLogger(LAUNCHER)
    launcher.setLevel(logging.INFO)
    launcher.filters[:] = [ours]


@contextmanager
def explained(recipe: Recipe, fabric: Fabric) -> Iterator[None]:
    """Opens a context in which errors of libraries that mean a full memory or a lost process become one line; processes that
    this one started and that are silent are ended.

    Raises:
        UserError: in their place.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if is_full_memory(error):
            raise UserError(
                f"a batch of {recipe.batch_size} does not fit the memory ({error or type(error).__name__}): give a smaller "
                f"--batch-size, or --accumulate {2 * recipe.accumulate} for the same batch in smaller pieces"
            ) from error
        if fabric.world_size > 1 and any(word in str(error).lower() for word in GONE):
            for started in getattr(fabric.strategy.launcher, "procs", ()):
                started.kill()
            raise UserError(LOST.format(silent=f", or was silent for {SILENCE:g} s")) from error
        raise
