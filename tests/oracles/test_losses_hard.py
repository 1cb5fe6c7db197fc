"""NT-Xent and what makes its negatives better: against loops over the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unlabeled import losses

from .loss_cases import normal
from .test_losses_equations import Z1, Z2, A, Array, B, close, two_views, unit


@pytest.mark.parametrize("hardness", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("temperature", [0.2, 0.5])
def test_debiased_nt_xent(temperature: float, tau_plus: float, hardness: float) -> None:
    total = 0.0
    for _, _, own, others in two_views():
        p, n = math.exp(own / temperature), [math.exp(s / temperature) for s in others]
        w = [x**hardness for x in n]
        near = sum(a * b for a, b in zip(w, n, strict=True)) / sum(w)
        g = max((near - tau_plus * p) / (1 - tau_plus), math.exp(-1 / temperature))
        total -= math.log(p / (p + len(n) * g))
    close(losses.debiased_nt_xent(Z1, Z2, temperature, tau_plus, hardness), total / 14)
    if tau_plus == hardness == 0:
        close(losses.nt_xent(Z1, Z2, temperature), total / 14)
    same = torch.ones(7, 4).double()
    close(losses.debiased_nt_xent(same, same, temperature, tau_plus, hardness), math.log(13))


def test_nt_xent_without_normalisation() -> None:
    z, total = np.concatenate([A, B]), 0.0
    for i in range(14):
        total -= z[i] @ z[(i + 7) % 14] / 0.7 - math.log(sum(math.exp(z[i] @ z[k] / 0.7) for k in range(14) if k != i))
    close(losses.nt_xent(Z1, Z2, 0.7, normalize=False), total / 14)


def test_info_nce_with_further_negatives() -> None:
    further, total = normal(7, 3, 4, seed=9), 0.0
    q, k = unit(A), unit(B)
    for i in range(7):
        scores = [*(q[i] @ k[j] / 0.3 for j in range(7)), *(float(q[i] @ h) / 0.3 for h in further[i].numpy())]
        total -= scores[i] - math.log(sum(map(math.exp, scores)))
    close(losses.info_nce(Z1, Z2, temperature=0.3, further=further), total / 7)


def test_mixed_negatives_lie_between_the_hardest_keys_and_the_query() -> None:
    keys, n = normal(20, 4, seed=3), 5
    made = losses.mixed_negatives(Z1, keys, n, 30, 40, torch.Generator().manual_seed(0)).numpy()
    assert made.shape == (7, 70, 4)
    q, k = unit(A), unit(keys.numpy())
    seen = set()
    for i in range(7):
        hardest = sorted(range(20), key=lambda j: -float(q[i] @ k[j]))[:n]
        for place, point in enumerate(made[i]):
            assert np.linalg.norm(point) == pytest.approx(1)
            ends = [(a, b) for a in hardest for b in hardest] if place < 30 else [(None, b) for b in hardest]
            shares = [mixture(point, q[i] if a is None else k[a], k[b]) for a, b in ends]
            fitting = [(a, b, s) for (a, b), s in zip(ends, shares, strict=True) if s is not None]
            assert fitting, "it is on no arc between two of the hardest keys, or between one and the query"
            assert place < 30 or any(0 <= s <= 0.5 for _, _, s in fitting), "less than half of it is the query"
            seen |= {b for _, b, _ in fitting}
            if place >= 30:
                assert q[i] @ point > max(q[i] @ k[b] for _, b, _ in fitting) - 1e-9, "it is harder than its key"
    assert len(seen) > n


def mixture(point: Array, a: Array, b: Array) -> float | None:
    """The share s in [0, 1] for which `point` is s a + (1 - s) b, up to its length; None if there is none."""
    if np.allclose(a, b):
        return 0.0 if np.allclose(point, a) else None
    (u, v), residue, *_ = np.linalg.lstsq(np.stack([a, b], 1), point, rcond=None)
    return u / (u + v) if u >= -1e-9 and v >= -1e-9 and residue.sum() < 1e-18 else None
