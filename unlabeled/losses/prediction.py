"""Tell what comes next in a sequence from what comes elsewhere."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.losses.numeric import full_precision


class Ahead(NamedTuple):
    """What a prediction of 1 to K steps ahead came to: sums over all pairs of places (t, t + k), each (K,).

    They are sums since sequences differ in length: who has several batches, or processes, divides by all pairs of all.
    """

    losses: Tensor
    hits: Tensor
    pairs: Tensor


@full_precision
def info_nce_ahead(
    latent: Tensor,
    context: Tensor,
    weight: Tensor,
    length: Tensor,
    negatives: Tensor,
    origin: Tensor,
    first: int = 1,
) -> Ahead:
    """Computes InfoNCE for predictions of the future: tells z_{t+k} from negatives, given the context c_t of all until t.

    The score of a candidate z is z·W_k c_t, and the loss of a pair -log (exp of the positive's score / sum over it and
    the negatives) (van den Oord et al. 2018, eq. 3 and 4).

    Args:
        latent: (B, L, D), z.
        context: (B, L, C), c.
        weight: (K, D, C), W_k of each step.
        length: (B,) integers: how many places of each sequence are no padding.
        negatives: (N, D) latents from anywhere, the same for all predictions.
        origin: (N,) integers: b · L + t of each negative, by which a prediction leaves out its own positive; of other
            sequences than these B any other number, such as -1.
        first: k of the first of these steps; nearer ones are not predicted.

    Returns:
        Sums of losses ≥ 0, of hits (the positive scores above all negatives), and of pairs; log(1 + N) a pair if all
        scores are equal and no negative is left out.
    """
    _check(latent, context, weight, length, negatives, origin)
    size = latent.shape[1]
    place = torch.arange(size, device=latent.device)
    inside = place < length[:, None]  # (B, L)
    own = torch.arange(len(latent), device=latent.device)[:, None] * size + place  # (B, L)
    losses, hits, pairs = [], [], []
    for k, w in enumerate(weight, first):
        predicted = context[:, :-k] @ w.T  # (B, L - k, D)
        positive = (predicted * latent[:, k:]).sum(2)  # (B, L - k)
        scores = predicted @ negatives.T  # (B, L - k, N)
        scores = scores.masked_fill(own[:, k:, None] == origin, float("-inf"))
        valid = inside[:, k:]
        losses.append(F.softplus(scores.logsumexp(2) - positive).where(valid, 0).sum())
        hits.append(((positive > scores.amax(2)) & valid).sum())
        pairs.append(valid.sum())
    return Ahead(torch.stack(losses), torch.stack(hits).to(latent.dtype), torch.stack(pairs).to(latent.dtype))


def _check(latent: Tensor, context: Tensor, weight: Tensor, length: Tensor, negatives: Tensor, origin: Tensor) -> None:
    if latent.ndim != 3 or context.ndim != 3 or latent.shape[:2] != context.shape[:2] or 0 in latent.shape:
        raise ValueError(
            f"info_nce_ahead: latent has shape {tuple(latent.shape)} and context {tuple(context.shape)}; "
            "give (B, L, D) and (B, L, C)"
        )
    dim, width = latent.shape[2], context.shape[2]
    if weight.ndim != 3 or weight.shape[1:] != (dim, width) or len(weight) == 0:
        raise ValueError(f"info_nce_ahead: weight has shape {tuple(weight.shape)}; give (K, {dim}, {width})")
    if negatives.ndim != 2 or negatives.shape[1] != dim or len(negatives) == 0:
        raise ValueError(f"info_nce_ahead: negatives have shape {tuple(negatives.shape)}; give (N, {dim})")
    for name, which, size in (("length", length, len(latent)), ("origin", origin, len(negatives))):
        if which.shape != (size,) or which.is_floating_point():
            raise ValueError(f"info_nce_ahead: {name} is {which.dtype} of shape {tuple(which.shape)}; give {size} integers")
