"""What holds for every loss: reductions, gradients, precision, invariances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlabeled import losses

from .loss_cases import CASES, ORDERED, data, normal

NAMES = list(CASES)
HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize("name", NAMES)
def test_reductions_agree(name: str) -> None:
    case = CASES[name]
    terms, total, mean = (case.loss(*data(), reduction=r) for r in ("none", "sum", "mean"))
    assert terms.ndim == 1
    assert total.shape == mean.shape == ()
    torch.testing.assert_close(terms.sum(), total)
    torch.testing.assert_close(terms.mean(), mean)
    torch.testing.assert_close(case.loss(*data()), mean if case.reduction == "mean" else total)
    with pytest.raises(ValueError, match="reduction 'median'"):
        case.loss(*data(), reduction="median")


@pytest.mark.parametrize("name", NAMES)
def test_gradients_in_float64(name: str) -> None:
    z1, z2, labels, prototypes = data(6, 4)
    inputs = [z1.requires_grad_(), z2.requires_grad_(), prototypes.requires_grad_()]
    if name == "swapped_prediction":  # codes are targets: no gradient flows into them, finite differences see one
        inputs[2].requires_grad_(False)
        codes = torch.softmax(normal(6, 4, seed=7), 1)
        assert torch.autograd.gradcheck(
            lambda a, b: losses.swapped_prediction([losses.cosine(z, prototypes) for z in (a, b)], [codes]), (z1, z2)
        )
        return
    if name == "byol":
        z2.requires_grad_(False)
    if "distance-weighted" in name:  # the weights are constants: no gradient flows into them
        return
    assert torch.autograd.gradcheck(lambda a, b, c: CASES[name].loss(a, b, labels, c), inputs)


def test_weights_of_mining_are_constants() -> None:
    z1, z2, _, _ = data(6, 4)
    z1.requires_grad_()
    slope = torch.autograd.grad(losses.margin_triplet(z1, z2, mining="distance-weighted"), z1)[0]
    assert slope.isfinite().all()
    assert slope.abs().max() > 0


@pytest.mark.parametrize("name", NAMES)
def test_precision_follows_the_rule(name: str) -> None:
    z1, z2, labels, prototypes = data()
    exact = CASES[name].loss(z1, z2, labels, prototypes)
    assert exact.dtype == torch.float64
    single = CASES[name].loss(z1.float(), z2.float(), labels, prototypes.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        if name not in ("nce", "swapped_prediction"):  # the case itself multiplies matrices
            assert CASES[name].loss(z1.float(), z2.float(), labels, prototypes.float()) == single


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_goes_in_and_gradients_come_back(name: str, dtype: torch.dtype) -> None:
    z1, z2, labels, prototypes = data()
    a, b = z1.to(dtype).requires_grad_(), z2.to(dtype)
    loss = CASES[name].loss(a, b, labels, prototypes.to(dtype))
    assert loss.dtype == torch.float32
    if name not in ("nce", "swapped_prediction"):
        expected = CASES[name].loss(a.float(), b.float(), labels, prototypes.to(dtype).float())
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    (slope,) = torch.autograd.grad(loss, a)
    assert slope.dtype == dtype
    assert slope.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=10, deadline=None)
@given(n=st.integers(2, 9), dim=st.integers(2, 7), seed=st.integers(0, 10**6))
def test_order_rotation_and_scale_change_nothing(name: str, n: int, dim: int, seed: int) -> None:
    case, (z1, z2, labels, prototypes) = CASES[name], data(n, dim, seed)
    expected = case.loss(z1, z2, labels, prototypes)
    assert expected.isfinite()
    assert expected >= -1e-9
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    if name not in ORDERED:
        torch.testing.assert_close(case.loss(z1[order], z2[order], labels[order], prototypes), expected)
    if case.rotation:
        turn = torch.linalg.qr(normal(dim, dim, seed=seed + 3))[0]
        torch.testing.assert_close(case.loss(z1 @ turn, z2 @ turn, labels, prototypes @ turn), expected)
    if case.scale:
        scale = 0.1 + normal(n, 1, seed=seed + 4).abs()
        torch.testing.assert_close(case.loss(z1 * scale, 3 * z2, labels, prototypes), expected)


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 6),
    temperature=st.sampled_from([0.01, 0.07, 0.5]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    size=st.sampled_from([1e-3, 1.0, 100.0]),
    seed=st.integers(0, 10**6),
)
def test_softmax_losses_are_stable(n: int, temperature: float, dtype: torch.dtype, size: float, seed: int) -> None:
    a = (size * normal(n, 16, seed=seed)).to(dtype).requires_grad_()
    b = (size * normal(n, 16, seed=seed + 1)).to(dtype)
    labels = torch.arange(n) // 2
    for loss in (
        losses.nt_xent(a, b, temperature),
        losses.nt_xent(a, a.detach(), temperature),
        losses.info_nce(a, b, None, temperature),
        losses.debiased_nt_xent(a, b, temperature, 0.1),
        losses.nt_logistic(a, b, temperature),
        losses.supervised_contrastive(a, labels, temperature),
        losses.soft_nearest_neighbor(a, labels, temperature),
    ):
        assert loss.isfinite()
        assert torch.autograd.grad(loss, a)[0].isfinite().all()


def test_losses_refuse_what_has_no_meaning() -> None:
    z = normal(3, 4)
    with pytest.raises(ValueError, match="temperature is 0"):
        losses.info_nce(z, z, temperature=0.0)
    with pytest.raises(ValueError, match="mining 'easy'"):
        losses.margin_triplet(z, z, mining="easy")  # type: ignore[arg-type]
