"""A large batch in the memory of a small one: the gradient of the whole batch.

Where the objective is a mean over samples, the gradients of pieces simply add. Those of a contrastive objective do not: the
negatives of a sample would be those of its piece. There the pieces are embedded without graph; the objective compares all of
them and is differentiated by the embeddings; the pieces are embedded again, with graph, and each backpropagates its part of
that gradient. The price is one more forward pass (gradient caching: Gao et al. 2021, "Scaling Deep Contrastive Learning
Batch Size under Memory Limited Setup").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, Loss, Progress
from unlabeled.distributed import average_gradients
from unlabeled.errors import UserError
from unlabeled.methods.base import Comparison, Embedded, Method
from unlabeled.parts.memory import in_passes
from unlabeled.words import counted

Differentiate = Callable[[Loss, float, Sequence[Tensor]], None]
"""Takes a loss, the share of the batch that it is the mean of, and what else than parameters gets a gradient."""


def _differentiate(loss: Loss, share: float, beside: Sequence[Tensor] = ()) -> None:
    (loss.total * share).backward()  # type: ignore[no-untyped-call]


def backward(
    method: Method,
    batch: Batch,
    at: Progress,
    seeds: Sequence[int],
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    differentiate: Differentiate = _differentiate,
) -> Loss:
    """Adds to `.grad` what `method(batch, at).total.backward()` would add, a piece at a time.

    The statistics of the encoder's batch norms are those of each piece; the running ones are written once for each piece.
    Equal to the whole batch but for that, and for the draws of drop-out: groups of keys are those of the whole batch. Over
    several processes gradients are averaged here.

    Args:
        method: a `Comparison`, or one that `adds_up`; in training mode.
        batch: this process's part of the batch, all views of it.
        at: progress.
        seeds: of the global generator, one for each piece, whose two passes so draw the same, and one for what the whole
            batch draws: the groups of its keys, and the comparison.
        autocast: the precision. It is entered anew for each pass: weights cast without graph would otherwise be reused.
        differentiate: what adds a loss's gradients, as `Optimizers.backward`.

    Returns:
        The loss of the whole batch, already differentiated.
    """
    parts = _split(batch, len(seeds) - 1)
    if isinstance(method, Comparison):
        loss = _compared(method, batch, parts, at, seeds, autocast, differentiate)
    else:
        loss = _added(method, parts, at, seeds, autocast, differentiate)
    average_gradients(method)
    return loss


def _added(
    method: Method,
    parts: list[Batch],
    at: Progress,
    seeds: Sequence[int],
    autocast: Callable[[], AbstractContextManager[object]],
    differentiate: Differentiate,
) -> Loss:
    """The mean of the pieces' losses, each weighted by its samples."""
    whole, losses = sum(len(part.index) for part in parts), []
    for seed, part in zip(seeds, parts, strict=False):
        torch.manual_seed(seed)
        with autocast():
            loss: Loss = method(part, at)
        share = len(part.index) / whole
        differentiate(loss, share, ())
        losses.append((loss, share))
    first = losses[0][0]

    def mean(of: Callable[[Loss], Tensor]) -> Tensor:
        return torch.stack([share * of(loss).detach() for loss, share in losses]).sum()

    return Loss(
        mean(lambda loss: loss.total),
        {name: mean(lambda loss, name=name: loss.terms[name]) for name in first.terms},  # type: ignore[misc]
        _joined([loss.memory for loss, _ in losses]),
        {name: mean(lambda loss, name=name: loss.rivals[name]) for name in first.rivals},  # type: ignore[misc]
    )


def _compared(
    method: Comparison,
    batch: Batch,
    parts: list[Batch],
    at: Progress,
    seeds: Sequence[int],
    autocast: Callable[[], AbstractContextManager[object]],
    differentiate: Differentiate,
) -> Loss:
    """Gradient caching."""
    embedded: list[Embedded] = []
    constants: list[Embedded] = []
    with torch.no_grad(), autocast():
        for seed, part in zip(seeds, parts, strict=False):
            torch.manual_seed(seed)
            with _running_statistics_kept(method):
                embedded.append(method.embed(part))
            if not method.groups_batch:
                constants.append(method.constants(part))
    leaves = {name: whole.requires_grad_() for name, whole in _joined(embedded).items()}
    with autocast():
        torch.manual_seed(seeds[-1])
        if method.groups_batch:
            with torch.no_grad(), in_passes(method, len(parts)):
                constants.append(method.constants(batch))
        loss = method.compare({**leaves, **_joined(constants)}, at)
    differentiate(loss, 1.0, list(leaves.values()))
    first = 0
    for seed, part in zip(seeds, parts, strict=False):
        torch.manual_seed(seed)
        with autocast():
            again = method.embed(part)
        here, first = slice(first, first + len(part.index)), first + len(part.index)
        gradients = {name: leaf.grad[here] for name, leaf in leaves.items() if leaf.grad is not None}
        torch.autograd.backward([again[name] for name in gradients], list(gradients.values()))
    return loss


def check(method: Method, pieces: int, batch_size: int) -> None:
    """Checks whether a batch of this process can be embedded in pieces.

    Raises:
        UserError: the method compares no embeddings, or a piece would have fewer than two samples.
    """
    if pieces == 1:
        return
    if not isinstance(method, Comparison) and not method.adds_up:
        raise UserError(
            f"--accumulate {pieces} is for methods that compare embeddings or whose loss is a mean over samples, and "
            f"{type(method).__name__.lower()!r} is neither: leave it out, and give a smaller --batch-size if memory is short"
        )
    beside = method.labelled_beside(batch_size)
    if beside % pieces or (beside and batch_size % pieces):
        raise UserError(
            f"--accumulate {pieces} cannot share {counted(batch_size, 'samples')} and the "
            f"{counted(beside, 'labelled ones')} beside them evenly: give a number that divides both"
        )
    if batch_size < 2 * pieces:
        raise UserError(
            f"a batch of {counted(batch_size, 'samples')} in {counted(pieces, 'pieces')} leaves fewer than 2 in some: "
            f"give --accumulate {max(1, batch_size // 2)} or less, or a larger --batch-size"
        )


def _split(batch: Batch, pieces: int) -> list[Batch]:
    views = [view.tensor_split(pieces) for view in batch.views]
    targets = {name: target.tensor_split(pieces) for name, target in batch.targets.items()}
    labelled = _split(batch.labelled, pieces) if batch.labelled else [None] * pieces
    return [
        Batch([view[i] for view in views], index, {name: target[i] for name, target in targets.items()}, labelled[i])
        for i, index in enumerate(batch.index.tensor_split(pieces))
    ]


def _joined(parts: list[Embedded]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@contextmanager
def _running_statistics_kept(method: nn.Module) -> Iterator[None]:
    """Batch norms use the statistics of their batch, as ever in training, and write nothing."""
    norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
