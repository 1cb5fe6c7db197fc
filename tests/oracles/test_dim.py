"""Deep InfoMax: its loss in loops and in processes, its places, its refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.losses import infomax, local_infomax
from unlabeled.optim.optimizers import Optimizers
from unlabeled.recipe import compose
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


def jsd_in_loops(whole: np.ndarray, parts: np.ndarray) -> float:
    """Equation 4: -E_joint[-sp(-T)] + E_apart[sp(T)]."""
    n, places = parts.shape[:2]
    soft = lambda x: np.log(1 + np.exp(x))  # noqa: E731
    joint = [soft(-whole[i] @ parts[i, m]) for i in range(n) for m in range(places)]
    apart = [soft(whole[i] @ parts[j, m]) for i in range(n) for j in range(n) for m in range(places) if i != j]
    return float(np.mean(joint) + np.mean(apart))


def dv_in_loops(whole: np.ndarray, parts: np.ndarray) -> float:
    """Equation 3: -E_joint[T] + log E_apart[e^T]."""
    n, places = parts.shape[:2]
    joint = [whole[i] @ parts[i, m] for i in range(n) for m in range(places)]
    apart = [np.exp(whole[i] @ parts[j, m]) for i in range(n) for j in range(n) for m in range(places) if i != j]
    return float(-np.mean(joint) + np.log(np.mean(apart)))


LOOPS = {"infonce": loops, "jsd": jsd_in_loops, "dv": dv_in_loops}


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize(("estimator", "even"), [("jsd", 2 * math.log(2)), ("dv", 0.0)])
def test_the_other_estimators_are_the_papers(estimator: Any, even: float, places: int) -> None:
    whole, parts = normal(5, 4).requires_grad_(), normal(5, places, 4, seed=1).requires_grad_()
    found = local_infomax(whole, parts, estimator=estimator)
    assert float(found.detach()) == pytest.approx(
        LOOPS[estimator](whole.detach().numpy(), parts.detach().numpy()), rel=1e-10
    )
    rows = local_infomax(whole, parts, estimator=estimator, reduction="none")
    assert rows.shape == (5,)
    torch.testing.assert_close(rows.mean(), found)
    assert float(local_infomax(whole * 0, parts, estimator=estimator).detach()) == pytest.approx(even, abs=1e-12)
    alone = local_infomax(whole[:1], parts[:1], estimator=estimator).detach()
    assert alone.isfinite(), "one image has no others"


def test_more_scores_than_are_held_at_once_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = normal(7, 4).requires_grad_(), normal(7, 3, 4, seed=1).requires_grad_()
    slopes = []
    for budget in (1 << 24, 2 * 7 * 3):
        monkeypatch.setattr(infomax, "BUDGET", budget)
        value = local_infomax(whole, parts, estimator="jsd")
        slopes.append((value, *torch.autograd.grad(value, (whole, parts))))
    torch.testing.assert_close(*slopes)


def test_the_places_of_an_image_are_not_negatives_of_each_other() -> None:
    whole = torch.eye(4, dtype=torch.float64) * 200
    parts = torch.eye(4, dtype=torch.float64)[:, None].expand(4, 7, 4)
    assert float(local_infomax(whole, parts)) < 1e-30


@pytest.mark.parametrize("estimator", ["infonce", "jsd"])
@pytest.mark.parametrize("processes", [2, 4])
def test_gathered_parts_give_the_loss_and_gradient_of_the_whole(processes: int, estimator: Any) -> None:
    whole, parts = normal(8, 4).requires_grad_(), normal(8, 3, 4, seed=1).requires_grad_()
    size = 8 // processes
    pieces = [slice(i, i + size) for i in range(0, 8, size)]
    each = [local_infomax(whole[s], parts[s], estimator=estimator, gathered=parts, offset=s.start) for s in pieces]
    mean, at_once = torch.stack(each).mean(), local_infomax(whole, parts, estimator=estimator)
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


@pytest.mark.parametrize("estimator", ["infonce", "jsd", "dv"])
def test_global_local_and_prior_are_weighted_and_the_critic_has_a_scalar_of_its_own(estimator: str) -> None:
    weights = {"global_weight": 0.5, "local_weight": 2.0, "prior_weight": 0.3}
    made = method(estimator=estimator, code=5, **weights).train()
    of = Batch([torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))], torch.arange(4))
    at = Progress(3, 9, 0)
    loss = made(of, at)
    with torch.no_grad():
        h, maps = made.encoder.local(of.views[0])
        y, places = made.code(h), maps[-2]
        image = made.image[2](made.image[1](made.image[0](places)))  # of 4 px, so that nothing is pooled
        image = torch.stack([made.image[-1](image[i].reshape(-1)) for i in range(4)])
        flat = torch.stack([made.part(places[i].permute(1, 2, 0).reshape(16, -1)) for i in range(4)])
        wholes = made.global_whole(y).double().numpy(), made.whole(y).double().numpy()
        uniform = torch.rand(4, 5, generator=at.generator())
        d = [made.critic(x).double().numpy()[:, 0] for x in (uniform, y.sigmoid())]
    told = LOOPS[estimator](wholes[0], image[:, None].double().numpy()), LOOPS[estimator](wholes[1], flat.double().numpy())
    sure = [[1 / (1 + np.exp(-s)) for s in scores] for scores in d]
    deceived = -np.mean([np.log(p) for p in sure[1]])
    critic = -np.mean([np.log(p) for p in sure[0]]) - np.mean([np.log(1 - p) for p in sure[1]])
    assert float(loss.total.detach()) == pytest.approx(0.5 * told[0] + 2 * told[1] + 0.3 * deceived, rel=1e-4)
    assert float(loss.rivals["critic"].detach()) == pytest.approx(critic, rel=1e-4)
    logged = {name: float(term) for name, term in loss.terms.items()}
    assert logged == pytest.approx({"global": told[0], "local": told[1], "prior": deceived, "critic": critic}, rel=1e-4)
    slopes = torch.autograd.grad(loss.rivals["critic"], list(made.encoder.parameters()), allow_unused=True)
    assert not any(g is not None for g in slopes), "the critic's scalar leaves the encoder as it is"


def test_the_prior_draws_codes_towards_the_uniform_distribution() -> None:
    """Codes that all are near 1 spread over [0, 1] where a critic watches and next to nothing else is to be learned."""
    made = method(code=2, prior_weight=1.0, local_weight=1e-6).train()
    draw = torch.Generator().manual_seed(1)
    given = {"h": torch.randn(64, made.encoder.dim, generator=draw), "map": torch.randn(64, 16, 2, 2, generator=draw)}
    with torch.no_grad():
        made.code.bias.fill_(4.0)
    optimizers = Optimizers(made, Choice("adamw", {"lr": 4e-2}), {"critic": {"name": "adamw", "lr": 1e-3}}, scaling="none")
    means = []
    for step in range(100):
        optimizers.zero_grad()
        optimizers.backward(made.compare(given, Progress(step, 100, 0)))
        optimizers.step()
        with torch.no_grad():
            means.append(made.code(given["h"]).sigmoid().mean(0))
    assert float(means[0].min()) > 0.9
    assert float((torch.stack(means[-30:]).mean(0) - 0.5).abs().max()) < 0.1
    assert 0.15 < float(made.code(given["h"]).detach().sigmoid().std()) < 0.45, "√(1/12) = 0.29"


def test_the_papers_forms_are_presets() -> None:
    options = {name: compose({"method": name}).method.options for name in ("dim", "dim-local", "dim-global")}
    weights = {name: [o[f"{part}_weight"] for part in ("global", "local", "prior")] for name, o in options.items()}
    assert weights == {"dim": [0, 1, 0], "dim-local": [0, 1, 0.1], "dim-global": [1, 0, 1]}
    assert [options[name]["code"] for name in weights] == [0, 64, 64]
    assert not method().parts
    plain = {name.partition(".")[0] for name in method().state_dict()}
    assert plain == {"encoder", "whole", "part"}, "runs from before have these names"


def test_weights_that_leave_nothing_to_do_are_refused() -> None:
    with pytest.raises(UserError, match="nothing is left to compare"):
        method(local_weight=0.0)
    with pytest.raises(UserError, match=r"there is no code to match: give --method\.code 64"):
        method(prior_weight=0.1)


def test_stages_of_a_transformer_and_a_stage_that_is_not_there() -> None:
    made = method("vit_tiny_patch16_224")
    x = torch.rand(2, 3, 16, 16)
    h, maps = made.encoder.eval().local(x)
    torch.testing.assert_close(h, made.encoder(x))
    assert [m.shape for m in maps] == [(2, 16, 8, 8)] * 2
    with pytest.raises(UserError, match=r"stage is 5, and this encoder has 5: give a --method.stage from -5 to 4"):
        method(stage=5)
    with pytest.raises(UserError, match="does not show its stages"):
        encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
        encoder.backbone = nn.Identity()
        build("methods", Choice("dim"), encoder, DataShape(9, 3, 16))
