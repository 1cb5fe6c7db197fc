"""CPC on images: the grid, what contexts and predictions may share, and the objective in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.batch import Batch, DataShape
from unlabeled.errors import UserError
from unlabeled.methods.cpc_image import FIRST
from unlabeled.parts.masked import RowsAbove
from unlabeled.registry import Choice, build
from unlabeled.views.policies.grid import PatchGrid

from .small import array, at, make

LAYER = Choice("resnet10t", {"width": 4, "norm_layer": "groupnorm1"})
STILL: dict[str, Any] = {"scale": (1.0, 1.0), "mirror": 0.0, "grey": 0.0, "inner": 1.0}


def noise(count: int = 2, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def drawn(x: Tensor, name: str = "patch-grid", **options: Any) -> Tensor:
    made = build("views", Choice(name, {**STILL, **options}), DataShape(9, 3, x.shape[3]))
    patches: Tensor = made({"image": x}, torch.Generator().manual_seed(1))[0][0]
    return patches


def judged(name: str = "cpc-v1", **options: Any) -> Any:
    """In evaluation mode, but for the front, which would resize patches."""
    method: Any = make(name, LAYER, width=8, depth=2, negatives=40, **options).eval()
    method.encoder.front.train()
    return method


def test_patches_lie_on_a_grid_half_over_the_next() -> None:
    x = noise(side=32)
    patches = drawn(x)
    assert patches.shape == (2, 49, 3, 8, 8)
    for i in range(7):
        for j in range(7):
            expected = x[:, :, 4 * i : 4 * i + 8, 4 * j : 4 * j + 8] / 255
            torch.testing.assert_close(patches[:, 7 * i + j], expected, rtol=0, atol=1e-6)


def test_what_is_predicted_shares_no_pixel_with_what_the_context_has_seen() -> None:
    """Neighbouring rows do: by their edges alone they would be told."""
    row = torch.arange(32, dtype=torch.uint8)[:, None].expand(1, 3, 32, 32)
    rows = (drawn(row) * 255).round().view(7, 7, 3, 8, 8)
    for i in range(7 - FIRST):
        assert float(rows[: i + 1].max()) < float(rows[i + FIRST :].min())
        assert float(rows[i].max()) > float(rows[i + 1].min())
    context = RowsAbove(6, 5, 2)
    z = torch.randn(1, 6, 7, 7, generator=torch.Generator().manual_seed(0))
    other = z.clone()
    other[:, :, 4:] = 9
    assert torch.equal(context(z)[:, :, :4], context(other)[:, :, :4]), "rows below are masked"
    assert not torch.allclose(context(z)[:, :, 4], context(other)[:, :, 4])
    other = z.clone()
    other[:, :, 1, 3] += 1
    moved = (context(z) != context(other)).any(1)[0].nonzero()
    assert (moved.amin(0).tolist(), moved.amax(0).tolist()) == ([1, 1], [3, 5]), "two blocks see two rows up"


def test_the_second_form_changes_each_patch_by_itself() -> None:
    patches = drawn(noise(8), "patch-grid-v2")
    shown = patches.std((3, 4)) > 0.1
    assert torch.equal(shown.sum(2), torch.ones(8, 49, dtype=torch.int64)), "one colour stays"
    plain, flipped = (drawn(noise(8), drop=0.0, flip=flip) for flip in (0.0, 0.5))
    mirrored = (flipped == plain.flip(4)).flatten(2).all(2)
    assert torch.equal(mirrored, (flipped != plain).flatten(2).any(2))
    assert 0.4 < float(mirrored.float().mean()) < 0.6
    inner = drawn(noise(8, 64), inner=60 / 64) > 0
    assert torch.equal(inner.any(2).sum((2, 3)), torch.full((8, 49), 15 * 15)), "black stands around 15 of 16 px"


def test_no_batch_norm_tells_the_patches_of_an_image() -> None:
    method = judged("cpc-v2")
    assert not any(isinstance(m, torch.nn.modules.batchnorm._BatchNorm) for m in method.modules())
    patches = drawn(noise()).flatten(0, 1)
    assert "--encoder.norm_layer groupnorm1" in make("cpc-v1").encoder.notes[-1], "where there are some, it is said"
    torch.testing.assert_close(method.encoder(patches)[:3], method.encoder(patches[:3]), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("name", "directions"), [("cpc-v1", 1), ("cpc-v2", 4)])
def test_the_loss_is_info_nce_of_what_comes_two_to_six_rows_later(name: str, directions: int) -> None:
    method = judged(name, **{"dim": 8} if directions > 1 else {})
    patches = drawn(noise())
    h = array(method.encoder(patches.flatten(0, 1))).reshape(2, 7, 7, -1)
    chosen = (torch.rand(40, generator=at().generator()) * 2 * 49).long().tolist()
    costs, right = [], []
    for direction in range(directions):
        grid = np.rot90(h, direction * (4 // directions), (1, 2)).copy()
        context = array(method.contexts[direction](torch.from_numpy(grid).float().permute(0, 3, 1, 2)))
        z = grid @ array(method.target.weight).T + array(method.target.bias) if directions > 1 else grid
        every = {(b * 7 + column) * 7 + row: z[b, row, column] for b in range(2) for column in range(7) for row in range(7)}
        matrices = 0.1 * array(method.ahead[direction].weight).reshape(5, -1, h.shape[3])
        for b in range(2):
            for column in range(7):
                for k in range(2, 7):
                    for row in range(7 - k):
                        predicted = matrices[k - 2] @ context[b, :, row, column]
                        positive = predicted @ z[b, row + k, column]
                        own = (b * 7 + column) * 7 + row + k
                        scores = np.array([predicted @ every[n] for n in chosen if n != own])
                        costs.append(np.log(np.exp(positive) + np.exp(scores).sum()) - positive)
                        right.append(positive > scores.max())
    loss = method(Batch([patches], torch.arange(2)), at())
    assert float(loss.total.detach()) == pytest.approx(np.mean(costs), rel=1e-4)
    assert float(loss.terms["accuracy"]) == pytest.approx(np.mean(right), abs=0.01)


def test_pictures_show_the_patches_that_are_most_like_the_predictions() -> None:
    method = judged()
    patches = drawn(noise())
    shown = method.pictures(Batch([patches], torch.arange(2)), at())
    above, predicted, true = (shown[name] for name in ("above", "predicted", "true"))
    assert torch.equal(above[:, :21], true[:, :21])
    assert torch.equal(above[:, 21:], torch.full_like(true[:, 21:], 0.5))
    assert torch.equal(predicted[:, :28], above[:, :28]), "the next row is not predicted"
    pool = {tuple(p.flatten().tolist()) for p in patches.flatten(0, 1)}
    assert all(tuple(p.flatten().tolist()) in pool for p in predicted[:, 28:].flatten(0, 1))


def test_what_cannot_be_is_said_with_a_remedy() -> None:
    with pytest.raises(UserError, match="give --image-size 16 or more"):
        PatchGrid(DataShape(9, 3, 15))
    with pytest.raises(UserError, match="--views patch-grid"):
        judged().check([drawn(noise())[:, :9]], {})
