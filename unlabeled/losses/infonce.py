"""Tell the positive among many candidates: NCE, InfoNCE, NT-Xent, N-pair."""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.losses.numeric import Reduction, check_indices, check_positive, check_rows, full_precision, reduce, unit
from unlabeled.losses.tiles import log_sum_exp

_Number = TypeVar("_Number", float, Tensor)


@full_precision
def nce(
    score_data: Tensor,
    score_noise: Tensor,
    log_noise_data: Tensor,
    log_noise_noise: Tensor,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes noise contrastive estimation: logistic regression between data and noise.

    With G(u) = score(u) - log p_noise(u), ν noise samples for each data sample and h(u) = σ(G(u) - log ν): the mean over
    data x of -log h(x) - Σ_{its noise y} log(1 - h(y)) (Gutmann & Hyvärinen 2012, JMLR 13, eq. 8; with ν = 1 twice the
    loss of Gutmann & Hyvärinen 2010, eq. 3).

    Args:
        score_data: (B,) log p_model of data, not necessarily normalised.
        score_noise: (B,) or (B, ν) log p_model of noise.
        log_noise_data: (B,) log p_noise of data.
        log_noise_noise: log p_noise of noise, shaped as `score_noise`.
        reduction: over the B data samples.

    Returns:
        A number ≥ 0, or (B,); (1 + ν) log(1 + ν) - ν log ν where the model is the noise.
    """
    noise = score_noise.reshape(len(score_noise), -1)
    if score_data.ndim != 1 or len(score_data) == 0 or len(noise) != len(score_data) or noise.shape[1] == 0:
        raise ValueError(
            f"nce: scores are {tuple(score_data.shape)} of data and {tuple(score_noise.shape)} of noise; "
            "give (B,) and (B,) or (B, ν)"
        )
    if log_noise_data.shape != score_data.shape or log_noise_noise.shape != score_noise.shape:
        raise ValueError(
            f"nce: log-probabilities {tuple(log_noise_data.shape)}, {tuple(log_noise_noise.shape)} under the noise; "
            "give one for each score"
        )
    several = math.log(noise.shape[1])
    data = score_data - log_noise_data - several  # (B,)
    noise = noise - log_noise_noise.reshape(noise.shape) - several  # (B, ν)
    return reduce(F.softplus(-data) + F.softplus(noise).sum(1), reduction)


@full_precision
def info_nce(
    query: Tensor,
    keys: Tensor,
    positive: Tensor | None = None,
    temperature: float | Tensor = 0.07,
    exclude: Tensor | None = None,
    *,
    further: Tensor | None = None,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes -log softmax of the positive's similarity among all candidates, for each query.

    For query q with positive k+: -log( exp(q·k+/τ) / (exp(q·k+/τ) + Σ exp(q·k-/τ)) ), all vectors normalised
    (van den Oord et al. 2018, eq. 4; MoCo, eq. 1). Another similarity goes in as `normalize=False` with vectors whose
    dot product it is: `info_nce(q @ W, k, temperature=1, normalize=False)` is the log-bilinear model of CPC (eq. 3).

    The (B, M) matrix is never built when it is large (`unlabeled.losses.tiles`). Over several processes: local queries,
    gathered keys, `positive` counting among the gathered keys.

    Args:
        query: (B, D).
        keys: (M, D), the candidates.
        positive: (B,) integers: which key is the positive (default: key i for query i); or (B, D) numbers: the
            positives themselves, and then every key is a negative.
        temperature: τ > 0 (0.07: MoCo, §3.3).
        exclude: (B,) integers: a key that is no negative of this query (itself).
        further: (B, H, D) numbers: negatives that each query has for itself, see `mixed_negatives`; taken as they are.
        normalize: whether vectors are brought to length 1.
        reduction: over the B queries.

    Returns:
        A number ≥ 0, or (B,); 0 if there is no negative, log of the number of candidates if all are identical.
    """
    check_positive("info_nce", temperature=temperature)
    check_rows("info_nce", query=query)
    if keys.ndim != 2 or keys.shape[1] != query.shape[1]:
        raise ValueError(f"info_nce: keys have shape {tuple(keys.shape)}; give (M, {query.shape[1]})")
    if further is not None and (further.ndim != 3 or further.shape[::2] != query.shape):
        raise ValueError(f"info_nce: further has shape {tuple(further.shape)}; give ({len(query)}, H, {query.shape[1]})")
    apart = positive is not None and positive.is_floating_point()
    if apart and positive is not None:
        check_rows("info_nce", query=query, positive=positive)
    elif positive is None and len(keys) < len(query):
        raise ValueError(f"info_nce: {len(query)} queries have {len(keys)} keys; give at least as many, or `positive`")
    for name, which in (("positive", None if apart else positive), ("exclude", exclude)):
        if which is not None and which.shape != query.shape[:1]:
            raise ValueError(f"info_nce: {name} has shape {tuple(which.shape)}; give ({len(query)},), one key a query")
        if which is not None:
            check_indices("info_nce", len(keys), **{name: which})
    q, k = (unit(query), unit(keys)) if normalize else (query, keys)
    left_out = [] if exclude is None else [exclude]
    if apart and positive is not None:
        own = unit(positive) if normalize else positive  # (B, D)
    else:
        where = torch.arange(len(q), device=q.device) if positive is None else positive
        own = k.index_select(0, where)  # (B, D)
        left_out.append(where)
    return reduce(_cross_entropy(q, k, own, temperature, left_out, further), reduction)


def _cross_entropy(
    q: Tensor,
    k: Tensor,
    own: Tensor,
    temperature: float | Tensor,
    left_out: list[Tensor],
    further: Tensor | None = None,
) -> Tensor:
    """(B,): log(1 + Σ_negatives exp((s- - s+)/τ)), which never is negative and keeps small losses exact."""
    negatives = log_sum_exp(q, k, 1 / temperature, left_out)
    if further is not None:
        similarities = torch.einsum("bd,bhd->bh", q, further.to(q.dtype))
        negatives = torch.logaddexp(negatives, (similarities / temperature).logsumexp(1))
    excess = negatives - (q * own).sum(1) / temperature
    return torch.logaddexp(excess, torch.zeros_like(excess))


def both_views(
    name: str, z1: Tensor, z2: Tensor, gathered: tuple[Tensor, Tensor] | None, offset: int, normalize: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns anchors (2B, D) and candidates (2N, D), of length 1 if normalised; where among them each anchor is itself, and
    its positive (2B,)."""
    check_rows(name, z1=z1, z2=z2)
    all1, all2 = gathered or (z1, z2)
    check_rows(name, gathered=all1, second=all2)
    n, b = len(all1), len(z1)
    if not 0 <= offset <= n - b:
        raise ValueError(f"{name}: offset {offset} with {b} local and {n} gathered samples; give one in [0, {n - b}]")
    first = offset + torch.arange(b, device=z1.device)
    scaled = unit if normalize else torch.Tensor.contiguous
    anchors = scaled(torch.cat([z1, z2]))
    candidates = anchors if gathered is None else scaled(torch.cat([all1, all2]))
    return anchors, candidates, torch.cat([first, first + n]), torch.cat([first + n, first])


@full_precision
def nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes the normalised temperature-scaled cross entropy of SimCLR (eq. 1), for the 2B anchors.

    An anchor's positive is the other view of its image; its candidates are all 2N embeddings but itself. The (2B, 2N)
    matrix is never built when it is large.

    Args:
        z1: (B, D), first views.
        z2: (B, D), second views.
        temperature: τ > 0 (0.5: SimCLR, appendix B.9, CIFAR-10).
        gathered: both views of all processes, each (N, D), where the anchors are only this process's.
        offset: where in `gathered` this process's samples begin.
        normalize: whether vectors are brought to length 1 (the ablation of SimCLR, table 5, leaves it out).
        reduction: over the 2B anchors, first views first.

    Returns:
        A number ≥ 0, or (2B,); log(2N - 1) if all embeddings are identical.
    """
    check_positive("nt_xent", temperature=temperature)
    z, candidates, itself, other = both_views("nt_xent", z1, z2, gathered, offset, normalize)
    own = candidates.index_select(0, other)
    return reduce(_cross_entropy(z, candidates, own, temperature, [itself, other]), reduction)


@full_precision
def n_pair(
    anchor: Tensor,
    positive: Tensor,
    *,
    gathered: Tensor | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Computes the multi-class N-pair loss: log(1 + Σ_{j≠i} exp(a_i·p_j - a_i·p_i)) (Sohn 2016, eq. 6), nothing normalised.

    The paper adds a small multiple of the mean squared length of the embeddings (§3.2.2); that is left to the caller.

    Args:
        anchor: (B, D), one of each class.
        positive: (B, D), of the anchors' classes; those of other anchors are the negatives.
        gathered: (N, D) positives of all processes.
        offset: where in `gathered` this process's positives begin.
        reduction: over the B anchors.

    Returns:
        A number ≥ 0, or (B,); 0 for one pair.
    """
    check_rows("n_pair", anchor=anchor, positive=positive)
    keys = positive if gathered is None else gathered
    return info_nce(
        anchor,
        keys,
        offset + torch.arange(len(anchor), device=anchor.device),
        1.0,
        normalize=False,
        reduction=reduction,
    )


def info_nce_bound(loss: _Number, n: int) -> _Number:
    """Computes log n - loss, in nats: a lower bound of the mutual information between the two sides of InfoNCE.

    It holds for the mean loss over independent draws, and cannot exceed log n (van den Oord et al. 2018, §2.3; Poole et al.
    2019, eq. 10).

    Args:
        loss: mean InfoNCE.
        n: candidates of each query, the positive included; 2N - 1 for NT-Xent of N images.
    """
    if n < 1:
        raise ValueError(f"info_nce_bound: {n} candidates; give at least 1, the positive")
    return math.log(n) - loss
