"""The verdict on healthy, collapsed and untrained encoders, all truly made so on scikit-learn's digits."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from trained import VIEWS, digits, encoder, neither, no_predictor, no_stop_gradient, subject, train

from unlabeled.encoders import Encoder
from unlabeled.encoders.image import ImageFront
from unlabeled.errors import UserError
from unlabeled.probes import health
from unlabeled.probes.base import Figure
from unlabeled.probes.health import Look, fewest_dimensions
from unlabeled.probes.label_free import Health, judge, pair, untrained
from unlabeled.probes.subject import Subject
from unlabeled.registry import Choice

BYOL = {"hidden": 128, "dim": 64}


def judged(given: Subject, **options: Any) -> tuple[dict[str, Figure], Health]:
    """Labels are withheld."""
    source, test = digits()
    probe = Health(**options).fit(given, source, np.arange(len(source)), np.full(len(source), -1), seed=0)
    return probe.score(test, np.arange(len(test)), np.full(len(test), -1)), probe


class Zero(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros(len(x), 32)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("simclr", {}),
        ("byol", BYOL),
        ("moco-v2", {"queue": 512}),
        ("barlow", {"hidden": 128, "dim": 128}),
        ("supervised", {"views": None}),
    ],
)
def test_a_healthy_run_is_not_accused(name: str, options: dict[str, Any]) -> None:
    method = train(name, 100, **options)
    figures, probe = judged(subject(method))
    assert probe.verdict_.state == "healthy", probe.verdict_
    assert next(iter(figures)) == "rankme share h"
    assert ("rankme share z" in figures) == (name != "supervised")
    assert any("has no projector" in note for note in probe.notes_) == (name == "supervised")


@pytest.mark.parametrize(("hurt", "steps"), [(no_predictor, 200), (no_stop_gradient, 200), (neither, 150)])
def test_byol_without_what_keeps_it_from_collapsing(hurt: Callable[[Any], None], steps: int) -> None:
    _, probe = judged(subject(train("byol", steps, hurt, lr=1e-2, views=None, **BYOL)))
    assert "collapse" in probe.verdict_.state, probe.verdict_


def test_byol_trained_as_long_and_as_fast_does_not_collapse() -> None:
    _, probe = judged(subject(train("byol", 200, lr=1e-2, views=None, **BYOL)))
    assert "collapse" not in probe.verdict_.state, probe.verdict_


def test_an_encoder_that_says_zero_of_everything() -> None:
    blank = Encoder(ImageFront(8, 8, torch.zeros(1), torch.ones(1)), Zero(), 32).eval()
    figures, probe = judged(Subject("run", blank))
    assert probe.verdict_.state == "complete collapse"
    assert "nearly the same representation h" in probe.verdict_.reason
    assert figures["dead h"].value == 1
    assert figures["rankme share h"].value == 0


@pytest.mark.parametrize("trained", [True, False])
def test_an_encoder_of_rank_three(trained: bool) -> None:
    made = train("simclr", 60).encoder if trained else encoder()
    squeeze = nn.Sequential(nn.Linear(64, 3), nn.Linear(3, 64))
    flat = Encoder(ImageFront(8, 8, made.front.mean, made.front.std), nn.Sequential(made.backbone, squeeze), 64).eval()
    _, probe = judged(Subject("run", flat, views=VIEWS))
    assert probe.verdict_.state == "dimensional collapse"
    assert "dimensions of 64" in probe.verdict_.reason


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_an_untrained_encoder_is_under_trained_and_no_more(seed: int) -> None:
    method = train("simclr", 0)
    method.encoder = encoder(seed)
    _, probe = judged(subject(method))
    assert probe.verdict_.state == "under-trained", probe.verdict_
    assert any(note.startswith("health of the run encoder: under-trained: ") for note in probe.notes_)
    _, knowing = judged(replace(subject(method), trained=False))
    (said,) = [note for note in knowing.notes_ if note.startswith("health of")]
    assert said.startswith("health of the run encoder: not trained: two views of an image are ")
    assert "helps" not in said


def test_the_figures_are_those_of_the_measures() -> None:
    given = subject(train("simclr", 0))
    assert given.encoder is not None
    figures, _ = judged(given, temperature=0.3)
    _, test = digits()
    x = given.features(test)
    for name, measure in (("rankme", health.rankme), ("effective rank", health.effective_rank)):
        assert figures[f"{name} h"].value == pytest.approx(measure(x), rel=1e-4)
    assert figures["rankme share h"].value == pytest.approx(health.rankme(x) / 64, rel=1e-4)
    deviation = np.std([row / np.linalg.norm(row) for row in x.double().numpy()], axis=0).mean()
    assert figures["std h"].value == pytest.approx(deviation, rel=1e-4)
    assert figures["std ratio h"].value == pytest.approx(8 * deviation, rel=1e-4)
    assert 0 < figures["alignment h"].value < 4
    assert 0 < float(figures["alignment h"].interval or 0) < 0.2
    assert -8 <= figures["uniformity h"].value <= 0
    assert figures["information h"].value <= math.log(len(test))


def test_of_many_images_so_many_are_looked_at_and_the_same_each_time() -> None:
    given = subject(train("simclr", 0))
    few, probe = judged(given, images=50)
    assert figures_close(few, judged(given, images=50)[0])
    assert not figures_close(few, judged(given)[0])
    assert any("50 images are few" in note for note in probe.notes_)
    assert few["effective rank h"].value <= 50


def figures_close(one: dict[str, Figure], other: dict[str, Figure]) -> bool:
    return all(math.isclose(one[name].value, other[name].value, rel_tol=1e-6, abs_tol=1e-9) for name in one)


def test_a_policy_of_one_view_is_drawn_twice_and_one_that_changes_nothing_replaced() -> None:
    _, probe = judged(subject(train("simclr", 0), views=Choice("none")))
    assert any("all the same picture" in note for note in probe.notes_)
    _, probe = judged(subject(train("simclr", 0), views=Choice("crop")))
    assert not any("all the same picture" in note for note in probe.notes_)
    asked, _ = judged(subject(train("simclr", 0)), views="crop")
    known, _ = judged(subject(train("simclr", 0), views=Choice("crop")))
    assert figures_close(asked, known)
    large_and_small = [torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 4, 4)]
    first, second = pair(lambda x, g: (large_and_small, {}), torch.zeros(2, 1, 8, 8), torch.Generator())
    assert first.shape == second.shape == (2, 1, 8, 8)


def test_an_untrained_copy_has_nothing_of_the_original_but_its_shape() -> None:
    method = train("simclr", 3)
    before = copy.deepcopy(method.state_dict())
    torch.manual_seed(1)
    fresh, head = untrained(method.encoder, method.get_submodule("projector"), seed=0)
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(1)))
    assert head is not None
    for mine, theirs in zip(fresh.parameters(), method.encoder.parameters(), strict=True):
        assert mine.shape == theirs.shape
        assert not torch.equal(mine, theirs)
    assert all(torch.equal(value, method.state_dict()[name]) for name, value in before.items())
    assert float(fresh.state_dict()["backbone.2.running_mean"].abs().max()) == 0
    again, _ = untrained(method.encoder, None, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(fresh.parameters(), again.parameters(), strict=True))


HEALTHY = Look(0.8, 40.0, 0.3, 64)
FRESH = [Look(0.4, 44.0, 0.75, 64)] * 3


@pytest.mark.parametrize(
    ("changed", "state"),
    [
        ({}, "healthy"),
        ({"spread": 0.05}, "healthy"),
        ({"spread": 0.05, "rank": 5.0}, "complete collapse"),
        ({"spread": 1e-4}, "complete collapse"),
        ({"rank": 5.5}, "dimensional collapse"),
        ({"view_variance": 0.7}, "under-trained"),
        ({"view_variance": 0.7, "rank": 3.5}, "dimensional collapse"),
    ],
)
def test_the_order_of_the_verdicts(changed: dict[str, float], state: str) -> None:
    """A small spread that untrained networks have too is no collapse."""
    look = dataclasses.replace(HEALTHY, **changed)
    others = [Look(0.07, 44.0, 0.75, 64)] * 3 if "spread" in changed else FRESH
    assert judge({"h": [look, *others]}).state == state
    if "view_variance" not in changed:
        assert judge({"h": [HEALTHY, *FRESH], "z": [look, *others]}).state == state


def test_ten_points_in_many_dimensions_are_no_collapse() -> None:
    points = torch.eye(512)[:10].repeat(100, 1)
    assert health.effective_rank(points) == pytest.approx(9, rel=1e-3)
    assert health.effective_rank(points) > fewest_dimensions(512) == pytest.approx(512**0.5 / 3)
    assert fewest_dimensions(8192) == 8
    assert fewest_dimensions(64) == 6
    assert fewest_dimensions(8) == 2
    assert fewest_dimensions(64, classes=3) == pytest.approx(1.8)
    assert fewest_dimensions(64, classes=100) == 6


def test_mistakes() -> None:
    source, test = digits()
    with pytest.raises(UserError, match="raw features have none"):
        Health().fit(Subject("pixels", None), source, np.arange(9), np.arange(9), seed=0)
    with pytest.raises(UserError, match="8 images or more to look at, and there are 3"):
        probe = Health().fit(Subject("run", encoder().eval()), source, np.arange(9), np.arange(9), seed=0)
        probe.score(test, np.arange(3), np.arange(3))
    broken = encoder().eval()
    nn.init.constant_(next(broken.parameters()), math.nan)
    with pytest.raises(UserError, match="NaN or infinity"):
        judged(Subject("run", broken))
