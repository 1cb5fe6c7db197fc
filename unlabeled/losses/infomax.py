"""What a whole tells of its parts."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from unlabeled.losses.numeric import Reduction, check_positive, check_rows, full_precision, reduce
from unlabeled.losses.tiles import BUDGET, log_sum_exp

Estimator = Literal["infonce", "jsd", "dv"]


@full_precision
def local_infomax(
    whole: Tensor,
    parts: Tensor,
    *,
    estimator: Estimator = "infonce",
    gathered: Tensor | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Tells each part of an image from the parts of all other images, given the whole (DIM, Hjelm et al. 2019, §3).

    With scores s_ijm = g_i·p_jm, the mean over the L parts l of
        infonce (eq. 5): log(1 + Σ_{j≠i} Σ_m exp(s_ijm - s_iil)),
        jsd (eq. 4): softplus(-s_iil) + the mean over j≠i and m of softplus(s_ijm),
        dv (eq. 3): -s_iil + log of the mean over all i, j≠i and m of exp(s_ijm),
    each what is missing of a measure of their mutual information. Nothing is normalised. The matrix of all scores is never
    held when it is large.

    Args:
        whole: (B, D), g: one vector of each image.
        parts: (B, L, D), p: of each image's L places.
        estimator: which; the log of `dv` is of a mean over wholes, too, which are then those of all processes.
        gathered: (N, L, D) parts of all processes.
        offset: where in `gathered` this process's images begin.
        reduction: over the B images.

    Returns:
        A number, or (B,). With `infonce` and `jsd` ≥ 0; where all scores are 0, log(1 + (N - 1) L), 2 log 2 and 0. One image
        has no others: 0 with `infonce`, and with the other two what is left without that term.
    """
    _check(whole, parts, gathered, offset)
    everyone = parts if gathered is None else gathered
    (b, places), n = parts.shape[:2], len(everyone)
    own = (whole[:, None] * parts).sum(2)  # (B, L)
    if estimator == "jsd":
        return reduce(F.softplus(-own).mean(1) + _mean_softplus(whole, everyone, offset), reduction)
    first = (offset + torch.arange(b, device=whole.device)) * places  # (B,)
    others = log_sum_exp(whole, everyone.flatten(0, 1), 1.0, [first + place for place in range(places)])  # (B,)
    if estimator == "dv":
        mean = others.logsumexp(0) - math.log(b * (n - 1) * places) if n > 1 else whole.new_zeros(())
        return reduce(mean - own.mean(1), reduction)
    excess = others[:, None] - own  # (B, L)
    return reduce(torch.logaddexp(excess, torch.zeros_like(excess)).mean(1), reduction)


@full_precision
def clipped_infomax(
    whole: Tensor,
    parts: Tensor,
    *,
    clip: float = 20.0,
    penalty: float = 0.04,
    gathered: Tensor | None = None,
    offset: int = 0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Tells each part of an image from the parts of all other images, by scores that cannot grow (AMDIM, Bachman et al.
    2019, §3, and published code).

    With s_ijm = g_i·p_jm / √D and c(s) = C tanh(s / C), the mean over the L parts l of
    log(1 + Σ_{j≠i} Σ_m exp(c(s_ijm) - c(s_iil))), and λ times the mean of s_ijm² over all j and m. The matrix of all
    scores is held.

    Args:
        whole: (B, D), g: one vector of each image.
        parts: (B, L, D), p: of each image's L places.
        clip: C > 0 (20: Bachman et al. 2019, published code).
        penalty: λ (0.04: Bachman et al. 2019, published code).
        gathered: (N, L, D) parts of all processes.
        offset: where in `gathered` this process's images begin.
        reduction: over the B images.

    Returns:
        A number >= 0, or (B,); log(1 + (N - 1) L) where all scores are 0. One image has no others: the penalty alone.
    """
    _check(whole, parts, gathered, offset, "clipped_infomax")
    check_positive("clipped_infomax", clip=clip)
    everyone = parts if gathered is None else gathered
    (b, places), n = parts.shape[:2], len(everyone)
    scores = (whole @ everyone.flatten(0, 1).T) * whole.shape[1] ** -0.5  # (B, N·L)
    squares = scores.square().mean(1)  # (B,)
    clipped = (clip * (scores / clip).tanh()).view(b, n, places)
    itself = torch.arange(n, device=whole.device) == offset + torch.arange(b, device=whole.device)[:, None]  # (B, N)
    own = clipped[itself].view(b, places)
    others = clipped.masked_fill(itself[:, :, None], -4 * clip - 1e4).flatten(1).logsumexp(1)  # (B,)
    excess = others[:, None] - own
    return reduce(torch.logaddexp(excess, torch.zeros_like(excess)).mean(1) + penalty * squares, reduction)


def _mean_softplus(whole: Tensor, parts: Tensor, offset: int) -> Tensor:
    """(B,): the mean of softplus over the scores with the parts (N, L, D) of other images; a few rows at a time, whose
    scores are computed again backward, where all would not fit."""
    n, places = parts.shape[:2]

    def rows(some: Tensor, parts: Tensor, first: int) -> Tensor:
        scores = (some @ parts.flatten(0, 1).T).view(-1, n, places)  # (b, N, L)
        itself = torch.arange(n, device=some.device) == first + torch.arange(len(some), device=some.device)[:, None]
        return F.softplus(scores.masked_fill(itself[:, :, None], float("-inf"))).sum((1, 2)) / max(1, (n - 1) * places)

    height = max(1, BUDGET // (n * places))
    if len(whole) <= height:
        return rows(whole, parts, offset)
    pieces = [
        checkpoint(rows, some, parts, offset + height * i, use_reentrant=False)
        for i, some in enumerate(torch.split(whole, height))
    ]
    return torch.cat(pieces)


def _check(whole: Tensor, parts: Tensor, gathered: Tensor | None, offset: int, name: str = "local_infomax") -> None:
    """Refuses shapes that do not fit.

    Raises:
        ValueError: it says which.
    """
    check_rows(name, whole=whole)
    b, dim = whole.shape
    everyone = parts if gathered is None else gathered
    for key, tensor in (("parts", parts), ("gathered", everyone)):
        if tensor.ndim != 3 or tensor.shape[2] != dim or tensor.shape[1] == 0 or len(tensor) < b:
            raise ValueError(f"{name}: {key} has shape {tuple(tensor.shape)}; give ({b} or more, L, {dim})")
    if len(parts) != b or everyone.shape[1] != parts.shape[1]:
        raise ValueError(
            f"{name}: whole has shape {tuple(whole.shape)}, parts {tuple(parts.shape)} and gathered "
            f"{tuple(everyone.shape)}; give as many wholes as images, and as many parts of each"
        )
    if not 0 <= offset <= len(everyone) - b:
        raise ValueError(f"{name}: offset {offset} with {b} of {len(everyone)} images; give where these begin")
