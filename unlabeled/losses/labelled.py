"""Many positives at once: whoever has the anchor's label."""

from __future__ import annotations

import torch
from torch import Tensor

from unlabeled.losses.numeric import Reduction, check_labels, check_positive, full_precision, reduce, unit
from unlabeled.losses.similarity import distances
from unlabeled.losses.tiles import log_sum_exp


@full_precision
def supervised_contrastive(
    z: Tensor,
    labels: Tensor,
    temperature: float | Tensor = 0.1,
    *,
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes SupCon's L_out: -1/|P(i)| Σ_{p∈P(i)} log( exp(z_i·z_p/τ) / Σ_{a≠i} exp(z_i·z_a/τ) ) (Khosla et al. 2020, eq.
    2).

    P(i) are the others with the label of i; vectors are normalised. Two views of a batch go in concatenated, with the
    labels twice. The (B, N) matrix is never built when it is large: the mean over P(i) is taken of the vectors.

    Args:
        z: (B, D).
        labels: (B,) integers.
        temperature: τ > 0 (0.1: §4).
        gathered: embeddings (N, D) and labels (N,) of all processes.
        offset: where in `gathered` this process's samples begin.
        reduction: over the anchors that have a positive; with `gathered`, "mean" divides by their mean number in a process.

    Returns:
        A number ≥ 0, or (B,), 0 for anchors without a positive, at least log |P(i)| for the others; NT-Xent
        if each label is that of one image's two views.
    """
    check_positive("supervised_contrastive", temperature=temperature)
    k, names = _candidates("supervised_contrastive", z, labels, gathered, offset)
    q, k = unit(z), unit(k)
    itself = offset + torch.arange(len(z), device=z.device)
    ordered = names.sort().values
    kind = torch.searchsorted(ordered, names)  # (N,): of one label, one number below N
    mates = torch.searchsorted(ordered, names, right=True) - kind - 1  # (N,)
    sums = torch.zeros_like(k).index_add(0, kind, k)  # (N, D)
    here, count = kind[itself], mates[itself]
    single = count == 1
    numbers = torch.arange(len(k), device=z.device)
    mate = torch.where(single, torch.zeros_like(kind).index_add(0, kind, numbers)[here] - itself, itself)
    own = torch.where(single[:, None], k.index_select(0, mate), (sums[here] - k[itself]) / count.clamp(min=1)[:, None])
    excess = log_sum_exp(q, k, 1 / temperature, [itself, mate]) - (q * own).sum(1) / temperature
    # Of one mate the loss may be tiny: its own term stays out of the sum, as in NT-Xent. Of several it is at least log 2.
    several = torch.where(count > 1, excess, 0)
    terms = torch.where(single, torch.logaddexp(excess, torch.zeros_like(excess)), several)
    return reduce(terms, reduction, _mean_count(mates > 0, len(z)))


@full_precision
def soft_nearest_neighbor(
    z: Tensor,
    labels: Tensor,
    temperature: float = 1.0,
    *,
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes -log( Σ_{j≠i, y_j=y_i} exp(-d_ij²/T) / Σ_{k≠i} exp(-d_ik²/T) ), d Euclidean (Frosst et al. 2019, eq. 1).

    With T = 1 the loss of Salakhutdinov & Hinton 2007.

    Args:
        z: (B, D), not normalised.
        labels: (B,) integers.
        temperature: T > 0, a squared distance.
        gathered: embeddings (N, D) and labels (N,) of all processes.
        offset: where in `gathered` this process's samples begin.
        reduction: over the anchors that have a positive; with `gathered`, "mean" divides by their mean number in a process.

    Returns:
        A number ≥ 0, or (B,), 0 for anchors without a positive.
    """
    check_positive("soft_nearest_neighbor", temperature=temperature)
    k, names = _candidates("soft_nearest_neighbor", z, labels, gathered, offset)
    logits = -distances(z, k).square() / temperature  # (B, N)
    itself = torch.zeros_like(logits, dtype=torch.bool)
    rows = torch.arange(len(z), device=z.device)
    itself[rows, offset + rows] = True
    mate = (labels[:, None] == names[None]) & ~itself
    excess = _masked(logits, ~mate & ~itself) - _masked(logits, mate)
    terms = torch.where(mate.any(1), torch.logaddexp(excess, torch.zeros_like(excess)), 0)
    every = names[:, None] == names[None]
    return reduce(terms, reduction, _mean_count(every.sum(1) > 1, len(z)))


@full_precision
def lifted_structure(
    z: Tensor,
    labels: Tensor,
    margin: float = 1.0,
    *,
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes ½ max(0, J_ij)² for each pair of one label, every negative of both ends taking part (Song et al. 2016, eq.
    4).

    J_ij = log( Σ_{k: y_k≠y_i} exp(m - d_ik) + Σ_{l: y_l≠y_j} exp(m - d_jl) ) + d_ij, d Euclidean.

    Args:
        z: (B, D), not normalised.
        labels: (B,) integers.
        margin: m.
        gathered: embeddings (N, D) and labels (N,) of all processes.
        offset: where in `gathered` this process's samples begin.
        reduction: over the pairs (i, j), i of this process, both orders; with `gathered`, "mean" divides by the mean number
            of pairs of a process.

    Returns:
        A number ≥ 0, or (pairs,) ordered by i and j; 0 if there is no pair or no negative.
    """
    k, names = _candidates("lifted_structure", z, labels, gathered, offset)
    d = distances(k, k)  # (N, N)
    every = names[:, None] == names[None]
    repulsion = _masked(margin - d, ~every)  # (N,)
    pair = every[offset : offset + len(z)] & ~torch.eye(len(k), dtype=torch.bool, device=z.device)[offset : offset + len(z)]
    i, j = pair.nonzero(as_tuple=True)
    both = torch.logaddexp(repulsion[i + offset], repulsion[j]) + d[i + offset, j]
    terms = both.clamp(min=0).square() / 2
    return reduce(terms, reduction, _mean_count(every.sum(1) - 1, len(z)))


def _candidates(
    name: str, z: Tensor, labels: Tensor, gathered: tuple[Tensor, Tensor] | None, offset: int
) -> tuple[Tensor, Tensor]:
    check_labels(name, z, labels)
    k, names = gathered or (z, labels)
    check_labels(name, k, names)
    if not 0 <= offset <= len(k) - len(z):
        raise ValueError(
            f"{name}: offset {offset} with {len(z)} local and {len(k)} gathered samples; give one in [0, {len(k) - len(z)}]"
        )
    return k, names


def _mean_count(terms: Tensor, local: int) -> Tensor:
    """Terms of a process, on average, from those of each sample (N,): the mean over processes is then that over all."""
    return (terms.sum() * (local / len(terms))).clamp(min=torch.finfo(torch.float32).tiny)


def _masked(logits: Tensor, mask: Tensor) -> Tensor:
    """(B,) log-sum-exp of the chosen; a very small number, with zero gradient, where none is chosen."""
    lowest = torch.finfo(logits.dtype).min / 4
    sums = logits.masked_fill(~mask, lowest).logsumexp(1)
    return torch.where(mask.any(1), sums, lowest)
