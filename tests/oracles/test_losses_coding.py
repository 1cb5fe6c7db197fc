"""The coding rate and EMP-SSL's objective against their equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from unlabeled import losses

RANDOM = np.random.default_rng(0)
PATCHES = RANDOM.normal(size=(3, 7, 4))


@pytest.mark.parametrize("n", [3, 7])
def test_multi_patch_is_its_equation(n: int) -> None:
    units = [z[:n] / np.linalg.norm(z[:n], axis=1, keepdims=True) for z in PATCHES]
    mean, rank = sum(units) / 3, min(n, 4)
    total = 0.0
    for z in units:
        inside = np.eye(4) + 4 / (n * 0.3) * sum(np.outer(v, v) for v in z)
        rate = np.log(np.linalg.eigvalsh(inside)).sum() / 2
        assert float(losses.coding_rate(torch.from_numpy(z), 0.3)) == pytest.approx(rate)
        cosines = [v @ m / math.sqrt(m @ m) for v, m in zip(z, mean, strict=True)]
        total += rank / 2 * math.log(1 + 4 / (rank * 0.3)) - rate + 50 * (1 - np.mean(cosines))
    found = losses.multi_patch(torch.from_numpy(PATCHES[:, :n]), 50, 0.3)
    assert float(found) == pytest.approx(total / 3)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_the_best_is_zero(n: int) -> None:
    """Patches that agree, of images as far apart as four dimensions allow."""
    z = torch.eye(4).double().repeat(2, 1)[:n].expand(3, n, 4)
    assert float(losses.multi_patch(z)) == pytest.approx(0, abs=1e-9)
    same = torch.ones(3, n, 4).double()
    assert float(losses.multi_patch(same)) > 0.5


def test_a_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="patches by images by dimensions"):
        losses.multi_patch(torch.ones(7, 4))
