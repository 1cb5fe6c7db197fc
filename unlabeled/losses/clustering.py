"""Objectives that compare embeddings with prototypes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from unlabeled.losses.infonce import info_nce
from unlabeled.losses.numeric import Reduction, check_indices, check_positive, check_rows, full_precision, reduce, unit

ROUNDING = 1e-5
"""Distance of two vectors of length 1 that float32 cannot tell from none."""


@full_precision
def proto_nce(
    query: Tensor,
    keys: Tensor,
    prototypes: Sequence[Tensor],
    assignments: Sequence[Tensor],
    concentrations: Sequence[Tensor],
    positive: Tensor | None = None,
    temperature: float = 0.07,
    exclude: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes InfoNCE plus the mean over M clusterings of -log( exp(v·c_s/φ_s) / Σ_j exp(v·c_j/φ_j) ) (Li et al. 2021, eq.
    11).

    c_s is the prototype of the query's cluster. All prototypes are compared; the paper draws some of them.

    Args:
        query: (B, D).
        keys, positive, temperature, exclude: as in `info_nce`.
        prototypes: (K_m, D) for each of the M clusterings.
        assignments: (B,) integers for each: the query's cluster.
        concentrations: (K_m,) for each: φ > 0, see `concentration`.
        reduction: over the B queries.

    Returns:
        A number ≥ 0, or (B,).
    """
    if not len(prototypes) == len(assignments) == len(concentrations):
        raise ValueError(
            f"proto_nce: {len(prototypes)} sets of prototypes, {len(assignments)} of assignments and {len(concentrations)} "
            "of concentrations; give equally many"
        )
    terms = info_nce(query, keys, positive, temperature, exclude, reduction="none")  # (B,)
    v = unit(query)
    for c, assigned, phi in zip(prototypes, assignments, concentrations, strict=True):
        check_indices("proto_nce", len(c), assignments=assigned)
        if phi.shape != c.shape[:1] or not (phi > 0).all():
            raise ValueError(
                f"proto_nce: concentrations have shape {tuple(phi.shape)}, or are not all above 0; give ({len(c)},) above 0"
            )
        logits = v @ unit(c).T / phi  # (B, K)
        terms = terms + torch.nn.functional.cross_entropy(logits, assigned, reduction="none") / len(prototypes)
    return reduce(terms, reduction)


@torch.no_grad()
@full_precision
def concentration(
    features: Tensor, prototypes: Tensor, assigned: Tensor, temperature: float = 0.07, smoothing: float = 10.0
) -> Tensor:
    """Computes φ of each cluster: Σ ‖v - c‖ / (Z log(Z + α)) over its Z members, scaled to a mean of τ (Li et al. 2021, eq.
    12).

    Args:
        features: (n, D).
        prototypes: (K, D).
        assigned: (n,) integers, the cluster of each.
        temperature: τ > 0, the mean of the φ.
        smoothing: α (10).

    Returns:
        (K,) > 0; an empty cluster, and one whose members are all on its prototype (by distances of float32: under 1e-5 on
        average), has the largest φ of the others.
    """
    check_positive("concentration", temperature=temperature, smoothing=smoothing)
    check_indices("concentration", len(prototypes), assigned=assigned)
    v, c = unit(features), unit(prototypes)
    apart = torch.linalg.vector_norm(v - c[assigned], dim=1)
    members = torch.bincount(assigned, minlength=len(c)).to(v.dtype)
    total = torch.zeros_like(members).index_add(0, assigned, apart)
    spread = total > ROUNDING * members
    phi = (total / (members * (members + smoothing).log()).clamp(min=1e-12)).where(spread, 0)
    phi = phi.where(spread, phi.max())
    return temperature * (phi / phi.mean() if spread.any() else torch.ones_like(phi))


@full_precision
def swapped_prediction(
    scores: Sequence[Tensor], codes: Sequence[Tensor], temperature: float = 0.1, *, reduction: Reduction = "mean"
) -> Tensor:
    """Predicts the code of one view from another view's scores (Caron et al. 2020, eqs. 1, 2).

    ℓ(z_v, q_w) = -Σ_k q_w^k log softmax(z_v·c_k/τ)_k, the mean over views w that have a code and views v ≠ w. With two views
    that is half of eq. 1, with more the multi-crop form (eq. 6), whose codes come from the full crops only.

    Args:
        scores: (B, K) for each view: z·c of normalised embeddings and prototypes; views with codes first.
        codes: (B, K) for the first views, rows that sum to 1, see `sinkhorn`. No gradient flows into them.
        temperature: τ > 0 (0.1: appendix A).
        reduction: over the B samples.

    Returns:
        A number ≥ 0, or (B,); log K if all scores are equal.
    """
    check_positive("swapped_prediction", temperature=temperature)
    if len(scores) < 2 or not 1 <= len(codes) <= len(scores):
        raise ValueError(
            f"swapped_prediction: {len(scores)} views and {len(codes)} codes; give 2 views or more, and a code for 1 or more"
        )
    check_rows("swapped_prediction", **{f"view {i}": t for i, t in enumerate([*scores, *codes])})
    logs = [(s / temperature).log_softmax(1) for s in scores]
    swaps = [-(q.detach() * logs[v]).sum(1) for w, q in enumerate(codes) for v in range(len(scores)) if v != w]
    return reduce(torch.stack(swaps).mean(0), reduction)


@torch.no_grad()
@full_precision
def sinkhorn(scores: Tensor, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Computes codes that use all prototypes equally: Diag(u) exp(scores/ε) Diag(v) by Sinkhorn-Knopp (Caron et al. 2020,
    eqs. 3-5).

    Over several processes pass the gathered scores and take this process's rows.

    Args:
        scores: (B, K).
        epsilon: ε > 0, smoothness (0.05: appendix A).
        iterations: 3 (§3.1).

    Returns:
        (B, K), rows sum to 1, columns nearly to B/K. Computed in logarithms, so any ε gives numbers.
    """
    check_positive("sinkhorn", epsilon=epsilon)
    check_rows("sinkhorn", scores=scores)
    logs = scores / epsilon
    for _ in range(iterations):
        logs = logs - logs.logsumexp(0, keepdim=True)
        logs = logs - logs.logsumexp(1, keepdim=True)
    return logs.softmax(1)


@full_precision
def local_aggregation(
    similarity: Tensor, close: Tensor, temperature: float = 0.07, *, reduction: Reduction = "mean"
) -> Tensor:
    """Computes how unlikely it is that a vector is one of its close neighbours, if it is one of its background (Zhuang et
    al. 2019, §3.1): -log( Σ_{j in C∩B} exp(s_j/τ) / Σ_{j in B} exp(s_j/τ) ).

    Args:
        similarity: (B, K), s: of each vector with those of its background.
        close: (B, K) bool: which of these are close neighbours; one of each at least.
        temperature: τ > 0 (0.07: Zhuang et al. 2019, published code).
        reduction: over the B vectors.

    Returns:
        A number >= 0, or (B,); 0 if all are close.

    Raises:
        ValueError: shapes that do not fit, or a vector without close neighbours.
    """
    check_positive("local_aggregation", temperature=temperature)
    check_rows("local_aggregation", similarity=similarity)
    if close.shape != similarity.shape or close.dtype != torch.bool:
        raise ValueError(
            f"local_aggregation: close is {close.dtype} of shape {tuple(close.shape)}; give bool {tuple(similarity.shape)}"
        )
    if close.device.type == "cpu" and not close.any(1).all():
        raise ValueError("local_aggregation: a vector has no close neighbour; give each one at least, such as itself")
    s = similarity / temperature
    return reduce(s.logsumexp(1) - s.masked_fill(~close, float("-inf")).logsumexp(1), reduction)
