"""Objectives without negatives: predict the other view's embedding."""

from __future__ import annotations

from torch import Tensor

from unlabeled.losses.numeric import Reduction, check_rows, full_precision, reduce, unit


@full_precision
def byol(prediction: Tensor, target: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Computes ‖p/‖p‖ - t/‖t‖‖² = 2 - 2 cos(p, t) (BYOL, eq. 2). No gradient flows into `target`.

    Args:
        prediction: (B, D), of the online network.
        target: (B, D), of the target network.
        reduction: over the B samples.

    Returns:
        A number in [0, 4], or (B,).
    """
    check_rows("byol", prediction=prediction, target=target)
    return reduce((unit(prediction) - unit(target.detach())).square().sum(1), reduction)
