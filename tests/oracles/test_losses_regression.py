"""BYOL's loss against its equation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unlabeled.losses import byol

from .test_losses_infonce import normal, numeric


def test_byol_is_the_equation() -> None:
    p, t = normal(5, 4), normal(5, 4, seed=1)
    total = 0.0
    for a, b in zip(p.numpy(), t.numpy(), strict=True):
        total += float(np.square(a / np.linalg.norm(a) - b / np.linalg.norm(b)).sum())
    assert float(byol(p, t)) == pytest.approx(total / 5, rel=1e-5)


def test_byol_at_its_bounds() -> None:
    p = normal(5, 4)
    assert float(byol(p, 3 * p)) == pytest.approx(0, abs=1e-6)
    assert float(byol(p, -p)) == pytest.approx(4, rel=1e-6)
    assert float(byol(torch.eye(4), torch.eye(4).roll(1, 0))) == pytest.approx(2, rel=1e-6)


def test_byol_stops_the_gradient_of_the_target() -> None:
    p, t = normal(5, 4).requires_grad_(), normal(5, 4, seed=1).requires_grad_()
    to_p, to_t = torch.autograd.grad(byol(p, t), (p, t), allow_unused=True)
    assert to_t is None
    expected = numeric(lambda x: byol(x, t), p.detach())
    torch.testing.assert_close(to_p, expected, rtol=2e-2, atol=2e-4)


def test_byol_of_zero_vectors_is_a_number() -> None:
    zero = torch.zeros(3, 4, requires_grad=True)
    loss = byol(zero, torch.zeros(3, 4)) + byol(zero, torch.ones(3, 4))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, zero)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_byol_computes_in_float32(dtype: torch.dtype) -> None:
    p, t = 100 * normal(5, 64).to(dtype), 100 * normal(5, 64, seed=1).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        loss = byol(p, t)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(byol(p.float(), t.float())), rel=1e-6)
