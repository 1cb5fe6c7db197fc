"""InfoNCE and NT-Xent: tell the positive among many candidates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

TILE = 1 << 24
"""Similarities held at once: beyond it anchors are taken in rows, and computed again in the backward pass."""


def info_nce(
    query: Tensor,
    keys: Tensor,
    positive: Tensor | None = None,
    temperature: float = 0.07,
    exclude: Tensor | None = None,
) -> Tensor:
    """Mean over queries of -log softmax of the positive's similarity among all candidates.

    For each query q with positive k+: -log( exp(q·k+/τ) / (exp(q·k+/τ) + Σ exp(q·k-/τ)) ), all vectors normalised
    (van den Oord et al. 2018, eq. 4; MoCo, eq. 1).

    Args:
        query: (B, D).
        keys: (M, D), the candidates.
        positive: (B,) integers: which key is the positive (default: key i for query i); or (B, D) numbers: the
            positives themselves, and then every key is a negative.
        temperature: τ > 0 (0.07: MoCo, §3.3).
        exclude: (B,) integers: a key that is no candidate for this query (itself).

    Returns:
        Scalar, float32.
    """
    with torch.autocast(query.device.type, enabled=False):
        q, k = F.normalize(query.float(), dim=1), F.normalize(keys.float(), dim=1)
        apart = positive is not None and positive.is_floating_point()
        where = torch.arange(len(q), device=q.device) if positive is None or apart else positive
        own = (q * F.normalize(positive.float(), dim=1)).sum(1) if apart and positive is not None else None  # (B,)

        def rows(q: Tensor, where: Tensor, own: Tensor | None, exclude: Tensor | None) -> Tensor:
            logits = q @ k.T / temperature  # (b, M)
            if exclude is not None:
                logits = logits.scatter(1, exclude[:, None], float("-inf"))
            if own is None:
                return F.cross_entropy(logits, where, reduction="sum")
            own = own / temperature
            return (torch.logaddexp(own, logits.logsumexp(1)) - own).sum()

        step = max(1, TILE // len(k))
        if step >= len(q):
            return rows(q, where, own, exclude) / len(q)
        parts = [
            checkpoint(
                rows, *(None if t is None else t[i : i + step] for t in (q, where, own, exclude)), use_reentrant=False
            )
            for i in range(0, len(q), step)
        ]
        return torch.stack(parts).sum() / len(q)


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float = 0.5,
    *,
    gathered: tuple[Tensor, Tensor] | None = None,
    offset: int = 0,
) -> Tensor:
    """The normalised temperature-scaled cross entropy of SimCLR (eq. 1), mean over the 2B anchors.

    An anchor's positive is the other view of its image; its candidates are all 2N embeddings but itself.

    Args:
        z1: (B, D), first views.
        z2: (B, D), second views.
        temperature: τ > 0 (0.5: SimCLR, appendix B.9, CIFAR-10).
        gathered: both views of all processes, each (N, D), where the anchors are only this process's.
        offset: where in `gathered` this process's samples begin.

    Returns:
        Scalar, float32; log(2N - 1) if all embeddings are identical.
    """
    all1, all2 = gathered or (z1, z2)
    n, b = len(all1), len(z1)
    first = offset + torch.arange(b, device=z1.device)
    itself, other = torch.cat([first, first + n]), torch.cat([first + n, first])
    return info_nce(torch.cat([z1, z2]), torch.cat([all1, all2]), other, temperature, exclude=itself)
