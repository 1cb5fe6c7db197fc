"""Anchors of one process against gathered candidates: the mean over processes is the value and gradient of one process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from unlabeled import losses

from .loss_cases import MININGS, normal

LABELS = torch.tensor([0, 0, 0, 0, 1, 2, 1, 3])
ONE_PAIR = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6])
VIEWS: dict[str, Callable[..., Tensor]] = {
    "nt_xent": losses.nt_xent,
    "debiased_nt_xent": losses.debiased_nt_xent,
    **{f"nt_logistic, {m}": lambda *a, m=m, **o: losses.nt_logistic(*a, mining=m, **o) for m in MININGS},
    **{f"margin_triplet, {m}": lambda *a, m=m, **o: losses.margin_triplet(*a, mining=m, **o) for m in MININGS},
}
LABELLED: dict[str, Callable[..., Tensor]] = {
    "supervised_contrastive": losses.supervised_contrastive,
    "soft_nearest_neighbor": losses.soft_nearest_neighbor,
    "lifted_structure": losses.lifted_structure,
    **{f"batch_triplet, {m}": lambda *a, m=m, **o: losses.batch_triplet(*a, mining=m, **o) for m in MININGS},
}


def agree(whole: Tensor, parts: list[Tensor], inputs: tuple[Tensor, ...]) -> None:
    mean = torch.stack(parts).mean()
    torch.testing.assert_close(mean, whole)
    slopes = [torch.autograd.grad(value, inputs, retain_graph=True) for value in (mean, whole)]
    torch.testing.assert_close(*slopes)


def pieces(processes: int) -> list[slice]:
    return [slice(i, i + 8 // processes) for i in range(0, 8, 8 // processes)]


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", VIEWS)
def test_two_views(name: str, processes: int) -> None:
    z1, z2 = (normal(8, 4, seed=s).requires_grad_() for s in range(2))
    options: list[dict[str, Any]] = [{"gathered": (z1, z2), "offset": s.start} for s in pieces(processes)]
    parts = [VIEWS[name](z1[s], z2[s], **o) for s, o in zip(pieces(processes), options, strict=True)]
    agree(VIEWS[name](z1, z2), parts, (z1, z2))


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", LABELLED)
def test_labelled(name: str, processes: int) -> None:
    """Also where processes have different numbers of pairs, or none."""
    z = normal(8, 4).requires_grad_()
    parts = [LABELLED[name](z[s], LABELS[s], gathered=(z, LABELS), offset=s.start) for s in pieces(processes)]
    agree(LABELLED[name](z, LABELS), parts, (z,))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LABELLED)
def test_a_process_without_pairs_takes_part(name: str, reduction: str) -> None:
    """Its loss is nothing, but depends on the gathered tensor: else it would miss the backward pass of the gathering."""
    z, gathered = normal(8, 4), normal(8, 4).requires_grad_()
    parts = [
        LABELLED[name](z[s], ONE_PAIR[s], gathered=(gathered, ONE_PAIR), offset=s.start, reduction=reduction)
        for s in pieces(4)
    ]
    for part in parts:
        (slope,) = torch.autograd.grad(part.sum(), gathered, allow_unused=True)
        assert slope is not None
    assert not any(part.detach().any() for part in parts[1:])


@pytest.mark.parametrize("name", LABELLED)
def test_fewer_pairs_than_processes(name: str) -> None:
    z = normal(8, 4).requires_grad_()
    parts = [LABELLED[name](z[s], ONE_PAIR[s], gathered=(z, ONE_PAIR), offset=s.start) for s in pieces(4)]
    agree(LABELLED[name](z, ONE_PAIR), parts, (z,))


def test_keys_and_pools() -> None:
    a, b, c = (normal(8, 4, seed=s).requires_grad_() for s in range(3))
    parts = [losses.info_nce(a[s], b, torch.arange(8)[s]) for s in pieces(2)]
    agree(losses.info_nce(a, b), parts, (a, b))
    parts = [losses.n_pair(a[s], b[s], gathered=b, offset=s.start) for s in pieces(2)]
    agree(losses.n_pair(a, b), parts, (a, b))
    parts = [losses.triplet(a[s], b[s], c, 1.0, mining="hardest") for s in pieces(2)]
    agree(losses.triplet(a, b, c, 1.0, mining="hardest"), parts, (a, b, c))
    codes = losses.sinkhorn(losses.cosine(a, c[:3]).detach(), 0.5)
    scores = [losses.cosine(z, c[:3]) for z in (a, b)]
    parts = [losses.swapped_prediction([t[s] for t in scores], [codes[s]]) for s in pieces(2)]
    agree(losses.swapped_prediction(scores, [codes]), parts, (b, c))
