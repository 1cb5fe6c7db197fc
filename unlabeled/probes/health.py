"""Measures of an embedding that need no label: does it collapse?"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

COMPLETE = 0.1  # std_ratio below which all images are said to have the same embedding


def std_ratio(z: Tensor) -> float:
    """Mean standard deviation per dimension of the unit-length rows of z (N, D), over 1 / sqrt(D).

    1 for directions spread evenly over the sphere, 0 for one direction: the measure of Chen & He 2021 (SimSiam), section
    4.1 and figure 2, divided by its value for an isotropic Gaussian.
    """
    return float(F.normalize(z.float(), dim=1).std(dim=0, unbiased=False).mean()) * math.sqrt(z.shape[1])


def effective_rank(z: Tensor) -> float:
    """Exponential of the entropy of the singular values of z (N, D), normalised to sum 1: in [1, min(N, D)].

    Roy & Vetterli 2007, "The effective rank", section 2. The rows are centred first, as a direction that is common to all
    images tells nothing about any; RankMe (Garrido et al. 2023) does not centre. Singular values within rounding of the
    uncentred rows count as 0; if all do, every row is the same, and the rank is 1.
    """
    rows = z.float()
    centred = rows - rows.mean(dim=0)
    singular = torch.linalg.svdvals(centred)
    rounding = torch.finfo(torch.float32).eps * max(rows.shape) * rows.norm()
    share = singular[singular > rounding]
    if len(share) == 0:
        return 1.0
    share = share / share.sum()
    return float((-share * share.log()).sum().exp())


def verdict(std_ratio: float, rank: float, dim: int) -> str | None:
    """Names a collapse in plain words, with what usually helps; None for a healthy embedding.

    Args:
        std_ratio: of `std_ratio`; below 0.1 the collapse is complete.
        rank: of `effective_rank`; below sqrt(dim) / 3 the collapse is dimensional.
        dim: the rank that is possible, min(N, D).
    """
    if not (math.isfinite(std_ratio) and math.isfinite(rank)):
        return (
            "the embedding holds numbers that are not finite (NaN or infinity); "
            "a smaller learning rate, a longer warm-up or precision float32 usually helps"
        )
    if std_ratio < COMPLETE:
        return (
            f"complete collapse: all images get nearly the same embedding (spread {std_ratio:.3f} of 1); without negatives "
            "a predictor, the stop-gradient and an EMA momentum near 1 prevent it, else try a smaller learning rate"
        )
    if rank < math.sqrt(dim) / 3:
        return (
            f"dimensional collapse: the embedding uses about {rank:.1f} of {dim} dimensions; usually helps: a larger batch "
            "or more negatives, a smaller learning rate, batch norm in the head, a check that the views are not too strong"
        )
    return None
