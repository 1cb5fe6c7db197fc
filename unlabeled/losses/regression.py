"""Squared distances: predict the other view's embedding, the sum of the parts' counts, or what was hidden."""

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


@full_precision
def masked_square(made: Tensor, true: Tensor, weight: Tensor, asked: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Computes the squared distance over what is asked for, its places weighed (Pathak et al. 2016, eq. 1).

    Σ w (x̂ - x)² over the number of values that are asked for.

    Args:
        made: (B, C, ...), x̂.
        true: (B, C, ...), x.
        weight: (B, 1, ...), w; 0 where nothing is asked for.
        asked: (B, 1, ...) bool.
        reduction: over the B samples.

    Returns:
        A number >= 0, or (B,); 0 of samples of which nothing is asked for.

    Raises:
        ValueError: shapes that do not fit.
    """
    one = (len(true), 1, *true.shape[2:])
    if true.ndim < 2 or len(true) == 0 or made.shape != true.shape or weight.shape != one or asked.shape != one:
        raise ValueError(
            f"masked_square: made has shape {tuple(made.shape)}, true {tuple(true.shape)}, weight {tuple(weight.shape)} and "
            f"asked {tuple(asked.shape)}; give (B, C, ...) twice, and (B, 1, ...) twice"
        )
    squares = (weight * (made - true).square()).flatten(1).sum(1)
    return reduce(squares / (true.shape[1] * asked.flatten(1).sum(1)).clamp_min(1), reduction)
