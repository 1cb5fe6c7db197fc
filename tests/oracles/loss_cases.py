"""Every loss as one function of two views, labels and prototypes, so that what holds for all is tested for all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unlabeled import losses


class Case(NamedTuple):
    """`loss(z1, z2, labels, prototypes, **options)`; z1, z2 (B, D), labels (B,), prototypes (K, D)."""

    loss: Callable[..., Tensor]
    rotation: bool = True
    scale: bool = False
    reduction: str = "mean"


def _both(z1: Tensor, z2: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([z1, z2]), torch.cat([labels, labels])


def _nce(a: Tensor, b: Tensor, y: Tensor, c: Tensor, **o: Any) -> Tensor:
    score, noise = (a * b).sum(1), a @ c.T
    return losses.nce(score, noise, -(a.square().sum(1)), -(noise.square()), **o)


def _proto(a: Tensor, b: Tensor, y: Tensor, c: Tensor, **o: Any) -> Tensor:
    phi = torch.linspace(0.2, 0.6, len(c), dtype=torch.promote_types(a.dtype, torch.float32))
    return losses.proto_nce(a, b, [c, c[:2]], [y % len(c), y % 2], [phi, phi[:2]], temperature=0.3, **o)


def _swapped(a: Tensor, b: Tensor, y: Tensor, c: Tensor, **o: Any) -> Tensor:
    scores = [losses.cosine(z, c) for z in (a, b)]
    return losses.swapped_prediction(scores, [losses.sinkhorn(s, 0.5).to(a.dtype) for s in scores], 0.3, **o)


def _soft(a: Tensor) -> tuple[Tensor, Tensor]:
    """Half of each target in the first class, half in the second."""
    index = torch.tensor([[0, 1]]).expand(len(a), -1)
    return index, torch.full_like(index, 0.5, dtype=a.dtype)


def _first(a: Tensor) -> Tensor:
    """The first column alone."""
    return torch.arange(a.shape[1]).expand_as(a) == 0


def _margin(mining: str) -> Case:
    return Case(lambda a, b, y, c, **o: losses.margin_triplet(a, b, 0.9, mining=mining, **o), scale=True)


def _logistic(mining: str) -> Case:
    return Case(lambda a, b, y, c, **o: losses.nt_logistic(a, b, 0.5, mining=mining, **o), scale=True)


def _batch_triplet(mining: str) -> Case:
    return Case(
        lambda a, b, y, c, **o: losses.batch_triplet(*_both(a, b, y), mining=mining, normalize=True, **o), scale=True
    )


MININGS = ("all", "semi-hard", "hardest", "distance-weighted")

CASES: dict[str, Case] = {
    "contrastive": Case(lambda a, b, y, c, **o: losses.contrastive(a, b, y % 2 == 0, 2.0, **o)),
    "triplet": Case(lambda a, b, y, c, **o: losses.triplet(a, b, b.flip(0), 0.2, **o)),
    "lifted_structure": Case(lambda a, b, y, c, **o: losses.lifted_structure(*_both(a, b, y), **o)),
    "n_pair": Case(lambda a, b, y, c, **o: losses.n_pair(a, b, **o)),
    "nce": Case(_nce),
    "info_nce": Case(lambda a, b, y, c, **o: losses.info_nce(a, b, temperature=0.2, **o), scale=True),
    "info_nce, queue": Case(lambda a, b, y, c, **o: losses.info_nce(a, c, b, 0.2, **o), scale=True),
    "info_nce, dot": Case(lambda a, b, y, c, **o: losses.info_nce(a, b, temperature=1.0, normalize=False, **o)),
    "local_infomax": Case(lambda a, b, y, c, **o: losses.local_infomax(a, torch.stack([b, 0.5 * b], 1), **o)),
    "soft_cross_entropy": Case(lambda a, b, y, c, **o: losses.soft_cross_entropy(a, *_soft(a), **o), rotation=False),
    "clipped_infomax": Case(lambda a, b, y, c, **o: losses.clipped_infomax(a, torch.stack([b, 0.5 * b], 1), **o)),
    "local_aggregation": Case(lambda a, b, y, c, **o: losses.local_aggregation(a, _first(a), 0.5, **o), rotation=False),
    "masked_square": Case(lambda a, b, y, c, **o: losses.masked_square(a, b, _first(a)[:, :1] * 2.0, _first(a)[:, :1], **o)),
    "nt_xent": Case(lambda a, b, y, c, **o: losses.nt_xent(a, b, 0.2, **o), scale=True),
    "debiased_nt_xent": Case(lambda a, b, y, c, **o: losses.debiased_nt_xent(a, b, 0.5, 0.1, **o), scale=True),
    "debiased_nt_xent, hard": Case(lambda a, b, y, c, **o: losses.debiased_nt_xent(a, b, 0.5, 0.1, 1.0, **o), scale=True),
    "nt_xent, dot": Case(lambda a, b, y, c, **o: losses.nt_xent(a, b, 0.9, normalize=False, **o)),
    "soft_nearest_neighbor": Case(lambda a, b, y, c, **o: losses.soft_nearest_neighbor(*_both(a, b, y), 2.0, **o)),
    "supervised_contrastive": Case(
        lambda a, b, y, c, **o: losses.supervised_contrastive(*_both(a, b, y), 0.2, **o), scale=True
    ),
    "proto_nce": Case(_proto, scale=True),
    "swapped_prediction": Case(_swapped, scale=True),
    "barlow_twins": Case(lambda a, b, y, c, **o: losses.barlow_twins(a, b, **o), rotation=False, reduction="sum"),
    "vicreg": Case(lambda a, b, y, c, **o: losses.vicreg(a, b, **o), rotation=False),
    "multi_patch": Case(lambda a, b, y, c, **o: losses.multi_patch(torch.stack([a, b, b, a]), **o), scale=True),
    "byol": Case(lambda a, b, y, c, **o: losses.byol(a, b, **o), scale=True),
    "counting": Case(lambda a, b, y, c, **o: losses.counting(a, b.flip(0), b, 9.0, **o)),
    **{f"margin_triplet, {m}": _margin(m) for m in MININGS},
    **{f"nt_logistic, {m}": _logistic(m) for m in MININGS},
    **{f"batch_triplet, {m}": _batch_triplet(m) for m in MININGS},
}

ORDERED = {"triplet", "swapped_prediction", "counting"}
"""Their negatives or codes depend on the order of the batch in the way that the case is written."""


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def data(n: int = 8, dim: int = 5, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two views that resemble each other, labels of 3 kinds, 4 prototypes."""
    z1 = normal(n, dim, seed=seed)
    return z1, z1 + 0.5 * normal(n, dim, seed=seed + 1), torch.arange(n) % 3, normal(4, dim, seed=seed + 2)
