"""Relative patches: where they lie, what no longer tells it, and the loss in loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.batch import Batch, DataShape
from unlabeled.errors import UserError
from unlabeled.views.policies.neighbours import Neighbours, around

from .small import RESNET, array, at, make

STILL: dict[str, Any] = {"mirror": 0.0, "colours": "keep"}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(count: int = 6, side: int = 16) -> Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=seeded())


def drawn(x: Tensor, **options: Any) -> tuple[Tensor, dict[str, Tensor]]:
    (patches,), targets = Neighbours(DataShape(9, 3, x.shape[3]), **options)({"image": x}, seeded())
    return patches, targets


def judged() -> Any:
    """In evaluation mode, but for the front, which would resize patches."""
    method: Any = make("relative-patch", RESNET, hidden=16).eval()
    method.encoder.front.train()
    return method


def test_neighbours_lie_around_the_centre_with_gaps_of_half_a_patch() -> None:
    """Their edges do not go on: the gap is 12 px, less or more by what each is moved, 2 px."""
    side = 104
    column = torch.arange(side, dtype=torch.uint8).expand(side, side)
    x = torch.stack([column, column.T, 0 * column]).expand(300, -1, -1, -1)
    patches, targets = drawn(x, **STILL, patch=24)
    assert targets["position"].tolist() == [list(range(8))] * 300
    grid = around(patches[:, 0], patches[:, 1:]).view(300, 3, 3, 3, 24, 24) * 255
    left, top = grid[:, :, :, 0, 0, 0], grid[:, :, :, 1, 0, 0]  # (300, 3, 3) first column and row
    for gaps in (left.diff(dim=2) - 24, top.diff(dim=1) - 24):
        assert sorted({round(float(g)) for g in gaps.flatten()}) == list(range(8, 17))
        assert float(gaps.mean()) == pytest.approx(12, abs=0.2)
    corner = left[:, 0, 0]
    assert float(corner.min()) < 2 < float(corner.max()), "the grid lies anywhere"


@pytest.mark.parametrize(("size", "side"), [(16, 4), (32, 7), (64, 15), (96, 22)])
def test_patches_are_the_largest_that_fit(size: int, side: int) -> None:
    made = Neighbours(DataShape(9, 3, size))
    assert made.patch == side
    assert made.span(side) <= size < made.span(side + 1)


def test_of_dropped_colours_nothing_is_left() -> None:
    """What a lens does to one colour beside another cannot be seen where there is but one."""
    patches, _ = drawn(noise(50), colours="drop", mirror=0.0)
    deviations = patches.std((3, 4))  # (50, 9, 3)
    assert torch.equal((deviations > 0.1).sum(2), torch.ones(50, 9, dtype=torch.int64)), "one stays"
    kept = deviations.argmax(2)
    assert sorted(torch.bincount(kept.flatten()).tolist())[0] > 100, "each as often"
    fallen = patches[kept[..., None] != torch.arange(3)]
    assert float(fallen.mean()) == pytest.approx(0.5, abs=1e-3)
    share = deviations.sort(2).values[:, :, :2] / deviations.amax(2, keepdim=True)
    assert float(share.mean()) == pytest.approx(0.01, rel=0.1)


def test_projected_colours_know_nothing_of_green_against_magenta() -> None:
    x = torch.randint(90, 160, (20, 3, 16, 16), dtype=torch.uint8, generator=seeded())  # none of which leaves [0, 1]
    plain, projected = drawn(x, **STILL)[0], drawn(x, colours="project", mirror=0.0)[0]
    away = np.array([-1.0, 2.0, -1.0])
    matrix = np.eye(3) - np.outer(away, away) / (away @ away)
    expected = np.einsum("ij,bpjhw->bpihw", matrix, array(plain))
    np.testing.assert_allclose(array(projected), expected, atol=1e-6)
    assert np.abs(np.einsum("j,bpjhw->bphw", away, array(projected))).max() < 1e-6


def test_colours_stay_where_there_are_none_to_drop() -> None:
    grey = Neighbours(DataShape(9, 1, 16))
    stained = Neighbours(DataShape(9, 3, 16, invariances=frozenset()))
    assert (grey.colours, stained.colours, Neighbours(DataShape(9, 3, 16)).colours) == ("keep", "keep", "drop")


def test_the_loss_is_the_mean_over_pairs() -> None:
    method = judged()
    patches, targets = drawn(noise())
    loss = method(Batch([patches], torch.arange(6), targets), at())
    layers = [(array(layer.weight), array(layer.bias)) for layer in method.classifier[::2]]
    costs, right = [], []
    for i in range(6):
        h = [array(method.encoder(patches[i, j][None]))[0] for j in range(9)]
        for place in range(8):
            z = np.concatenate([h[0], h[1 + place]])
            for weight, bias in layers[:-1]:
                z = np.maximum(weight @ z + bias, 0)
            logits = layers[-1][0] @ z + layers[-1][1]
            costs.append(np.log(np.exp(logits).sum()) - logits[place])
            right.append(logits.argmax() == place)
    assert float(loss.total.detach()) == pytest.approx(np.mean(costs), rel=1e-5)
    assert float(loss.terms["accuracy"]) == pytest.approx(np.mean(right))


def test_right_predictions_lay_the_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    method = judged()
    patches, targets = drawn(noise(2), **STILL)
    monkeypatch.setattr(method, "logits", lambda _: 9.0 * torch.eye(8).roll(1, 1).expand(2, 8, 8))
    shown = method.pictures(Batch([patches], torch.arange(2), targets), at())
    assert torch.equal(shown["predicted"][:, 1], patches[:, 1]), "the first neighbour is said to lie in the second place"
    assert torch.equal(shown["true"][:, 4], shown["centre"])
    assert torch.equal(shown["true"][:, 0], patches[:, 1])


def test_what_cannot_be_is_said_with_a_remedy() -> None:
    for size, options, said in (
        (8, {}, "give --image-size 13 or more$"),
        (16, {"patch": 9}, r"--views.patch 4 or less"),
        (16, {"colours": "paint"}, "give one of drop, project, keep"),
    ):
        with pytest.raises(UserError, match=said):
            Neighbours(DataShape(9, 3, size), **options)
    with pytest.raises(UserError, match="--views neighbours"):
        judged().check([noise()], {})
