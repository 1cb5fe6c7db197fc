"""Squared distances: predict the other view's embedding, or the sum of the parts' counts."""

from __future__ import annotations

from torch import Tensor

from unlabeled.losses.numeric import Reduction, check_positive, check_rows, full_precision, reduce, unit


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


@full_precision
def counting(whole: Tensor, other: Tensor, total: Tensor, margin: float = 10.0, *, reduction: Reduction = "mean") -> Tensor:
    """Computes ‖φ(D∘x) - Σ φ(T_j∘x)‖² + max(0, M - ‖φ(D∘y) - Σ φ(T_j∘x)‖²) (Noroozi et al. 2017, eq. 5).

    Where nothing is counted, φ = 0, it is M.

    Args:
        whole: (B, K), counts of images x, scaled down.
        other: (B, K), counts of other images y, one for each.
        total: (B, K), sums of the counts of the parts of x.
        margin: M > 0.
        reduction: over the B images.

    Returns:
        A number ≥ 0, or (B,).
    """
    check_positive("counting", margin=margin)
    check_rows("counting", whole=whole, other=other, total=total)
    own, apart = (whole - total).square().sum(1), (other - total).square().sum(1)
    return reduce(own + (margin - apart).clamp(min=0), reduction)
