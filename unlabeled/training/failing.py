"""What ends a training from outside, in words: a memory that is full, a process that is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from unlabeled.distributed import world
from unlabeled.errors import UserError, is_full_memory
from unlabeled.recipe import Recipe

GONE = ("closed by peer", "reset by peer", "broken pipe", "remote process exited", "socket timeout", "nccl", "gloo")
"""Words of errors that a process gets when another has ended: gloo's and NCCL's, in lower case."""


@contextmanager
def explained(recipe: Recipe) -> Iterator[None]:
    """Opens a context in which errors of libraries that mean a full memory or a lost process become one line.

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
        if world() > 1 and any(word in str(error).lower() for word in GONE):
            raise UserError(
                "another process of this training has ended, by its own error or killed: see what it said; to go on from "
                "the last checkpoint, repeat the command with --resume"
            ) from error
        raise
