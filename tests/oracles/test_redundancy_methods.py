"""Barlow Twins and VICReg against loops over dimensions, and what their last layer must not have."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled.methods.base import Comparison
from unlabeled.recipe import compose

from .small import array, embedded, make, total

SMALL = {"hidden": 10, "dim": 5}


def heads(name: str, **options: object) -> tuple[Comparison, nn.Module]:
    method = make(name, **SMALL, **options)
    return method, method.projector if name == "barlow" else method.expander


def outputs(name: str, n: int = 7, **options: object) -> tuple[float, np.ndarray, np.ndarray]:
    method, head = heads(name, **options)
    given = embedded(method, "h1", "h2", n=n)
    return total(method, given), array(head(given["h1"])), array(head(given["h2"]))


@pytest.mark.parametrize("redundancy", [0.005, 0.5])
def test_barlow(redundancy: float) -> None:
    found, a, b = outputs("barlow", redundancy=redundancy)
    expected = 0.0
    for i in range(5):
        for j in range(5):
            u, v = a[:, i] - a[:, i].mean(), b[:, j] - b[:, j].mean()
            c = sum(u * v) / np.sqrt(sum(u**2)) / np.sqrt(sum(v**2))
            expected += (1 - c) ** 2 if i == j else redundancy * c**2
    assert found == pytest.approx(expected, rel=1e-4)


def test_vicreg() -> None:
    weights = {"invariance": 3.0, "variance": 5.0, "covariance": 0.7}
    found, a, b = outputs("vicreg", **weights)
    n, d = a.shape
    expected = 3.0 * sum((a[i] - b[i]) @ (a[i] - b[i]) for i in range(n)) / n / d
    for z in (a, b):
        centred = z - z.mean(0)
        for i in range(d):
            expected += 5.0 * max(0, 1 - np.sqrt(sum(centred[:, i] ** 2) / (n - 1) + 1e-4)) / d
            expected += sum(0.7 * (sum(centred[:, i] * centred[:, j]) / (n - 1)) ** 2 / d for j in range(d) if j != i)
    assert found == pytest.approx(expected, rel=1e-4)


def test_the_papers_weights_are_the_defaults() -> None:
    assert make("vicreg", **SMALL).weights == (25, 25, 1)
    assert make("barlow", **SMALL).redundancy == 5e-3


def test_barlow_is_trained_as_the_authors_train_it_with_256_images_a_batch() -> None:
    """Their table of rates by batch size, for 300 epochs; 0.0048 of 0.2 for biases and norms."""
    found = compose({"method": "barlow"}).to_dict()["optimizer"]
    assert (found["name"], found["lr"], found["momentum"], found["trust"]) == ("lars", 0.4, 0.9, 1e-3)
    assert found["vector_factor"] == pytest.approx(0.0048 / 0.2)
    assert compose({"method": "vicreg"}).optimizer.options["vector_factor"] == 1.0


@pytest.mark.parametrize("name", ["barlow", "vicreg"])
def test_which_view_is_first_does_not_matter(name: str) -> None:
    method, _ = heads(name)
    given = embedded(method, "h1", "h2")
    assert total(method, given) == pytest.approx(total(method, {"h1": given["h2"], "h2": given["h1"]}), rel=1e-5)


@pytest.mark.parametrize("name", ["barlow", "vicreg"])
def test_three_layers_and_no_bias_that_the_objective_would_not_see(name: str) -> None:
    _, head = heads(name)
    layers = [m for m in head if isinstance(m, nn.Linear)]
    assert [m.out_features for m in layers] == [10, 10, 5]
    assert isinstance(head[-1], nn.Linear)
    assert layers[-1].bias is None


def test_vicreg_feels_scale_and_barlow_does_not() -> None:
    for name, same in (("barlow", True), ("vicreg", False)):
        method, head = heads(name)
        given = embedded(method, "h1", "h2", n=20)
        before = total(method, given)
        with torch.no_grad():
            head[-1].weight *= 3
        assert (total(method, given) == pytest.approx(before, rel=1e-3)) == same
