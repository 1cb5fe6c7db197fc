"""Which negatives count, against loops; similarities against their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unlabeled import losses
from unlabeled.losses.mining import weigh

from .loss_cases import MININGS, normal


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(normal(*shape, seed=seed), dim=1)


def chosen(distance: list[float], own: float, mining: str, dim: int) -> list[float]:
    if mining == "all":
        return [1 / len(distance)] * len(distance)
    if mining == "distance-weighted":

        def q(d: float) -> float:
            return float(d ** (dim - 2) * (1 - d * d / 4) ** ((dim - 3) / 2))

        weights = [min(1 / q(0.5), 1 / q(d)) for d in distance]
        return [w / sum(weights) for w in weights]
    allowed = [d for d in distance if mining == "hardest" or d > own]
    return [float(bool(allowed) and d == min(allowed)) for d in distance]


@pytest.mark.parametrize("dim", [2, 3, 16])
@pytest.mark.parametrize("mining", MININGS)
def test_weights_are_the_definition(mining: str, dim: int) -> None:
    anchors, pool = unit(6, dim), unit(9, dim, seed=1)
    d, own = torch.cdist(anchors, pool), torch.linspace(0.1, 1.9, 6).double()
    negative = normal(6, 9, seed=2) > -0.8
    found = weigh(d, own, negative, mining, dim)  # type: ignore[arg-type]
    for i in range(6):
        expected = np.zeros(9)
        where = [j for j in range(9) if negative[i, j]]
        expected[where] = chosen([float(d[i, j]) for j in where], float(own[i]), mining, dim)
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-7)


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 8), dim=st.sampled_from([1, 2, 3, 128, 2048]), seed=st.integers(0, 10**6))
@pytest.mark.parametrize("mining", MININGS)
def test_rows_sum_to_one_or_zero(mining: str, m: int, dim: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    d = 2 * torch.rand(5, m, generator=generator)
    d[0] = 0
    d[1] = 2
    negative = torch.rand(5, m, generator=generator) > 0.3
    weights = weigh(d, 2 * torch.rand(5, generator=generator), negative, mining, dim)  # type: ignore[arg-type]
    assert weights.isfinite().all()
    assert not weights[~negative].any()
    for row, allowed in zip(weights.sum(1).tolist(), negative.any(1).tolist(), strict=True):
        assert row == pytest.approx(1, rel=1e-5) or (row == 0 and (not allowed or mining == "semi-hard"))


def test_distance_weighting_evens_distances_out() -> None:
    """Wu et al. 2017, §4: uniform draws crowd at √2, weighted ones spread; a histogram of random pairs shows it."""
    d = torch.cdist(unit(1, 16), unit(40_000, 16, seed=1))
    weights = weigh(d, d[:, 0], torch.ones_like(d, dtype=torch.bool), "distance-weighted", 16)
    inside = [(d > low) & (d <= low + 0.1) for low in (1.0, 1.2, 1.4, 1.6)]
    shares = torch.stack([weights[m].sum() for m in inside])
    counts = torch.stack([m.sum() for m in inside]).double()
    assert float(shares.max() / shares.min()) < 1.5
    assert float(counts.max() / counts.min()) > 4


def test_mined_triplets_are_the_triplets_of_the_mined() -> None:
    a, p, pool = unit(5, 4), unit(5, 4, seed=1), unit(9, 4, seed=2)
    nearest = torch.cdist(a, pool).argmin(1)
    expected = losses.triplet(a, p, pool[nearest], 0.3)
    torch.testing.assert_close(losses.triplet(a, p, pool, 0.3, mining="hardest"), expected)
    among = torch.zeros(5, 9, dtype=torch.bool)
    among[torch.arange(5), torch.arange(5)] = True
    for mining in ("all", "hardest", "distance-weighted"):
        found = losses.triplet(a, p, pool, 0.3, mining=mining, among=among)  # type: ignore[arg-type]
        torch.testing.assert_close(found, losses.triplet(a, p, pool[:5], 0.3))


def test_similarities_are_their_definitions() -> None:
    x, y, weight = normal(3, 4), normal(5, 4, seed=1), normal(4, 4, seed=2)
    a, b, w = x.numpy(), y.numpy(), weight.numpy()
    tables = {
        losses.cosine: lambda u, v: u @ v / math.sqrt(u @ u) / math.sqrt(v @ v),
        losses.dot: lambda u, v: sum(s * t for s, t in zip(u, v, strict=True)),
        losses.euclidean: lambda u, v: -math.sqrt(sum((s - t) ** 2 for s, t in zip(u, v, strict=True))),
        losses.manhattan: lambda u, v: -sum(abs(s - t) for s, t in zip(u, v, strict=True)),
    }
    for similarity, one in tables.items():
        np.testing.assert_allclose(similarity(x, y).numpy(), [[one(u, v) for v in b] for u in a], rtol=1e-9)
    np.testing.assert_allclose(losses.bilinear(x, y, weight).numpy(), [[u @ w @ v for v in b] for u in a], rtol=1e-9)
    found = losses.separable(x, y, lambda t: torch.tanh(t @ weight))
    np.testing.assert_allclose(found.numpy(), [[np.tanh(u @ w) @ np.tanh(v @ w) for v in b] for u in a], rtol=1e-9)


def test_similarities_have_gradients_everywhere() -> None:
    x, y = normal(3, 4).requires_grad_(), normal(3, 4, seed=1).requires_grad_()
    for similarity in (losses.cosine, losses.dot, losses.euclidean, losses.manhattan):
        assert torch.autograd.gradcheck(similarity, (x, y))
        zero = torch.zeros(2, 4, requires_grad=True)
        value = similarity(zero, zero)
        assert value.isfinite().all()
        assert torch.autograd.grad(value.sum(), zero)[0].isfinite().all()
        assert similarity(x.half(), y.half()).dtype == torch.float32
