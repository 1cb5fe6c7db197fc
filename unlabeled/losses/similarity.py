"""How alike two vectors are. Everywhere more is more alike, so distances come with a minus, and any of them fits any loss.

Each function takes (B, D) and (M, D) and returns all (B, M) similarities; gradients are finite everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from unlabeled.losses.numeric import full_precision, unit


@full_precision
def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Computes x·y / (‖x‖ ‖y‖), in [-1, 1]; 0 for a zero vector."""
    return unit(x) @ unit(y).T


@full_precision
def dot(x: Tensor, y: Tensor) -> Tensor:
    """Computes x·y."""
    return x @ y.T


@full_precision
def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Computes -‖x - y‖₂, at most 0."""
    return -distances(x, y)


@full_precision
def manhattan(x: Tensor, y: Tensor) -> Tensor:
    """Computes -Σ_d |x_d - y_d|, at most 0."""
    return -torch.cdist(x, y, p=1)


@full_precision
def bilinear(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Computes xᵀ W y, with W of shape (D_x, D_y): the score of CPC (van den Oord et al. 2018, eq. 3)."""
    return x @ weight @ y.T


@full_precision
def separable(x: Tensor, y: Tensor, map: Callable[[Tensor], Tensor]) -> Tensor:
    """Computes φ(x)ᵀ φ(y), for a map φ of (B, D) to (B, E)."""
    return map(x) @ map(y).T


def distances(x: Tensor, y: Tensor) -> Tensor:
    """Computes Euclidean distances (B, D), (M, D) -> (B, M), from differences: equal vectors are at exactly 0, and 0 is
    their gradient."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Computes Euclidean distances row by row, (B, D), (B, D) -> (B,); the gradient of equal rows is 0."""
    length: Tensor = torch.linalg.vector_norm(x - y, dim=-1)
    return length
