"""Which negatives count: one argument, `mining`, of every loss that compares a positive with negatives."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

Mining = Literal["all", "semi-hard", "hardest", "distance-weighted"]

CLOSEST = 0.5
"""λ of distance-weighted mining is the weight at this distance (Wu et al. 2017, §4; 0.5 is their code's)."""


@torch.no_grad()
def weigh(distance: Tensor, own: Tensor, negative: Tensor, mining: Mining, dim: int) -> Tensor:
    """Tells how much each negative counts for each anchor.

    - `all`: equally.
    - `semi-hard`: only the nearest of those that are farther than the positive (Schroff et al. 2015, eq. 4); none if there
      is none. A loss with a margin is zero beyond it, so what the margin would leave out counts nothing anyway.
    - `hardest`: only the nearest.
    - `distance-weighted`: in proportion to min(λ, 1/q(d)), where q(d) ∝ d^(D-2) (1 - d²/4)^((D-3)/2) is the density of
      distances on the unit sphere (Wu et al. 2017, §4). The paper draws one negative with this probability; here
      each counts with it, which is the draw's expectation without its noise.

    Args:
        distance: (B, M), Euclidean, of anchors to candidates.
        own: (B,), of anchors to their positives.
        negative: (B, M) bool, which candidates are negatives.
        mining: one of the above.
        dim: D.

    Returns:
        (B, M), without gradient: rows sum to 1, or are 0 where no negative qualifies.
    """
    if mining not in get_args(Mining):
        raise ValueError(f"mining {mining!r}: give one of {', '.join(get_args(Mining))}")
    if distance.shape[1] == 0:
        return torch.zeros_like(distance)
    if mining == "all":
        weight = negative.to(distance.dtype)
    elif mining in ("semi-hard", "hardest"):
        allowed = negative & (distance > own[:, None]) if mining == "semi-hard" else negative
        nearest = distance.masked_fill(~allowed, float("inf")).argmin(1, keepdim=True)  # (B, 1)
        weight = torch.zeros_like(distance).scatter_(1, nearest, allowed.gather(1, nearest).to(distance.dtype))
    else:
        weight = _sphere(distance, dim).masked_fill(~negative, float("-inf"))
        top = weight.amax(1, keepdim=True)
        weight = (weight - top.where(top > float("-inf"), 0)).exp()
    return weight / weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)


def _sphere(distance: Tensor, dim: int) -> Tensor:
    """log min(λ, 1/q(d)), up to a constant."""

    def rarity(d: Tensor) -> Tensor:
        d = d.clamp(1e-3, 2)
        return (2 - dim) * d.log() + (3 - dim) / 2 * (1 - d.square() / 4).clamp(min=1e-6).log()

    return torch.minimum(rarity(distance), rarity(distance.new_tensor(CLOSEST)))
