"""Counting: quarters and wholes, the loss in loops, and why nothing is no solution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape
from unlabeled.errors import UserError
from unlabeled.views.policies.quarters import WAYS, Quarters

from .small import RESNET, array, at, learn, make

STILL: dict[str, Any] = {"scale": (1.0, 1.0), "mirror": 0.0, "grey": 0.0}


def drawn(count: int = 6, side: int = 16) -> tuple[Tensor, list[Tensor]]:
    """Noise of several grains, so that images differ, and what is made of it."""
    draw = torch.Generator().manual_seed(0)
    x = F.interpolate(torch.randint(0, 256, (count, 3, side // 2, side // 2), generator=draw).float(), scale_factor=2.0)
    x = x.to(torch.uint8)
    return x, Quarters(DataShape(9, 3, side), **STILL)({"image": x}, draw)[0]


def test_quarters_are_those_of_the_image_and_the_whole_is_half_its_side() -> None:
    x, (whole, quarters) = drawn()
    assert (whole.shape, quarters.shape) == ((6, 3, 8, 8), (6, 4, 3, 8, 8))
    for j in range(4):
        row, column = 8 * (j // 2), 8 * (j % 2)
        torch.testing.assert_close(quarters[:, j], x[:, :, row : row + 8, column : column + 8] / 255)
    torch.testing.assert_close(whole.mean((2, 3)), quarters.mean((1, 3, 4)), rtol=0, atol=0.02)


def test_no_trace_of_one_resampling_tells_the_whole_from_quarters() -> None:
    """Each image is scaled down in one of three ways, each as often; all keep means, and differ from one another."""
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).mul(255).to(torch.uint8).expand(300, -1, -1, -1)
    (whole, _), _ = Quarters(DataShape(9, 3, 16), **STILL)({"image": x}, torch.Generator().manual_seed(0))
    ways = torch.stack([shrunk(x[:1] / 255).clamp(0, 1)[0] for shrunk in WAYS])
    near = (whole[:, None] - ways).abs().amax((2, 3, 4)) < 1e-5
    assert torch.equal(near.sum(1), torch.ones(300, dtype=torch.int64))
    assert int(near.sum(0).min()) > 70


def test_most_images_lose_their_colour() -> None:
    made = Quarters(DataShape(9, 3, 16))
    x = torch.randint(0, 256, (200, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (whole, _), _ = made({"image": x}, torch.Generator().manual_seed(0))
    grey = (whole.amax(1) - whole.amin(1)).amax((1, 2)) < 1e-5
    assert float(grey.float().mean()) == pytest.approx(0.67, abs=0.08)


def test_the_loss_is_that_of_the_paper() -> None:
    method: Any = make("counting", RESNET, counters=20).eval()
    method.encoder.front.train()
    _, (whole, quarters) = drawn()
    weight, bias = array(method.projector[0].weight), array(method.projector[0].bias)

    def phi(x: Tensor) -> np.ndarray:
        counts: np.ndarray = np.maximum(weight @ array(method.encoder(x[None]))[0] + bias, 0)
        return counts

    costs, right = [], []
    for i in range(6):
        total = sum(phi(quarters[i, j]) for j in range(4))
        own, other = (np.sum((phi(whole[k]) - total) ** 2) for k in (i, (i + 1) % 6))
        costs.append(own + max(0.0, 10 - other))
        right.append(own < other)
    loss = method(Batch([whole, quarters], torch.arange(6)), at())
    assert float(loss.total.detach()) == pytest.approx(np.mean(costs), rel=1e-4)
    assert float(loss.terms["accuracy"]) == pytest.approx(np.mean(right))


def test_to_count_nothing_is_no_solution() -> None:
    """φ = 0 costs M, and so does the same for every image, which must be 0: c = 4 c. To tell images apart costs less, and is
    what is learned; with hardly a margin, the counts vanish."""
    _, views = drawn(8)
    batch = Batch(views, torch.arange(8))
    left = {}
    for margin in (10.0, 1e-3):
        method: Any = make("counting", RESNET, counters=20, margin=margin)
        for step in range(30):
            learn(method, batch, at(step), lr=0.01)
        loss = method(batch, at())
        left[margin] = float(loss.memory["z"].norm(dim=1).mean())
        if margin == 10:
            assert float(loss.total.detach()) < 6
            assert float(loss.terms["apart"]) > 2 * float(loss.terms["own"])
        with torch.no_grad():
            for p in method.projector.parameters():
                p.zero_()
        assert float(method(batch, at()).total.detach()) == pytest.approx(margin)
    assert left[1e-3] < 0.6 < 1.5 < left[10.0]


def test_pictures_hold_the_same_counts_where_they_sum() -> None:
    method: Any = make("counting", RESNET, counters=20)
    _, (whole, quarters) = drawn(2)
    with torch.no_grad():
        shown = method.pictures(Batch([whole, quarters], torch.arange(2)), at())
    assert list(shown) == ["whole", "quarters", "counts, sums"]
    bars = shown["counts, sums"]
    assert bars.shape == (2, 1, 8, 8)
    assert torch.equal(bars[:, :, :4].amax(2), bars[:, :, 0])
    assert float(bars.amax()) == 1


def test_what_cannot_be_is_said_with_a_remedy() -> None:
    with pytest.raises(UserError, match="give --image-size 8 or more"):
        Quarters(DataShape(9, 3, 7))
    method: Any = make("counting", RESNET, counters=20).eval()
    method.encoder.front.train()
    _, views = drawn(1)
    with pytest.raises(UserError, match="--batch-size 2 or more"):
        method(Batch(views, torch.arange(1)), at())
    with pytest.raises(UserError, match="give more images"):
        type(method)(method.encoder, DataShape(1, 3, 16))
    with pytest.raises(UserError, match="--views quarters"):
        method.check([views[0], views[0]], {})
