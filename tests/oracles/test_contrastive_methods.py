"""SimCLR under its three names and with its three projectors, MoCo v1 and v2: loops over the papers' equations."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled.errors import UserError
from unlabeled.methods.base import Comparison
from unlabeled.recipe import compose

from .small import array, at, embedded, images, learn, make, total

Oracle = Callable[[np.ndarray, np.ndarray], float]


def projected(method: Comparison, given: dict[str, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """z of both views, of length 1, each (B, dim)."""
    z1, z2 = method.projector(torch.cat([given["h1"], given["h2"]])).chunk(2)
    return tuple(array(z) / np.linalg.norm(array(z), axis=1, keepdims=True) for z in (z1, z2))


def corrected_nt_xent(z1: np.ndarray, z2: np.ndarray, tau: float, tau_plus: float, beta: float) -> float:
    """Chen et al. 2020, eq. 1; Chuang et al. 2020, eqs. 7 and 8; Robinson et al. 2021, §3.2: anchor by anchor."""
    z, b = np.concatenate([z1, z2]), len(z1)
    losses = []
    for i in range(2 * b):
        positive = np.exp(z[i] @ z[(i + b) % (2 * b)] / tau)
        negatives = np.array([np.exp(z[i] @ z[j] / tau) for j in range(2 * b) if j not in (i, (i + b) % (2 * b))])
        weights = negatives**beta
        mean = (weights * negatives).sum() / weights.sum()
        g = max((mean - tau_plus * positive) / (1 - tau_plus), np.exp(-1 / tau)) if tau_plus or beta else mean
        losses.append(-np.log(positive / (positive + len(negatives) * g)))
    return float(np.mean(losses))


@pytest.mark.parametrize(("name", "tau_plus", "beta"), [("simclr", 0, 0), ("debiased", 0.1, 0), ("hard-negatives", 0.1, 1)])
@pytest.mark.parametrize("projector", ["none", "linear", "mlp"])
def test_simclr_is_its_equation(name: str, tau_plus: float, beta: float, projector: str) -> None:
    method = make(name, projector=projector, dim=8)
    given = embedded(method, "h1", "h2")
    expected = corrected_nt_xent(*projected(method, given), 0.5, tau_plus, beta)
    assert total(method, given) == pytest.approx(expected, rel=1e-4)


def test_simclrs_projectors_are_what_they_are_called() -> None:
    width = make("simclr").encoder.dim
    assert isinstance(make("simclr", projector="none").projector, nn.Identity)
    linear = make("simclr", projector="linear", dim=8).projector
    assert (linear.in_features, linear.out_features) == (width, 8)
    assert [type(layer).__name__ for layer in make("simclr").projector] == ["Linear", "BatchNorm1d", "ReLU", "Linear"]


def nt_logistic(z1: np.ndarray, z2: np.ndarray) -> float:
    """Chen et al. 2020, table 2, at 0.5, with the mean over all negatives of an anchor."""
    z, b, costs = np.concatenate([z1, z2]), len(z1), []
    for i in range(2 * b):
        negatives = [z[i] @ z[j] / 0.5 for j in range(2 * b) if j not in (i, (i + b) % (2 * b))]
        costs.append(np.log1p(np.exp(-z[i] @ z[(i + b) % (2 * b)] / 0.5)) + np.mean(np.log1p(np.exp(negatives))))
    return float(np.mean(costs))


def margin(z1: np.ndarray, z2: np.ndarray) -> float:
    """Chen et al. 2020, table 2, with a margin of 0.8."""
    z, b, costs = np.concatenate([z1, z2]), len(z1), []
    for i in range(2 * b):
        own = z[i] @ z[(i + b) % (2 * b)]
        negatives = [z[i] @ z[j] for j in range(2 * b) if j not in (i, (i + b) % (2 * b))]
        costs.append(np.mean([max(s - own + 0.8, 0) for s in negatives]))
    return float(np.mean(costs))


def hardest_margin(z1: np.ndarray, z2: np.ndarray) -> float:
    """The same with the negative that is nearest."""
    z, b, costs = np.concatenate([z1, z2]), len(z1), []
    for i in range(2 * b):
        own = z[i] @ z[(i + b) % (2 * b)]
        costs.append(max(max(z[i] @ z[j] for j in range(2 * b) if j not in (i, (i + b) % (2 * b))) - own + 0.8, 0))
    return float(np.mean(costs))


@pytest.mark.parametrize(
    ("options", "oracle"),
    [
        ({"loss": "nt-xent"}, lambda z1, z2: corrected_nt_xent(z1, z2, 0.5, 0, 0)),
        ({"loss": "nt-logistic"}, nt_logistic),
        ({"loss": "margin"}, margin),
        ({"loss": "margin", "mining": "hardest"}, hardest_margin),
    ],
)
def test_simclr_trains_with_the_losses_that_the_paper_compares(options: dict[str, str], oracle: Oracle) -> None:
    """Chen et al. 2020, tables 2 and 4, each with its own default."""
    method = make("simclr", dim=8, **options)
    given = embedded(method, "h1", "h2")
    loss = method.compare(given, at())
    assert float(loss.total.detach()) == pytest.approx(oracle(*projected(method, given)), rel=1e-4)
    loss.total.backward()
    assert all(leaf.grad is not None and leaf.grad.abs().sum() > 0 for leaf in given.values())
    assert ("mutual_information" in loss.terms) == (options["loss"] == "nt-xent")


def test_a_loss_of_simclr_with_what_it_does_not_have_is_refused() -> None:
    for given, said in (
        ({"loss": "margin", "tau_plus": 0.1}, "--method.loss margin has one form"),
        ({"loss": "nt-logistic", "normalize": False}, "--method.loss nt-logistic has one form"),
        ({"mining": "hardest"}, "--method.mining hardest is for --method.loss nt-logistic and margin"),
    ):
        with pytest.raises(UserError, match=said):
            make("simclr", **given)


def test_mocos_settings_are_those_of_one_experiment() -> None:
    """The authors' CIFAR-10 demonstration: 0.06 for 512 images, with decay 5e-4; 4,096 keys, 0.99, 0.1, 128, 8 groups."""
    for name in ("moco", "moco-v1", "moco-v2", "mochi"):
        recipe = compose({"method": name})
        settings = [recipe.method.options[key] for key in ("queue", "momentum", "temperature", "dim", "splits")]
        assert settings == [4096, 0.99, 0.1, 128, 8]
        rule = recipe.optimizer.options
        assert (rule["lr"], rule["momentum"], rule["weight_decay"], rule["nesterov"]) == (0.03, 0.9, 5e-4, False)


@pytest.mark.parametrize(("name", "tau"), [("moco-v1", 0.1), ("moco-v2", 0.1), ("moco", 0.1)])
def test_moco_is_its_equation(name: str, tau: float) -> None:
    """He et al. 2020, eq. 1: a query's key against all keys of the queue; v1 with one linear layer, v2 with two."""
    method = make(name, queue=12, dim=8, splits=1)
    assert isinstance(method.projector, nn.Linear if name == "moco-v1" else nn.Sequential)
    given = embedded(method, "h")
    k = torch.nn.functional.normalize(torch.randn(6, 8, generator=torch.Generator().manual_seed(3)), dim=1)
    q, keys = array(method.projector(given["h"])), array(method.queue.keys)
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    expected = 0.0
    for i in range(6):
        own = np.exp(q[i] @ array(k)[i] / tau)
        expected -= np.log(own / (own + sum(np.exp(q[i] @ key / tau) for key in keys))) / 6
    assert total(method, {**given, "k": k}) == pytest.approx(expected, rel=1e-4)


def test_mocos_memory() -> None:
    """Algorithm 1: keys of the second view enter the queue, the oldest leave, and the key encoder follows (eq. 2)."""
    method = make("moco-v1", queue=12, dim=8, splits=1, momentum=0.9)
    for step in range(3):
        before = method.queue.keys.clone()
        old = [p.clone() for p in method.key_encoder.parameters()]
        batch = images(16, 16, seed=step)
        keys = torch.nn.functional.normalize(method.constants(batch)["k"], dim=1)
        learn(method, batch, at(step))
        held = {tuple(row) for row in np.round(array(method.queue.keys), 5)}
        assert {tuple(row) for row in np.round(array(keys), 5)} <= held
        assert len(held & {tuple(row) for row in np.round(array(before), 5)}) == 6
        online = [*method.encoder.parameters(), *method.projector.parameters()]
        for new, was, goal in zip(method.key_encoder.parameters(), old, online, strict=True):
            torch.testing.assert_close(new, 0.9 * was + 0.1 * goal.detach())
