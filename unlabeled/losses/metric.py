"""Distances with a margin: pairs and triplets."""

from __future__ import annotations

import torch
from torch import Tensor

from unlabeled.losses.infonce import both_views
from unlabeled.losses.mining import Mining, weigh
from unlabeled.losses.numeric import Reduction, check_labels, check_positive, check_rows, full_precision, reduce, unit
from unlabeled.losses.similarity import distance, distances


@full_precision
def contrastive(x: Tensor, y: Tensor, same: Tensor, margin: float = 1.0, *, reduction: Reduction = "mean") -> Tensor:
    """Computes ½ d² for pairs of one kind, ½ max(0, m - d)² for pairs of two, d = ‖x - y‖ (Hadsell et al. 2006, eq. 4).

    Chopra et al. 2005 introduced the pairs and asked for a term that grows and one that falls with the distance; this form
    is the later paper's.

    Args:
        x: (B, D).
        y: (B, D).
        same: (B,) bool or 0/1: whether x and y are of one kind (1 - Y of the paper).
        margin: m > 0, beyond which different pairs are left alone.
        reduction: over the B pairs.

    Returns:
        A number ≥ 0, or (B,).
    """
    check_positive("contrastive", margin=margin)
    check_rows("contrastive", x=x, y=y)
    if same.shape != x.shape[:1]:
        raise ValueError(f"contrastive: same has shape {tuple(same.shape)}; give ({len(x)},), one a pair")
    d = distance(x, y)  # (B,)
    return reduce(torch.where(same.bool(), d.square(), (margin - d).clamp(min=0).square()) / 2, reduction)


@full_precision
def triplet(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 0.2,
    *,
    mining: Mining | None = None,
    among: Tensor | None = None,
    normalize: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes max(0, ‖a - p‖² - ‖a - n‖² + α) (Schroff et al. 2015, eq. 3).

    The paper's embeddings are of length 1 (§3.1); nothing is normalised here unless `normalize` says so.

    Args:
        anchor: (B, D).
        positive: (B, D).
        negative: (B, D), one for each anchor; or with `mining` a pool (M, D), which may come from all processes.
        margin: α ≥ 0 (0.2: §3.1).
        mining: which of the pool count, see `unlabeled.losses.mining.weigh`; None: negative i for anchor i.
        among: (B, M) bool, which of the pool are negatives of which anchor (default: all).
        normalize: whether vectors are brought to length 1.
        reduction: over the B anchors; with mining, an anchor's term is the weighted mean over its negatives.

    Returns:
        A number ≥ 0, or (B,); 0 for anchors without a negative that qualifies.
    """
    check_rows("triplet", anchor=anchor, positive=positive)
    if normalize:
        anchor, positive, negative = unit(anchor), unit(positive), unit(negative)
    own = (anchor - positive).square().sum(1)  # (B,)
    if mining is None:
        check_rows("triplet", anchor=anchor, negative=negative)
        return reduce((own - (anchor - negative).square().sum(1) + margin).clamp(min=0), reduction)
    if negative.ndim != 2 or negative.shape[1] != anchor.shape[1]:
        raise ValueError(f"triplet: the pool of negatives has shape {tuple(negative.shape)}; give (M, {anchor.shape[1]})")
    if among is not None and among.shape != (len(anchor), len(negative)):
        raise ValueError(f"triplet: among has shape {tuple(among.shape)}; give ({len(anchor)}, {len(negative)})")
    d = distances(anchor, negative)  # (B, M)
    allowed = torch.ones_like(d, dtype=torch.bool) if among is None else among
    weight = weigh(d.detach(), own.detach().sqrt(), allowed, mining, anchor.shape[1])
    return reduce((weight * (own[:, None] - d.square() + margin).clamp(min=0)).sum(1), reduction)


@full_precision
def batch_triplet(
    z: Tensor,
    labels: Tensor,
    margin: float = 0.2,
    *,
    mining: Mining = "semi-hard",
    normalize: bool = False,
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes the triplet loss of all pairs of one label in a batch, negatives mined in it (Schroff et al. 2015, §3.2).

    Args:
        z: (B, D).
        labels: (B,) integers.
        margin: α ≥ 0.
        mining: which negatives count for a pair.
        normalize: whether vectors are brought to length 1.
        gathered: embeddings (N, D) and labels (N,) of all processes.
        offset: where in `gathered` this process's samples begin.
        reduction: over the pairs; with `gathered`, "mean" divides by the mean number of pairs of a process.

    Returns:
        A number ≥ 0, or (pairs,) ordered by anchor and positive; 0 if there is no pair.
    """
    check_labels("batch_triplet", z, labels)
    others, names = gathered or (z, labels)
    check_labels("batch_triplet", others, names)
    pair = labels[:, None] == names[None]  # (B, N)
    negative = ~pair
    rows = torch.arange(len(z), device=z.device)
    pair[rows, offset + rows] = False
    a, p = pair.nonzero(as_tuple=True)
    if len(a) == 0:
        return reduce((z[a] * others[p]).sum(1), reduction)  # of both, so that every process takes part in the backward pass
    terms = triplet(z[a], others[p], others, margin, mining=mining, among=negative[a], normalize=normalize, reduction="none")
    if gathered is None:
        return reduce(terms, reduction)
    total = (names[:, None] == names[None]).sum() - len(names)
    return reduce(terms, reduction, total * len(z) / len(names))


@full_precision
def nt_logistic(
    z1: Tensor,
    z2: Tensor,
    temperature: float = 0.5,
    *,
    mining: Mining = "all",
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes -log σ(s+/τ) - log σ(-s-/τ), s the cosine (SimCLR, §5.1, table 2), the second term averaged over the
    negatives.

    The paper writes one negative; anchors and candidates are here those of `nt_xent` (the paper's comparison took negatives
    from one view only, appendix B.10).

    Args:
        z1: (B, D), first views.
        z2: (B, D), second views.
        temperature: τ > 0 (tuned in {0.1, 0.2, 0.5, 1}: appendix B.10).
        mining: which negatives count; "semi-hard" is the paper's variant (table 4, "sh").
        gathered, offset: as in `nt_xent`.
        reduction: over the 2B anchors, first views first.

    Returns:
        A number > 0, or (2B,).
    """
    check_positive("nt_logistic", temperature=temperature)
    own, similarity, weight = _mined("nt_logistic", z1, z2, mining, gathered, offset)
    logs = torch.nn.functional.softplus(similarity / temperature)  # (2B, 2N)
    return reduce(torch.nn.functional.softplus(-own / temperature) + (weight * logs).sum(1), reduction)


@full_precision
def margin_triplet(
    z1: Tensor,
    z2: Tensor,
    margin: float = 0.8,
    *,
    mining: Mining = "all",
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes max(0, s- - s+ + m), s the cosine (SimCLR, §5.1, table 2), averaged over the negatives.

    Args:
        z1: (B, D), first views.
        z2: (B, D), second views.
        margin: m (tuned in {0, 0.4, 0.8, 1.6}: appendix B.10; which was best is not said).
        mining: which negatives count; "semi-hard" is the paper's variant (table 4, "sh").
        gathered, offset: as in `nt_xent`.
        reduction: over the 2B anchors, first views first.

    Returns:
        A number in [0, 2 + m], or (2B,).
    """
    own, similarity, weight = _mined("margin_triplet", z1, z2, mining, gathered, offset)
    return reduce((weight * (similarity - own[:, None] + margin).clamp(min=0)).sum(1), reduction)


def _mined(
    name: str, z1: Tensor, z2: Tensor, mining: Mining, gathered: tuple[Tensor, Tensor] | None, offset: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines of anchors to their positives (2B,) and to all candidates (2B, 2N), and the weights of the negatives."""
    z, candidates, itself, other = both_views(name, z1, z2, gathered, offset)
    similarity = z @ candidates.T  # (2B, 2N)
    own = (z * candidates.index_select(0, other)).sum(1)
    negative = torch.ones_like(similarity, dtype=torch.bool)
    negative.scatter_(1, torch.stack([itself, other], 1), False)
    apart, near = ((2 - 2 * s.detach()).clamp(min=0).sqrt() for s in (similarity, own))
    return own, similarity, weigh(apart, near, negative, mining, z.shape[1])
