"""InfoNCE and NT-Xent against loops over the papers' equations, closed forms and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.losses import info_nce, nt_xent, tiles


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def nt_xent_by_loops(z1: np.ndarray, z2: np.ndarray, temperature: float) -> float:
    """SimCLR, eq. 1 and algorithm 1: views 2k-1 and 2k are neighbours."""
    z = [row for pair in zip(z1, z2, strict=True) for row in pair]
    total = 0.0
    for i in range(len(z)):
        j = i + 1 if i % 2 == 0 else i - 1
        others = sum(math.exp(cosine(z[i], z[k]) / temperature) for k in range(len(z)) if k != i)
        total -= math.log(math.exp(cosine(z[i], z[j]) / temperature) / others)
    return total / len(z)


def info_nce_by_loops(q: np.ndarray, positives: np.ndarray, candidates: list[list[np.ndarray]], temperature: float) -> float:
    """MoCo, eq. 1: `candidates` of a query hold its positive, too."""
    total = 0.0
    for query, positive, keys in zip(q, positives, candidates, strict=True):
        total -= cosine(query, positive) / temperature
        total += math.log(sum(math.exp(cosine(query, key) / temperature) for key in keys))
    return total / len(q)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numeric(loss: object, x: Tensor, step: float = 1e-2) -> Tensor:
    """Central differences; the functions compute in float32."""
    slope = torch.zeros_like(x)
    for i in np.ndindex(*x.shape):
        up, down = x.clone(), x.clone()
        up[i] += step
        down[i] -= step
        slope[i] = (loss(up).double() - loss(down).double()) / (2 * step)  # type: ignore[operator]
    return slope


@pytest.mark.parametrize(("n", "dim", "temperature"), [(1, 3, 0.5), (2, 2, 1.0), (5, 8, 0.5), (16, 4, 0.1)])
def test_nt_xent_is_the_equation(n: int, dim: int, temperature: float) -> None:
    z1, z2 = normal(n, dim), normal(n, dim, seed=1)
    assert float(nt_xent(z1, z2, temperature)) == pytest.approx(
        nt_xent_by_loops(z1.numpy(), z2.numpy(), temperature), rel=1e-5, abs=1e-6
    )


@pytest.mark.parametrize("n", [2, 7, 64])
def test_nt_xent_of_identical_embeddings_is_log_2n_minus_1(n: int) -> None:
    z = torch.ones(n, 5)
    assert float(nt_xent(z, z)) == pytest.approx(math.log(2 * n - 1), rel=1e-6)


def test_nt_xent_of_perfect_pairs() -> None:
    n, temperature = 6, 0.5
    z = torch.eye(n)  # the positive at cosine 1, 2N - 2 negatives at 0
    expected = math.log(1 + (2 * n - 2) * math.exp(-1 / temperature))
    assert float(nt_xent(z, z, temperature)) == pytest.approx(expected, rel=1e-6)


def test_nt_xent_ignores_order_rotation_and_scale() -> None:
    z1, z2 = normal(9, 6), normal(9, 6, seed=1)
    expected = float(nt_xent(z1, z2, 0.2))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(2))
    turn = torch.linalg.qr(normal(6, 6, seed=3))[0]
    scale = 0.1 + normal(9, 1, seed=4).abs()
    for a, b in [(z1[order], z2[order]), (z2, z1), (z1 @ turn, z2 @ turn), (scale * z1, 7 * z2)]:
        assert float(nt_xent(a, b, 0.2)) == pytest.approx(expected, rel=1e-5)


def test_nt_xent_of_parts_averages_to_the_whole() -> None:
    z1, z2 = normal(8, 4), normal(8, 4, seed=1)
    parts = [nt_xent(z1[i : i + 4], z2[i : i + 4], 0.5, gathered=(z1, z2), offset=i) for i in (0, 4)]
    assert float(sum(parts)) / 2 == pytest.approx(float(nt_xent(z1, z2, 0.5)), rel=1e-6)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_info_nce_with_positives_among_the_keys(temperature: float) -> None:
    q, k = normal(5, 4), normal(9, 4, seed=1)
    positive = torch.tensor([8, 0, 3, 3, 1])
    keys = list(k.numpy())
    expected = info_nce_by_loops(q.numpy(), k[positive].numpy(), [keys] * 5, temperature)
    assert float(info_nce(q, k, positive, temperature)) == pytest.approx(expected, rel=1e-5)
    first = info_nce_by_loops(q.numpy(), k[:5].numpy(), [keys] * 5, temperature)
    assert float(info_nce(q, k, None, temperature)) == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_info_nce_with_separate_positives(temperature: float) -> None:
    q, k, p = normal(5, 4), normal(9, 4, seed=1), normal(5, 4, seed=2)
    candidates = [[own, *k.numpy()] for own in p.numpy()]
    expected = info_nce_by_loops(q.numpy(), p.numpy(), candidates, temperature)
    assert float(info_nce(q, k, p, temperature)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("apart", [False, True])
def test_info_nce_leaves_the_excluded_key_out(apart: bool) -> None:
    q, k, p = normal(4, 3), normal(6, 3, seed=1), normal(4, 3, seed=2)
    positive, exclude = torch.tensor([1, 2, 3, 4]), torch.tensor([0, 0, 5, 2])
    rest = [[key for j, key in enumerate(k.numpy()) if j != int(e)] for e in exclude]
    if apart:
        rest = [[own, *keys] for own, keys in zip(p.numpy(), rest, strict=True)]
    targets = p if apart else k[positive]
    expected = info_nce_by_loops(q.numpy(), targets.numpy(), rest, 0.5)
    assert float(info_nce(q, k, p if apart else positive, 0.5, exclude)) == pytest.approx(expected, rel=1e-5)


def test_info_nce_closed_forms() -> None:
    same = torch.ones(3, 4)
    assert float(info_nce(same, torch.ones(10, 4))) == pytest.approx(math.log(10), rel=1e-6)
    assert float(info_nce(same, torch.ones(10, 4), same)) == pytest.approx(math.log(11), rel=1e-6)
    assert float(info_nce(torch.eye(4), torch.eye(4), None, 0.5)) == pytest.approx(math.log(1 + 3 * math.exp(-2)), rel=1e-6)


def test_gradients_are_finite_differences() -> None:
    z1, z2, p = (normal(3, 4, seed=s) for s in range(3))
    cases = {
        "nt_xent": lambda x: nt_xent(x, z2, 0.5),
        "second view": lambda x: nt_xent(z1, x, 0.5),
        "query": lambda x: info_nce(x, z2, p, 0.5),
        "keys": lambda x: info_nce(z1, x, p, 0.5, torch.tensor([0, 2, 1])),
        "positive": lambda x: info_nce(z1, z2, x, 0.5),
    }
    for name, loss in cases.items():
        x = normal(3, 4, seed=5).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(x), x)
        torch.testing.assert_close(gradient, numeric(loss, x.detach()), rtol=2e-2, atol=2e-4, msg=name)


@pytest.mark.parametrize("tile", [1, 10, 37])
def test_tiles_change_nothing(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    z1, z2, p = (normal(7, 4, seed=s).float().requires_grad_() for s in range(3))
    cases = [
        lambda: nt_xent(z1, z2, 0.2),
        lambda: info_nce(z1, z2, p, 0.2),
        lambda: info_nce(z1, torch.cat([z2, p]), torch.arange(7).flip(0), 0.2, exclude=torch.arange(7) + 7),
    ]
    for case in cases:
        plain = torch.autograd.grad(case(), (z1, z2, p), allow_unused=True)
        value = float(case().detach())
        with monkeypatch.context() as patch:
            patch.setattr(tiles, "BUDGET", tile)
            tiled = torch.autograd.grad(case(), (z1, z2, p), allow_unused=True)
            assert float(case().detach()) == pytest.approx(value, rel=1e-6)
        for a, b in zip(plain, tiled, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_small_temperature_stays_finite_in_any_precision(dtype: torch.dtype) -> None:
    z1, z2 = (normal(8, 16, seed=s).to(dtype).requires_grad_() for s in range(2))
    for loss in (nt_xent(z1, z2, 0.01), nt_xent(z1, z1, 0.01), info_nce(z1, z2, z1, 0.01), info_nce(z1, z2, None, 0.01)):
        assert loss.dtype == torch.float32
        assert loss.isfinite()
        assert torch.autograd.grad(loss, z1)[0].isfinite().all()


def test_precision_does_not_follow_autocast() -> None:
    z1, z2 = normal(8, 16).float(), normal(8, 16, seed=1).float()
    expected = nt_xent(z1, z2, 0.01), info_nce(z1, z2, None, 0.01)
    with torch.autocast("cpu", torch.bfloat16):
        found = nt_xent(z1, z2, 0.01), info_nce(z1, z2, None, 0.01)
    assert found == expected


def test_degenerate_embeddings_give_a_number() -> None:
    zero, some = torch.zeros(3, 4), normal(3, 4).float()
    twice = some[[0, 0, 1]]
    for a, b in [(zero, zero), (zero, some), (some, zero), (twice, twice), (some[:1], some[:1]), (zero[:1], some[:1])]:
        x = a.clone().requires_grad_()
        for loss in (nt_xent(x, b), info_nce(x, b), info_nce(x, b, b), info_nce(x, b, b, 0.5, torch.zeros(len(x)).long())):
            assert loss.isfinite()
            assert torch.autograd.grad(loss, x)[0].isfinite().all()
