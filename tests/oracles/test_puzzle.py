"""Jigsaw puzzles: the set of orders, where tiles come from, what no longer tells how they lie, and the loss in loops."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape
from unlabeled.errors import UserError
from unlabeled.views.policies.puzzle import Puzzle, laid, mean_distance, orders

from .small import RESNET, array, at, make

STILL: dict[str, Any] = {"mirror": 0.0, "grey": 0.0, "shift": 0.0, "permutations": 10}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(count: int = 6, side: int = 16) -> tuple[Tensor, dict[str, Tensor]]:
    """Tiles of random images, and their targets."""
    x = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=seeded())
    (tiles,), targets = Puzzle(DataShape(9, 3, side), **STILL)({"image": x}, seeded())
    return tiles, targets


def judged(**options: int) -> Any:
    """In evaluation mode, but for the front, which would resize tiles."""
    method: Any = make("jigsaw", RESNET, permutations=10, **options).eval()
    method.encoder.front.train()
    return method


def ramps(side: int) -> Tensor:
    """Red is the column, green the row."""
    column = torch.arange(side, dtype=torch.uint8)
    return torch.stack(
        [column.expand(side, side), column[:, None].expand(side, side), torch.zeros_like(column).expand(side, side)]
    )


@pytest.mark.parametrize("count", [10, 100])
def test_the_orders_are_as_far_from_each_other_as_so_many_can_be(count: int) -> None:
    """The mean distance is largest where each tile is as often in one place as in another: the bound is reached."""
    chosen = orders(count)
    assert chosen.shape == (count, 9)
    assert torch.equal(chosen.sort(1).values, torch.arange(9).expand(count, 9))
    apart = [np.sum(a != b) for i, a in enumerate(chosen.numpy()) for b in chosen.numpy()[:i]]
    assert min(apart) > 0
    assert mean_distance(chosen) == pytest.approx(np.mean(apart))
    often, rest = divmod(count, 9)
    alike = rest * often * (often + 1) / 2 + (9 - rest) * often * (often - 1) / 2  # pairs that share a place, at least
    assert np.mean(apart) == pytest.approx(9 - 9 * alike / (count * (count - 1) / 2))


def test_each_next_order_is_the_farthest_of_all() -> None:
    first = orders(12)
    everything = orders.__wrapped__(12, 1)
    assert not torch.equal(first, everything), "the seed decides"
    for n in (3, 9, 11):
        mine = [(first[n] != other).sum() for other in first[:n]]
        rivals = torch.stack([torch.randperm(9, generator=seeded(i)) for i in range(200)])
        assert sum(mine) >= int((rivals[:, None] != first[:n]).sum((1, 2)).max())


def test_a_tile_is_of_the_cell_that_the_order_names_and_stands_off_its_neighbours() -> None:
    """Edges do not go on: between neighbours lies a gap of 8 px on the average, from 0 to 16, where a tile has 24."""
    x = ramps(96).expand(200, -1, -1, -1)
    (tiles,), targets = Puzzle(DataShape(9, 3, 96), **STILL)({"image": x}, seeded())
    assert tiles.shape == (200, 9, 3, 24, 24)
    order = targets["permutation"]
    assert torch.equal(order, orders(10)[targets["order"]])
    left, top = (tiles[:, :, colour, 0, 0] * 255 for colour in (0, 1))
    assert torch.equal((left / 32).floor().long(), order % 3)
    assert torch.equal((top / 32).floor().long(), order // 3)
    lying = laid(tiles, order)[:, :, 0, 0] * 255  # (200, 9, 24), their first rows
    gaps = torch.stack([lying[:, b, 0] - lying[:, a, -1] - 1 for a, b in pairwise(range(3))])
    assert (float(gaps.min()), float(gaps.max())) == pytest.approx((0, 16), abs=1e-3)
    assert float(gaps.mean()) == pytest.approx(8, abs=0.5)


def test_colours_are_shifted_each_by_itself() -> None:
    x = ramps(96)[:1].expand(50, 3, -1, -1)  # each colour is the column
    (tiles,), _ = Puzzle(DataShape(9, 3, 96), **STILL | {"shift": 2 / 24})({"image": x}, seeded())
    first = (tiles[:, :, :, 0, 0] * 255).round()
    assert sorted({int(d) for d in (first[:, :, 0] - first[:, :, 1]).flatten()}) == [-4, -3, -2, -1, 0, 1, 2, 3, 4]


def test_brightness_tint_and_contrast_of_a_tile_tell_nothing() -> None:
    """Each tile in another light: what is predicted stays."""
    method = judged(hidden=16)
    tiles, _ = drawn()
    light = torch.rand(2, 6, 9, 3, 1, 1, generator=seeded(1))
    other = (0.5 + 0.5 * light[0]) * tiles + light[1]
    torch.testing.assert_close(method.logits(other), method.logits(tiles), atol=0.02, rtol=0)
    lit, plain = method.encoder(other[:, 0]), method.encoder(tiles[:, 0])
    assert not torch.allclose(lit, plain, atol=0.1), "without a mean and a deviation of its own it would"


def test_the_loss_is_that_of_the_paper_tile_by_tile() -> None:
    method = judged(dim=8, hidden=16)
    tiles, targets = drawn()
    loss = method(Batch([tiles], torch.arange(6), targets), at())
    weights = [array(p) for layer in (method.of_tile, method.of_tiles[0], method.of_tiles[2]) for p in layer.parameters()]
    w6, b6, w7, b7, w8, b8 = weights
    costs, right = [], []
    for i in range(6):
        known = []
        for j in range(9):
            tile = array(tiles[i, j])
            mean, deviation = tile.mean((1, 2), keepdims=True), tile.std((1, 2), keepdims=True)
            seen = torch.from_numpy((tile - mean) / (deviation + 1e-3)).float()
            h = array(method.encoder(seen[None]))[0]  # the front of these tests leaves pixels as they are
            known.append(np.maximum(w6 @ h + b6, 0))
        logits = w8 @ np.maximum(w7 @ np.concatenate(known) + b7, 0) + b8
        order = int(targets["order"][i])
        costs.append(np.log(np.exp(logits).sum()) - logits[order])
        right.append(logits.argmax() == order)
    assert float(loss.total.detach()) == pytest.approx(np.mean(costs), rel=1e-4)
    assert float(loss.terms["accuracy"]) == pytest.approx(np.mean(right))


def test_a_right_prediction_lays_the_picture() -> None:
    method: Any = make("jigsaw", permutations=10, hidden=16)
    tiles, targets = drawn(1)
    last: nn.Linear = method.of_tiles[-1]
    nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(10.0 * (torch.arange(10) == targets["order"][0]))
    shown = method.pictures(Batch([tiles], torch.arange(1), targets), at())
    assert list(shown) == ["shuffled", "predicted", "true"]
    assert torch.equal(shown["predicted"], shown["true"])
    assert torch.equal(shown["shuffled"][0], shown["true"][0, targets["permutation"][0]])


def test_what_cannot_be_is_said_with_a_remedy() -> None:
    for size, options, said in (
        (8, {}, "give --image-size 12 or more"),
        (16, {"tile": 6}, r"--views.tile 5 or less"),
        (16, {"permutations": 400_000}, "from 2 to 362,880"),
        (16, {"permutations": 1}, "from 2 to"),
    ):
        with pytest.raises(UserError, match=said):
            Puzzle(DataShape(9, 3, size), **STILL | options)
    method = make("jigsaw", permutations=12, hidden=16)
    tiles, targets = drawn()
    with pytest.raises(UserError, match=r"--method.permutations 10 --views.permutations 10"):
        method.check([tiles], targets)
    with pytest.raises(UserError, match="--views puzzle"):
        method.check([tiles[:, 0]], {})
