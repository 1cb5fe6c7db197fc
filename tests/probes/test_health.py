"""Closed forms of the label-free measures, and verdicts on trained, untrained and collapsed embeddings."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unlabeled.probes.health import Look, collapse, effective_rank, fewest_dimensions, look, std_ratio


def gaussian(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def judge(z: Tensor, classes: int = 0, untrained: Look | None = None) -> str | None:
    """As `kind: seen`."""
    found = collapse("z", look(z), untrained, fewest_dimensions(min(z.shape), classes))
    return found and f"{found.kind}: {found.seen}"


@pytest.mark.parametrize("d", [2, 16, 128])
def test_isotropic_gaussian(d: int) -> None:
    z = gaussian(20000, d)
    assert std_ratio(z) == pytest.approx(1, abs=0.02)
    assert effective_rank(z) == pytest.approx(d, rel=0.02)
    assert judge(z) is None


@pytest.mark.parametrize("z", [torch.ones(64, 32), torch.zeros(64, 32), 1000 + torch.zeros(64, 32) + torch.arange(32) / 7])
def test_constant(z: Tensor) -> None:
    assert std_ratio(z) == pytest.approx(0, abs=1e-5)
    assert effective_rank(z) == 1
    assert "complete collapse" in str(judge(z))


@pytest.mark.parametrize("r", [1, 2, 7])
def test_rank_r(r: int) -> None:
    z = gaussian(500, r) @ gaussian(r, 64, seed=1)
    assert r * 0.6 < effective_rank(z) <= r + 1e-3


def test_equal_singular_values_count_fully_and_unequal_ones_by_their_entropy() -> None:
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])  # centred, orthogonal columns
    assert effective_rank(signs) == pytest.approx(2)
    share = np.array([3, 1]) / 4
    assert effective_rank(signs * torch.tensor([3.0, 1.0])) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_std_ratio_in_a_loop() -> None:
    z = gaussian(50, 6) + 1
    unit = [row / np.linalg.norm(row) for row in z.double().numpy()]
    spread = [np.sqrt(np.mean([(u[j] - np.mean([v[j] for v in unit])) ** 2 for u in unit])) for j in range(6)]
    assert std_ratio(z) == pytest.approx(np.mean(spread) / (1 / math.sqrt(6)), rel=1e-5)


def test_lengths_do_not_change_the_spread_nor_an_offset_the_rank() -> None:
    z = gaussian(300, 20)
    assert std_ratio(z * torch.rand(300, 1).add(0.1)) == pytest.approx(std_ratio(z), rel=1e-5)
    assert effective_rank(z + 5) == pytest.approx(effective_rank(z), rel=1e-4)
    assert effective_rank(z * 3) == pytest.approx(effective_rank(z), rel=1e-4)


def test_dimensional_collapse_is_named() -> None:
    z = gaussian(256, 2) @ gaussian(2, 128, seed=1)
    assert std_ratio(z) > 0.5
    assert "dimensional collapse" in str(judge(z))
    assert "dimensions of 128" in str(judge(z))
    alone = gaussian(256, 1) @ gaussian(1, 128, seed=1) + gaussian(1, 128, seed=2)
    assert judge(alone) == "dimensional collapse: the embedding z has rank 1 of 128"
    before = look(gaussian(256, 128))
    assert str(judge(alone, untrained=before)).endswith(f"has rank 1 of 128, untrained {before.rank:.1f}")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_named(value: float) -> None:
    z = gaussian(64, 8)
    z[3, 4] = value
    assert judge(z) == "complete collapse: the embedding z holds numbers that are not finite"


def test_a_small_spread_that_was_there_before_is_no_collapse() -> None:
    """An untrained network whose biases outweigh what they are added to; one point is one whatever was before."""
    z = gaussian(500, 64) + 20
    assert look(z).spread < 0.1
    assert "complete collapse: all images get nearly the same embedding z (spread 0.0" in str(judge(z))
    assert judge(z, untrained=look(z)) is None
    assert judge(z, untrained=look(2 * z)) is None
    assert "untrained 0.9" in str(judge(z, untrained=look(gaussian(500, 64))))
    assert "complete collapse" in str(judge(z + 1e5, untrained=look(z + 1e5)))


def test_ten_tight_clusters_are_healthy() -> None:
    """What a good encoder of ten classes may give."""
    z = gaussian(10, 128)[torch.arange(500) % 10] + 0.05 * gaussian(500, 128, seed=1)
    assert judge(z) is None


def test_classes_that_were_told_may_fall_on_points() -> None:
    """Three classes use two dimensions of 128; one point is a collapse all the same."""
    z = gaussian(3, 128)[torch.arange(500) % 3] + 0.001 * gaussian(500, 128, seed=1)
    assert "dimensional collapse" in str(judge(z))
    assert judge(z, classes=3) is None
    assert "dimensional collapse" in str(judge(z, classes=10))
    assert "complete collapse" in str(judge(z + 1e3, classes=3))


def trained(contrast: bool) -> Tensor:
    """The embedding after 60 steps that pull two noisy views together; with contrast, also push the others apart."""
    g = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32))
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    x = torch.randn(128, 16, generator=g)
    for _ in range(60):
        a, b = (F.normalize(net(x + 0.1 * torch.randn(x.shape, generator=g)), dim=1) for _ in range(2))
        loss = F.cross_entropy(a @ b.T / 0.2, torch.arange(128)) if contrast else -(a * b).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net(x).detach()


def test_an_injected_collapse_is_named_and_its_healthy_twin_is_not_accused() -> None:
    assert judge(trained(contrast=True)) is None
    assert "collapse" in str(judge(trained(contrast=False)))
