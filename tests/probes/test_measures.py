"""The label-free measures against their papers' equations in NumPy, closed forms, and what must not change them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.special import ive
from torch import Tensor

from unlabeled.probes import health


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(gaussian(d, d, seed=9)).Q


def unit(rows: Tensor) -> list[np.ndarray]:
    return [row / np.linalg.norm(row) for row in rows.double().numpy()]


A, B = gaussian(40, 6) + 1, gaussian(40, 6) + 0.5 * gaussian(40, 6, seed=1)


def test_alignment_in_a_loop() -> None:
    for alpha in (1, 2, 3):
        expected = np.mean([np.linalg.norm(u - v) ** alpha for u, v in zip(unit(A), unit(B), strict=True)])
        assert health.alignment(A, B, alpha) == pytest.approx(expected, rel=1e-5)


def test_uniformity_in_a_loop() -> None:
    u = unit(A)
    pairs = [np.exp(-2 * np.sum((u[i] - u[j]) ** 2)) for i in range(40) for j in range(i)]
    assert health.uniformity(A) == pytest.approx(math.log(np.mean(pairs)), rel=1e-5)


def test_rankme_in_a_loop() -> None:
    z = A.double().numpy()
    sigma = np.sqrt(np.linalg.eigvalsh(z.T @ z))
    p = [s / sigma.sum() + 1e-7 for s in sigma]
    assert health.rankme(A) == pytest.approx(np.exp(-sum(q * np.log(q) for q in p)), rel=1e-4)


def test_mutual_information_in_a_loop() -> None:
    u, v, tau = unit(A), unit(B), 0.2
    losses = []
    for queries, keys in ((u, v), (v, u)):
        for i, q in enumerate(queries):
            candidates = [np.exp(q @ k / tau) for k in keys]
            losses.append(-np.log(candidates[i] / sum(candidates)))
    assert health.mutual_information(A, B, tau) == pytest.approx(math.log(40) - np.mean(losses), rel=1e-4)


def test_view_variance_in_a_loop() -> None:
    u, v = unit(A), unit(B)
    same = np.mean([np.sum((u[i] - v[i]) ** 2) for i in range(40)])
    different = np.mean([np.sum((u[i] - v[j]) ** 2) for i in range(40) for j in range(40) if i != j])
    assert health.view_variance(A, B) == pytest.approx(same / different, rel=1e-5)


def test_evenly_on_the_circle() -> None:
    """The mean of exp(-t (2 - 2 cos φ)) over the circle is exp(-2t) I0(2t), the Bessel function of imaginary argument."""
    angle = torch.arange(2000) * 2 * math.pi / 2000
    z = torch.stack([angle.cos(), angle.sin()], 1)
    assert health.uniformity(z) == pytest.approx(math.log(ive(0, 4)), abs=2e-3)
    assert health.rankme(z) == pytest.approx(2)
    assert health.alignment(z, z) == 0
    assert health.alignment(z, -z) == pytest.approx(4)
    assert health.alignment(z, z.roll(500, 0)) == pytest.approx(2, rel=1e-4)


def test_all_equal() -> None:
    z = torch.ones(50, 8)
    assert health.uniformity(z) == pytest.approx(0, abs=1e-6)
    assert health.rankme(z) == pytest.approx(1, abs=1e-4)
    assert health.view_variance(z, z) == 1
    assert health.mutual_information(z, z) == pytest.approx(0, abs=1e-5)
    assert health.dead_share(z) == 1


def test_all_zero() -> None:
    z = torch.zeros(50, 8)
    assert (health.rankme(z), health.view_variance(z, z), health.dead_share(z)) == (0, 1, 1)
    assert health.uniformity(z) == 0


def test_the_information_in_views_that_name_their_image() -> None:
    z = torch.eye(32)
    assert health.mutual_information(z, z, 0.01) == pytest.approx(math.log(32), rel=1e-4)
    assert health.mutual_information(gaussian(32, 16), gaussian(32, 16, seed=1)) < 0.5


def test_dead_dimensions_are_counted_whatever_the_scale() -> None:
    z = gaussian(100, 8)
    z[:, 2], z[:, 5] = 0, 3
    for scale in (1e-3, 1, 1e3):
        assert health.dead_share(scale * z) == 0.25


def test_independent_views_know_no_image_and_equal_ones_all() -> None:
    assert health.view_variance(gaussian(2000, 8), gaussian(2000, 8, seed=1)) == pytest.approx(1, abs=0.03)
    assert health.view_variance(A, A) == pytest.approx(0, abs=1e-6)
    cone = gaussian(2000, 8) + 30, gaussian(2000, 8, seed=1) + 30
    assert health.alignment(*cone) < 0.01
    assert health.view_variance(*cone) == pytest.approx(1, abs=0.03)


def test_a_rotation_of_the_embedding_changes_nothing() -> None:
    q = rotation(6)
    for measure in (health.rankme, health.uniformity):
        assert measure(A @ q) == pytest.approx(measure(A), rel=1e-4)
    for compare in (health.alignment, health.view_variance, health.mutual_information):
        assert compare(A @ q, B @ q) == pytest.approx(compare(A, B), rel=1e-4)
        assert compare(3 * A, B / 7) == pytest.approx(compare(A, B), rel=1e-4)


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    x = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    half = health.jackknife(lambda rows: float(rows.mean()), x)
    groups = np.array([float(x[g::10].mean()) for g in range(10)])
    assert half == pytest.approx(2.262 * groups.std(ddof=1) / 10**0.5, rel=1e-3)
    assert health.jackknife(lambda rows: 1.0, x) == 0
