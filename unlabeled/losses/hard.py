"""Negatives that are hard, and not false: mixed from the hardest (MoCHi), corrected for false ones, weighted by hardness."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.losses.infonce import both_views
from unlabeled.losses.numeric import Reduction, check_positive, check_rows, full_precision, reduce, unit
from unlabeled.losses.tiles import log_sum_exp


@full_precision
def debiased_nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    tau_plus: float = 0.1,
    hardness: float = 0.0,
    *,
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes NT-Xent whose negatives are corrected for those that are of the anchor's own class (Chuang et al. 2020, eqs.
    7, 8), and may count the more the nearer they are (Robinson et al. 2021, §3.2 and figure 7).

    With p = exp(s+/τ) and N negatives n_j = exp(s_j/τ), weighted by w_j = n_j^β: -log( p / (p + N g) ), where
    g = max( (Σ w_j n_j / Σ w_j - τ⁺ p) / (1 - τ⁺), exp(-1/τ) ). The anchor's one positive stands for the papers' M.

    Args:
        z1: (B, D), first views.
        z2: (B, D), second views.
        temperature: τ > 0 (0.5: Chuang et al. 2020, §5).
        tau_plus: τ⁺ in [0, 1), the chance that two images are of one class (0.1: Chuang et al. 2020, §5.1, CIFAR-10).
        hardness: β >= 0; 0 weighs all negatives alike. With τ⁺ = 0 too, this is NT-Xent.
        gathered, offset: as in `nt_xent`.
        reduction: over the 2B anchors, first views first.

    Returns:
        A number > 0, or (2B,); 0 if there is no negative.
    """
    check_positive("debiased_nt_xent", temperature=temperature)
    if not 0 <= tau_plus < 1:
        raise ValueError(f"debiased_nt_xent: tau_plus is {tau_plus}; give a probability in [0, 1)")
    if not 0 <= hardness < math.inf:
        raise ValueError(f"debiased_nt_xent: hardness is {hardness}; give 0 or more")
    z, candidates, itself, other = both_views("debiased_nt_xent", z1, z2, gathered, offset)
    own = (z * candidates.index_select(0, other)).sum(1) / temperature  # (2B,)
    count = len(candidates) - 2
    if count == 0:
        return reduce(own * 0, reduction)
    others = log_sum_exp(z, candidates, (1 + hardness) / temperature, [itself, other])  # (2B,) log Σ w_j n_j
    if hardness > 0:
        others = others - log_sum_exp(z, candidates, hardness / temperature, [itself, other]) + math.log(count)
    if tau_plus > 0:
        ahead = others - own - math.log(count * tau_plus)  # log of Σ n_j / (N τ⁺ p)
        left = others + torch.log(-torch.expm1(-ahead.clamp(min=1e-6)))  # log( Σ n_j - N τ⁺ p )
        floor = torch.zeros_like(own) + (math.log(count) - 1 / temperature)
        others = torch.maximum(left - math.log1p(-tau_plus), floor).where(ahead > 0, floor)
    excess = others - own
    return reduce(torch.logaddexp(excess, torch.zeros_like(excess)), reduction)


@torch.no_grad()
@full_precision
def mixed_negatives(
    query: Tensor, keys: Tensor, hardest: int, mixed: int, query_mixed: int, generator: torch.Generator | None = None
) -> Tensor:
    """Computes synthetic negatives of each query, from its hardest keys (MoCHi: Kalantidis et al. 2020, eqs. 3, 4).

    `mixed` points α n_i + (1 - α) n_j of two of the `hardest` keys nearest to the query, α uniform in (0, 1); and
    `query_mixed` points β q + (1 - β) n_j, β uniform in (0, 0.5), harder than any key; all brought to length 1. Which ranks
    are mixed, and how much, is drawn once for all queries, which each apply it to their own hardest keys.

    Args:
        query: (B, D).
        keys: (M, D), all of them negatives.
        hardest: N in [1, M], keys that are mixed.
        mixed: s >= 0.
        query_mixed: s' >= 0.
        generator: of the draws; the global one by default.

    Returns:
        (B, s + s', D) of length 1, without gradient: `info_nce(..., further=...)` takes them.
    """
    check_rows("mixed_negatives", query=query)
    if not 1 <= hardest <= len(keys):
        raise ValueError(f"mixed_negatives: hardest is {hardest} of {len(keys)} keys; give a number in [1, {len(keys)}]")
    q, k = unit(query), unit(keys)
    nearest = (q @ k.T).topk(hardest, dim=1).indices  # (B, N), the hardest first

    def draw(count: int) -> Tensor:
        return torch.rand(count, generator=generator).to(q)

    def at(u: Tensor) -> Tensor:
        return k[nearest[:, (u * hardest).long().clamp(max=hardest - 1)]]  # (B, count, D)

    alpha, beta = draw(mixed)[:, None], 0.5 * draw(query_mixed)[:, None]
    between_keys = alpha * at(draw(mixed)) + (1 - alpha) * at(draw(mixed))  # (B, s, D)
    towards_query = beta * q[:, None] + (1 - beta) * at(draw(query_mixed))  # (B, s', D)
    return F.normalize(torch.cat([between_keys, towards_query], 1), dim=2)
