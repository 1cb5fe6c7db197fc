"""AMDIM: its loss in loops, its regularisers, its scales and directions, and pieces of it in two processes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from unlabeled.losses import clipped_infomax

from .small import array, at, images, make


def loops(g: np.ndarray, p: np.ndarray, clip: float, penalty: float) -> float:
    n, places, dim = p.shape
    costs, squares = [], []
    for i in range(n):
        scores = np.array([[g[i] @ p[j, m] / math.sqrt(dim) for m in range(places)] for j in range(n)])
        squares.append((scores**2).mean())
        clipped = clip * np.tanh(scores / clip)
        others = np.exp(np.delete(clipped, i, 0)).sum()
        costs.append(np.mean([-np.log(np.exp(s) / (np.exp(s) + others)) for s in clipped[i]]))
    return float(np.mean(costs) + penalty * np.mean(squares))


@pytest.mark.parametrize(("clip", "penalty"), [(20.0, 0.04), (1.0, 0.0)])
def test_the_loss_is_its_equation(clip: float, penalty: float) -> None:
    draw = torch.Generator().manual_seed(0)
    g, p = (3 * torch.randn(*size, generator=draw, dtype=torch.float64) for size in ((4, 5), (4, 3, 5)))
    found = clipped_infomax(g, p, clip=clip, penalty=penalty)
    assert float(found) == pytest.approx(loops(array(g), array(p), clip, penalty), rel=1e-9)
    assert float(clipped_infomax(0 * g, p, clip=clip)) == pytest.approx(math.log(1 + 3 * 3))
    halves = [
        clipped_infomax(g[s], p[s], clip=clip, penalty=penalty, gathered=p, offset=s.start)
        for s in (slice(0, 2), slice(2, 4))
    ]
    assert float(torch.stack(halves).mean()) == pytest.approx(float(found), rel=1e-9)


def test_scores_cannot_grow_and_are_held_small() -> None:
    """The trivial way to a small loss: longer vectors. Clipped, it ends; penalised, it costs."""
    torch.manual_seed(0)
    g = torch.eye(4, dtype=torch.float64)
    p = g[:, None].expand(-1, 2, -1)
    free, bound = (clipped_infomax(1e4 * g, p, clip=clip, penalty=0.0) for clip in (1e9, 3.0))
    assert float(free) < 1e-6
    assert float(bound) == pytest.approx(math.log(1 + 6 * math.exp(-3.0)), rel=1e-6)
    assert float(clipped_infomax(1e4 * g, p)) > 1e4
    one = clipped_infomax(g[:1], p[:1])
    assert float(one) == pytest.approx(0.04 * 0.25)
    with pytest.raises(ValueError, match="clipped_infomax: clip is 0"):
        clipped_infomax(g, p, clip=0.0)


def test_three_terms_over_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    made, of = make("amdim", dim=8).eval(), images(16, 16)
    embedded: Any = made.embed(of)
    monkeypatch.setattr(torch, "randint", lambda high, size, **more: torch.zeros(size, dtype=torch.long) + (high > 1))
    loss = made.compare(embedded, at())
    one, five, seven = (
        [array(head(embedded[f"{name}{v}"] if name != "h" else embedded[f"h{v}"][:, None])) for v in (0, 1)]
        for name, head in (("h", made.whole), ("5", made.coarse), ("7", made.fine))
    )
    assert five[0].shape[1] < seven[0].shape[1]
    place = int(five[0].shape[1] > 1)
    expected = [
        np.mean([loops(source[v][:, at_place], targets[1 - v], 20.0, 0.04) for v in (0, 1)])
        for source, targets, at_place in ((one, five, 0), (one, seven, 0), (five, five, place))
    ]
    assert [float(term) for term in loss.terms.values()] == pytest.approx(expected, rel=1e-4)
    assert float(loss.total.detach()) == pytest.approx(sum(expected), rel=1e-4)


def test_views_swapped_cost_the_same() -> None:
    made, of = make("amdim", dim=8).eval(), images(16, 16)
    of.views[1] = of.views[0]
    torch.manual_seed(0)
    loss = made(of, at())
    assert float(loss.terms["1 to 5"]) < math.log(1 + 5 * 16) + 10
