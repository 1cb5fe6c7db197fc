"""Objectives that count the bits it takes to tell embeddings apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.losses.numeric import Reduction, check_positive, full_precision, reduce, unit


@full_precision
def coding_rate(z: Tensor, eps: float = 0.2) -> Tensor:
    """Computes R(Z) = ½ log det(I + d/(b ε²) Z Zᵀ): nats that code b vectors up to a distortion of ε (Yu et al. 2020).

    Args:
        z: (..., b, d), of length 1 in the papers.
        eps: ε² > 0 (0.2: published code of Tong et al. 2023).

    Returns:
        (...), ≥ 0.
    """
    check_positive("coding_rate", eps=eps)
    b, d = z.shape[-2:]
    gram = z @ z.mT if b <= d else z.mT @ z  # the determinants are equal (Sylvester)
    eye = torch.eye(gram.shape[-1], dtype=z.dtype, device=z.device)
    factor: Tensor = torch.linalg.cholesky(eye + d / (b * eps) * gram)
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


@full_precision
def multi_patch(z: Tensor, invariance: float = 200.0, eps: float = 0.2, *, reduction: Reduction = "mean") -> Tensor:
    """Computes -R(Z_v) - λ cos(Z_v, Z̄), the mean over patches v; Z̄ is their mean (Tong et al. 2023, EMP-SSL).

    Each patch's embeddings are to differ from one image to another as much as they can, and to agree with those of the same
    image's other patches. Both terms are given as what is missing to their best, so that 0 is the least: R of B vectors of
    length 1 is at most m/2 log(1 + D/(m ε²)), m the smaller of B and D.

    Args:
        z: (V, B, D): V patches of each of B images; brought to length 1.
        invariance: λ, the weight of the mean cosine (200: published code).
        eps: ε² of the coding rate (0.2: likewise).
        reduction: over the V patches.

    Returns:
        A number ≥ 0, or (V,).

    Raises:
        ValueError: not three dimensions.
    """
    if z.ndim != 3:
        raise ValueError(f"multi_patch: z has the shape {tuple(z.shape)}; give (V, B, D), patches by images by dimensions")
    z = unit(z)
    agreement = F.cosine_similarity(z, z.mean(0, keepdim=True), dim=-1).mean(1)  # (V,)
    rank = min(z.shape[1:])
    most = rank / 2 * math.log1p(z.shape[2] / (rank * eps))
    return reduce(most - coding_rate(z, eps) + invariance * (1 - agreement), reduction)
