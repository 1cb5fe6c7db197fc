"""Cross-entropy with targets that are spread over a few of many classes."""

from __future__ import annotations

import torch
from torch import Tensor

from unlabeled.losses.numeric import Reduction, full_precision, reduce


@full_precision
def soft_cross_entropy(
    logits: Tensor, index: Tensor, share: Tensor, weight: Tensor | None = None, *, reduction: Reduction = "mean"
) -> Tensor:
    """Computes the cross-entropy of soft targets at every place, places weighed by their targets (Zhang et al. 2016, eq. 2).

    -v Σ_q Z_q log softmax(y)_q, with Z not 0 in the K classes of `index` alone.

    Args:
        logits: (B, Q, ...), y.
        index: (B, K, ...) int64: the classes of the target.
        share: (B, K, ...): how much of it each has.
        weight: (B, ...), v; None for 1.
        reduction: over the B samples, each the mean of its places.

    Returns:
        A number, or (B,); log Q of even logits, without weights.

    Raises:
        ValueError: shapes that do not fit.
    """
    places = (len(logits), *logits.shape[2:])
    fit = index.shape == share.shape and (len(index), *index.shape[2:]) == places
    if logits.ndim < 2 or len(logits) == 0 or not fit or (weight is not None and weight.shape != places):
        raise ValueError(
            f"soft_cross_entropy: logits have shape {tuple(logits.shape)}, index {tuple(index.shape)}, share "
            f"{tuple(share.shape)}; give (B, Q, ...), (B, K, ...) and (B, K, ...), and a weight for each place"
        )
    log = logits.gather(1, index) - torch.logsumexp(logits, 1, keepdim=True)  # (B, K, ...)
    cost = -(share * log).sum(1)  # (B, ...)
    cost = cost if weight is None else weight * cost
    return reduce(cost.flatten(1).mean(1) if cost.ndim > 1 else cost, reduction)
