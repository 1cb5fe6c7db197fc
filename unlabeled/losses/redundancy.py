"""Objectives on the statistics of a batch: two views agree, and dimensions tell different things.

Over several processes the statistics are those of all samples: pass the gathered embeddings, `z1 = gather(z1)`; then every
process computes the same number, and the mean of the gradients over the processes is the gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unlabeled.losses.numeric import Reduction, check_rows, full_precision, reduce


@full_precision
def barlow_twins(
    z1: Tensor, z2: Tensor, redundancy: float = 5e-3, *, eps: float = 1e-8, reduction: Reduction = "sum"
) -> Tensor:
    """Computes Σ_i (1 - C_ii)² + λ Σ_i Σ_{j≠i} C_ij², C the views' correlations (Zbontar et al. 2021, eqs. 1, 2).

    Args:
        z1: (B, D), first views, B of at least 2.
        z2: (B, D), second views.
        redundancy: λ (5e-3: §2.2).
        eps: added to variances, so that a constant dimension correlates with nothing.
        reduction: over the D dimensions i; the paper's is "sum".

    Returns:
        A number ≥ 0, or (D,).
    """
    _check("barlow_twins", z1, z2)
    a, b = (_centred(z) / (_centred(z).square().mean(0) + eps).sqrt() for z in (z1, z2))
    correlation = a.T @ b / len(a)  # (D, D)
    diagonal = correlation.diagonal()
    others = correlation.square().sum(1) - diagonal.square()
    return reduce((1 - diagonal).square() + redundancy * others, reduction)


@full_precision
def vicreg(
    z1: Tensor,
    z2: Tensor,
    invariance: float = 25.0,
    variance: float = 25.0,
    covariance: float = 1.0,
    *,
    target: float = 1.0,
    eps: float = 1e-4,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes λ s(Z, Z') + μ [v(Z) + v(Z')] + ν [c(Z) + c(Z')] (Bardes et al. 2022, eq. 6, algorithm 1).

    v is the mean over dimensions of max(0, γ - sqrt(Var + ε)) (eqs. 1, 2), c the sum of squared covariances off the diagonal
    divided by D (eqs. 3, 4), s the mean squared difference. Equation 5 sums s over dimensions, algorithm 1, to which the
    coefficients belong, takes the mean; so does this.

    Args:
        z1: (B, D), first views, B of at least 2.
        z2: (B, D), second views.
        invariance, variance, covariance: λ, μ, ν (25, 25, 1: §4.2).
        target: γ (1: §4.1).
        eps: ε (1e-4: §4.1).
        reduction: over the D dimensions; the paper's is "mean".

    Returns:
        A number ≥ 0, or (D,).
    """
    _check("vicreg", z1, z2)
    terms = invariance * (z1 - z2).square().mean(0)  # (D,)
    for z in (_centred(z1), _centred(z2)):
        spread = z.T @ z / (len(z) - 1)  # (D, D)
        own = spread.diagonal()
        terms = terms + variance * (target - (own + eps).sqrt()).clamp(min=0)
        terms = terms + covariance * (spread - torch.diag(own)).square().sum(1)
    return reduce(terms, reduction)


def _centred(z: Tensor) -> Tensor:
    return z - z.mean(0)


def _check(name: str, z1: Tensor, z2: Tensor) -> None:
    check_rows(name, z1=z1, z2=z2)
    if len(z1) < 2:
        raise ValueError(f"{name}: 1 sample has no variance; give at least 2")
