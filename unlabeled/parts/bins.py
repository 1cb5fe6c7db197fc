"""Continuous values as distributions over bins: encoded softly, weighed by how rare they are, and read off again."""

from __future__ import annotations

import torch
from torch import Tensor


def encoded(x: Tensor, centres: Tensor, neighbours: int, sigma: float) -> tuple[Tensor, Tensor]:
    """Spreads each value over the bins nearest to it, by a Gaussian of its distance (Zhang et al. 2016, §2.1).

    Args:
        x: (B, D, ...) values.
        centres: (Q, D) of the bins.
        neighbours: K, at most Q; 1 is the nearest alone.
        sigma: deviation of the Gaussian, in the units of x.

    Returns:
        The bins (B, K, ...) int64, the nearest first, and their shares (B, K, ...), which sum to 1.
    """
    with torch.autocast(x.device.type, enabled=False):
        distance = torch.cdist(x.float().movedim(1, -1), centres.float(), compute_mode="donot_use_mm_for_euclid_dist")
        near, index = distance.topk(min(neighbours, len(centres)), largest=False)  # (B, ..., K)
        share = (-near.square() / (2 * sigma**2)).softmax(-1)
    return index.movedim(-1, 1), share.movedim(-1, 1)


def rarity(frequency: Tensor, centres: Tensor, sigma: float, uniform: float) -> Tensor:
    """Computes the weights of bins by how rare they are: w ∝ 1 / ((1 - λ) p + λ / Q), with a mean of 1 under p,
    the frequencies smoothed by a Gaussian over the bins (Zhang et al. 2016, eq. 4).

    Args:
        frequency: (Q,) >= 0, how often each occurs; not all 0.
        centres: (Q, D).
        sigma: deviation of the Gaussian.
        uniform: λ in [0, 1]; with 1 all weights are 1.

    Returns:
        (Q,), finite also where λ is 0 and a bin never occurs.
    """
    kernel = (-torch.cdist(centres.double(), centres.double()).square() / (2 * sigma**2)).exp()
    p = (frequency.double() / frequency.sum()) @ (kernel / kernel.sum(1, keepdim=True))  # (Q,)
    weight = 1 / ((1 - uniform) * p + uniform / len(p)).clamp_min(1e-12)
    return (weight / (p * weight).sum()).float()


def annealed_mean(logits: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """Reads one value off each distribution: the mean of the bins, its softmax sharpened (Zhang et al. 2016, eq. 5).

    Args:
        logits: (B, Q, ...).
        centres: (Q, D).
        temperature: T > 0: 1 gives the mean, near 0 the most likely bin.

    Returns:
        (B, D, ...) float32.
    """
    share = (logits.float() / temperature).softmax(1)
    return torch.einsum("bq...,qd->bd...", share, centres.float())
