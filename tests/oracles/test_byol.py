"""BYOL's target network at every constant momentum of the ablation, and at one that rises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.methods.base import Comparison
from unlabeled.optim.schedules import cosine_momentum
from unlabeled.recipe import compose

from .small import array, at, embedded, images, learn, make, total

SMALL = {"hidden": 16, "dim": 8}


def networks(method: Comparison) -> tuple[list[Tensor], list[Tensor]]:
    target = [*method.target_encoder.parameters(), *method.target_projector.parameters()]
    return target, [*method.encoder.parameters(), *method.projector.parameters()]


def test_both_predictions_of_the_other_views_target() -> None:
    method = make("byol", **SMALL)
    given = embedded(method, "h1", "h2", "t1", "t2")
    p = [array(method.predictor(method.projector(given[h]))) for h in ("h1", "h2")]
    t = [array(method.target_projector(given[h])) for h in ("t1", "t2")]
    expected = 0.0
    for a, b in ((p[0], t[1]), (p[1], t[0])):
        for i in range(6):
            expected += (2 - 2 * (a[i] @ b[i]) / np.sqrt(a[i] @ a[i]) / np.sqrt(b[i] @ b[i])) / 6
    assert total(method, given) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("momentum", [1.0, 0.999, 0.99, 0.9, 0.0])
def test_a_momentum_that_does_not_rise_is_the_same_at_every_step(momentum: float) -> None:
    method = make("byol", momentum=momentum, rising=False, **SMALL)
    for step in (0, 5, 9):
        before = [p.clone() for p in networks(method)[0]]
        learn(method, images(16, 16, seed=step), at(step))
        for new, was, goal in zip(*networks(method)[:1], before, networks(method)[1], strict=True):
            torch.testing.assert_close(new, momentum * was + (1 - momentum) * goal.detach())


def test_without_momentum_the_target_is_the_online_network_of_the_last_step() -> None:
    method = make("byol", momentum=0, rising=False, **SMALL)
    for step in range(2):
        learn(method, images(16, 16, seed=step), at(step))
        for target, online in zip(*networks(method), strict=True):
            assert torch.equal(target, online)


def test_with_momentum_one_the_target_stays_random_and_the_online_network_learns() -> None:
    method = make("byol", momentum=1, rising=False, **SMALL)
    start = [p.clone() for p in networks(method)[0]]
    for step in range(2):
        learn(method, images(16, 16, seed=step), at(step))
    target, online = networks(method)
    assert all(torch.equal(a, b) for a, b in zip(target, start, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(online, start, strict=True))


def test_by_default_it_rises() -> None:
    method = make("byol", momentum=0.5, **SMALL)
    before = [p.clone() for p in networks(method)[0]]
    learn(method, images(16, 16), at(9))
    m = cosine_momentum(at(9), 0.5)
    assert m > 0.98
    for new, was, goal in zip(*networks(method)[:1], before, networks(method)[1], strict=True):
        torch.testing.assert_close(new, m * was + (1 - m) * goal.detach())


def test_the_defaults_are_the_published_codes_for_100_epochs() -> None:
    recipe = compose({"method": "byol"})
    assert (recipe.epochs, recipe.method.options["momentum"], recipe.method.options["rising"]) == (100, 0.99, True)
    found = recipe.to_dict()["optimizer"]
    assert {"name": "lars", "lr": 0.45, "momentum": 0.9, "weight_decay": 1e-6, "trust": 1e-3}.items() <= found.items()
