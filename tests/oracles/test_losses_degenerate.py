"""One sample, no positive, no negative, duplicates, zero vectors, nonsense: a number or a named error, never NaN."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from unlabeled import losses

from .loss_cases import CASES, MININGS, normal

STATISTICS = ("barlow_twins", "vicreg")
SOME = normal(4, 5, dtype=torch.float32)
INPUTS = {
    "zeros": (torch.zeros(4, 5), torch.zeros(4, 5)),
    "first zero": (torch.zeros(4, 5), SOME),
    "second zero": (SOME, torch.zeros(4, 5)),
    "identical views": (SOME, SOME),
    "duplicates": (SOME[[0, 0, 0, 1]], SOME[[0, 0, 0, 1]]),
    "all the same": (SOME[[0] * 4], SOME[[0] * 4]),
    "opposite": (SOME, -SOME),
    "one sample": (SOME[:1], SOME[1:2]),
    "large": (1e4 * SOME, -1e4 * SOME),
    "small": (1e-12 * SOME, 1e-12 * SOME.flip(0)),
}


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("name", CASES)
def test_a_number_or_a_named_error(name: str, kind: str) -> None:
    z1, z2 = (t.clone().requires_grad_() for t in INPUTS[kind])
    n = len(z1)
    for labels in (torch.zeros(n).long(), torch.arange(n)):
        if n == 1 and name in STATISTICS:
            with pytest.raises(ValueError, match=f"{name}: 1 sample"):
                CASES[name].loss(z1, z2, labels, SOME)
            continue
        for reduction in ("mean", "sum", "none"):
            loss = CASES[name].loss(z1, z2, labels, SOME, reduction=reduction)
            assert loss.isfinite().all()
        for slope in torch.autograd.grad(CASES[name].loss(z1, z2, labels, SOME), (z1, z2), allow_unused=True):
            assert slope is None or slope.isfinite().all()


@pytest.mark.parametrize("loss", [losses.supervised_contrastive, losses.soft_nearest_neighbor, losses.lifted_structure])
def test_without_positives_there_is_nothing_to_learn(loss: Callable[..., Tensor]) -> None:
    z = SOME.clone().requires_grad_()
    value = loss(z, torch.arange(4))
    assert float(value.detach()) == 0
    assert not torch.autograd.grad(value, z)[0].any()


def test_anchors_without_a_positive_do_not_count() -> None:
    z = normal(5, 4)
    labels = torch.tensor([0, 0, 1, 2, 2])
    for loss in (losses.supervised_contrastive, losses.soft_nearest_neighbor):
        terms = loss(z, labels, reduction="none")
        assert terms[2] == 0
        torch.testing.assert_close(loss(z, labels), terms.sum() / 4)


def test_without_negatives_the_positive_is_certain() -> None:
    one, two = SOME[:1], SOME[1:2]
    assert float(losses.nt_xent(one, two)) == 0
    assert float(losses.info_nce(one, two)) == 0
    assert float(losses.n_pair(one, two)) == 0
    assert float(losses.debiased_nt_xent(one, two)) == 0
    assert float(losses.lifted_structure(SOME, torch.zeros(4).long())) == 0
    for mining in MININGS:
        assert float(losses.margin_triplet(one, two, mining=mining)) == 0
        assert float(losses.triplet(one, two, two, mining=mining, among=torch.zeros(1, 1).bool())) == 0
        x = one.clone().requires_grad_()
        empty = losses.triplet(x, two, SOME[:0], mining=mining)
        assert float(empty.detach()) == 0
        assert not torch.autograd.grad(empty, x)[0].any()
    x = SOME.clone().requires_grad_()
    alone = losses.info_nce(x, SOME[:0], SOME)
    assert float(alone.detach()) == 0
    assert not torch.autograd.grad(alone, x)[0].any()


def test_a_perfect_match_costs_nothing_however_cold() -> None:
    eye = torch.eye(8)
    assert 0 <= float(losses.nt_xent(eye, eye, 0.01)) < 1e-30
    assert 0 <= float(losses.info_nce(eye, eye, temperature=0.01)) < 1e-30
    assert float(losses.nt_xent(eye, -eye, 0.01)) == pytest.approx(100 + math.log(14), rel=1e-5)


@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_supervised_contrastive_of_two_views_is_nt_xent(temperature: float) -> None:
    """Views so near that the loss is below what 1/τ - 1/τ leaves of float32."""
    z = normal(64, 128, dtype=torch.float32)
    views = z, z + 1e-3 * normal(64, 128, seed=1, dtype=torch.float32)
    both, labels = torch.cat(views).requires_grad_(), torch.arange(64).repeat(2)
    terms = losses.supervised_contrastive(both, labels, temperature, reduction="none")
    expected = losses.nt_xent(*both.chunk(2), temperature, reduction="none")
    assert float(terms.detach().min()) >= 0
    torch.testing.assert_close(terms, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(*(torch.autograd.grad(t.mean(), both)[0] for t in (terms, expected)), rtol=1e-4, atol=1e-10)


def test_supervised_contrastive_of_several_is_at_least_the_log_of_their_number() -> None:
    z = normal(8, 64, dtype=torch.float32).repeat(3, 1)
    terms = losses.supervised_contrastive(z, torch.arange(8).repeat(3), 0.01, reduction="none")
    torch.testing.assert_close(terms, torch.full((24,), math.log(2)), rtol=1e-4, atol=0)


REFUSED: dict[str, Callable[[], object]] = {
    "z1 has shape .* and z2": lambda: losses.nt_xent(SOME, SOME[:3]),
    "nt_xent: z1 has shape .*at least 1": lambda: losses.nt_xent(SOME[:0], SOME[:0]),
    "nt_xent: temperature is -1": lambda: losses.nt_xent(SOME, SOME, -1.0),
    "offset 2": lambda: losses.nt_xent(SOME, SOME, gathered=(SOME, SOME), offset=2),
    "info_nce: keys have shape": lambda: losses.info_nce(SOME, SOME[:, :2]),
    "4 queries have 3 keys": lambda: losses.info_nce(SOME, SOME[:3]),
    "positive has shape \\(2,\\)": lambda: losses.info_nce(SOME, SOME, torch.arange(2)),
    "exclude has shape \\(2,\\)": lambda: losses.info_nce(SOME, SOME, exclude=torch.arange(2)),
    "among has shape": lambda: losses.triplet(SOME, SOME, SOME, mining="all", among=torch.ones(4, 3).bool()),
    "hardness is -1": lambda: losses.debiased_nt_xent(SOME, SOME, hardness=-1.0),
    "hardest is 9": lambda: losses.mixed_negatives(SOME, SOME, 9, 1, 1),
    "tau_plus is 1": lambda: losses.debiased_nt_xent(SOME, SOME, tau_plus=1.0),
    "labels are torch.float32": lambda: losses.supervised_contrastive(SOME, torch.ones(4)),
    "labels are .*shape \\(3,\\)": lambda: losses.lifted_structure(SOME, torch.arange(3)),
    "margin is 0": lambda: losses.contrastive(SOME, SOME, torch.ones(4), 0.0),
    "same has shape": lambda: losses.contrastive(SOME, SOME, torch.ones(3)),
    "the pool of negatives": lambda: losses.triplet(SOME, SOME, SOME[:, :2], mining="all"),
    "nce: scores": lambda: losses.nce(SOME[:, 0], SOME[:3], SOME[:, 0], SOME[:3]),
    "nce: log-prob": lambda: losses.nce(SOME[:, 0], SOME, SOME[:, 0], SOME[:, :2]),
    "info_nce: positive is torch.int64, not all in \\[0, 4\\)": lambda: losses.info_nce(SOME, SOME, torch.arange(4) + 1),
    "info_nce: exclude is": lambda: losses.info_nce(SOME, SOME, exclude=torch.arange(4) - 1),
    "info_nce: exclude is .*\\[0, 0\\)": lambda: losses.info_nce(SOME, SOME[:0], SOME, exclude=torch.zeros(4).long()),
    "proto_nce: assignments is": lambda: losses.proto_nce(SOME, SOME, [SOME], [torch.arange(4) + 1], [torch.ones(4)]),
    "proto_nce: concentrations have": lambda: losses.proto_nce(SOME, SOME, [SOME], [torch.arange(4)], [torch.zeros(4)]),
    "concentration: assigned is": lambda: losses.concentration(SOME, SOME, torch.arange(4) + 1),
    "mining 'most'": lambda: losses.triplet(SOME, SOME, SOME, mining="most"),  # type: ignore[arg-type]
    "temperature is tensor": lambda: losses.nt_xent(SOME, SOME, torch.ones(2)),
    "proto_nce: 1 sets": lambda: losses.proto_nce(SOME, SOME, [SOME], [], []),
    "swapped_prediction: 1 views": lambda: losses.swapped_prediction([SOME], [SOME]),
    "no argument is a tensor of floats": lambda: losses.byol(torch.ones(2, 2).long(), torch.ones(2, 2).long()),
}


@pytest.mark.parametrize("message", REFUSED)
def test_nonsense_is_refused_by_name(message: str) -> None:
    with pytest.raises(ValueError, match=message):
        REFUSED[message]()
