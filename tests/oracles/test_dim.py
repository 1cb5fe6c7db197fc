"""Deep InfoMax: its loss in loops and in processes, its places, its refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.losses import local_infomax
from unlabeled.registry import Choice, build

from .loss_cases import normal

AT = Progress(0, 1, 0)


def method(encoder: str = "resnet10t", size: int = 16, **options: Any) -> Any:
    torch.manual_seed(0)
    given = {"width": 4} if encoder.startswith("resnet") else {"embed_dim": 16, "depth": 2, "num_heads": 2}
    built = build_encoder(Choice(encoder, given), 3, size, torch.zeros(3), torch.ones(3))
    return build("methods", Choice("dim", {"dim": 8, "hidden": 16, **options}), built, DataShape(9, 3, size))


def loops(whole: np.ndarray, parts: np.ndarray) -> float:
    n, places = parts.shape[:2]
    costs = []
    for i in range(n):
        for place in range(places):
            own = whole[i] @ parts[i, place]
            others = sum(np.exp(whole[i] @ parts[j, m] - own) for j in range(n) if j != i for m in range(places))
            costs.append(np.log(1 + others))
    return float(np.mean(costs))


def test_the_loss_is_the_papers() -> None:
    whole, parts = normal(5, 4), normal(5, 3, 4, seed=1)
    expected = loops(whole.numpy(), parts.numpy())
    assert float(local_infomax(whole, parts)) == pytest.approx(expected, rel=1e-10)
    assert float(local_infomax(whole, parts, reduction="none")[2]) != pytest.approx(expected)
    assert float(local_infomax(whole * 0, parts)) == pytest.approx(math.log(1 + 4 * 3))
    assert float(local_infomax(whole[:1], parts[:1])) == 0


def test_the_places_of_an_image_are_not_negatives_of_each_other() -> None:
    whole = torch.eye(4, dtype=torch.float64) * 200
    parts = torch.eye(4, dtype=torch.float64)[:, None].expand(4, 7, 4)
    assert float(local_infomax(whole, parts)) < 1e-30


@pytest.mark.parametrize("processes", [2, 4])
def test_gathered_parts_give_the_loss_and_gradient_of_the_whole(processes: int) -> None:
    whole, parts = normal(8, 4).requires_grad_(), normal(8, 3, 4, seed=1).requires_grad_()
    size = 8 // processes
    pieces = [slice(i, i + size) for i in range(0, 8, size)]
    mean = torch.stack([local_infomax(whole[s], parts[s], gathered=parts, offset=s.start) for s in pieces]).mean()
    at_once = local_infomax(whole, parts)
    torch.testing.assert_close(mean, at_once)
    slopes = [torch.autograd.grad(value, (whole, parts), retain_graph=True) for value in (mean, at_once)]
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        (((3, 4), (3, 4)), "parts has shape"),
        (((3, 4), (3, 2, 5)), "parts has shape"),
        (((3, 4), (2, 2, 4)), "parts has shape"),
        (((3, 4), (4, 2, 4)), "as many wholes"),
        (((0, 4), (0, 2, 4)), "at least 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[tuple[int, ...], tuple[int, ...]], said: str) -> None:
    with pytest.raises(ValueError, match=f"local_infomax: .*{said}"):
        local_infomax(torch.zeros(shapes[0]), torch.zeros(shapes[1]))
    with pytest.raises(ValueError, match="offset 2"):
        local_infomax(torch.zeros(2, 3), torch.zeros(2, 1, 3), gathered=torch.zeros(3, 1, 3), offset=2)


@pytest.mark.parametrize(("stage", "side"), [(None, 4), (0, 16), (-1, 2), (2, 8)])
def test_the_objective_compares_h_with_the_places_of_one_stage(stage: int | None, side: int) -> None:
    made = method(stage=stage)
    of = Batch([torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))], torch.arange(4))
    made.train()
    loss = made(of, AT)
    h, maps = made.encoder.local(of.views[0])
    torch.testing.assert_close(h, made.encoder(of.views[0]))
    places = maps[-2 if stage is None else stage]
    assert places.shape[2:] == (side, side)
    at = [(y, x) for y in range(side) for x in range(side)]
    parts = torch.stack([torch.stack([made.part(places[i, :, y, x]) for y, x in at]) for i in range(4)])
    torch.testing.assert_close(parts.mean(2), torch.zeros(4, side * side), rtol=0, atol=1e-5)
    expected = loops(made.whole(h).detach().double().numpy(), parts.detach().double().numpy())
    assert float(loss.total.detach()) == pytest.approx(expected, rel=1e-4)
    loss.total.backward()
    assert [n for n, p in made.named_parameters() if p.grad is None] == []


def test_stages_of_a_transformer_and_a_stage_that_is_not_there() -> None:
    made = method("vit_tiny_patch16_224")
    x = torch.rand(2, 3, 16, 16)
    h, maps = made.encoder.eval().local(x)
    torch.testing.assert_close(h, made.encoder(x))
    assert [m.shape for m in maps] == [(2, 16, 8, 8)] * 2
    with pytest.raises(UserError, match=r"stage is 5, and this encoder has 5: give a --method.stage from -5 to 4"):
        method(stage=5)
    with pytest.raises(UserError, match="does not show its stages"):
        encoder = build_encoder(Choice("resnet10t", {"width": 4, "streams": "lab"}), 3, 16, torch.zeros(3), torch.ones(3))
        build("methods", Choice("dim"), encoder, DataShape(9, 3, 16))
