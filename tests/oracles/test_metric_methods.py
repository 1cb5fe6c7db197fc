"""Siamese and triplet networks: which pairs they make of a batch, and what they cost, against loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabeled.batch import DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Comparison
from unlabeled.registry import Choice, build

AT = Progress(0, 1, 0)
NAMES = ["siamese", "triplet"]


def method(name: str, classes: int = 5, **options: object) -> Comparison:
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
    made: Comparison = build(
        "methods", Choice(name, {"projector": "none", **options}), encoder, DataShape(9, 3, 16, classes)
    )
    return made


def batch(labels: list[int], dim: int = 6) -> dict[str, Tensor]:
    z = 0.4 * torch.randn(len(labels), dim, generator=torch.Generator().manual_seed(1))
    return {"h": z.requires_grad_(), "label": torch.tensor(labels)}


@pytest.mark.parametrize("normalize", [True, False])
def test_pairs_of_siamese_networks(normalize: bool) -> None:
    labels, margin = [0, 1, 0, 0, 2, 1, 3, 0], 1.5
    given = batch(labels)
    z, n = given["h"].detach().double().numpy(), len(labels)
    z = z / np.sqrt((z**2).sum(1, keepdims=True)) if normalize else z
    total = 0.0
    for i in range(n):
        after = [(i + step) % n for step in range(1, n)]
        same = next((j for j in after if labels[j] == labels[i]), None)
        other = next((j for j in after if labels[j] != labels[i]), None)
        if same is not None and other is not None:
            total += 0.5 * ((z[i] - z[same]) ** 2).sum()
            total += 0.5 * max(0, margin - np.sqrt(((z[i] - z[other]) ** 2).sum())) ** 2
    assert total > 0
    found = method("siamese", margin=margin, normalize=normalize).compare(given, AT).total
    assert float(found.detach()) == pytest.approx(total / (2 * n))


@pytest.mark.parametrize("mining", ["semi-hard", "hardest", "all"])
def test_triplets(mining: str) -> None:
    labels, margin = [0, 1, 0, 0, 2, 1, 3, 0, 1], 0.2
    given = batch(labels)
    z = given["h"].detach().double().numpy()
    z = z / np.sqrt((z**2).sum(1, keepdims=True))
    costs = []
    for a in range(len(labels)):
        for p in range(len(labels)):
            if a == p or labels[a] != labels[p]:
                continue
            own = ((z[a] - z[p]) ** 2).sum()
            far = [((z[a] - z[n]) ** 2).sum() for n in range(len(labels)) if labels[n] != labels[a]]
            if mining == "semi-hard":
                far = [min((d for d in far if d > own), default=np.inf)]
            elif mining == "hardest":
                far = [min(far)]
            costs.append(np.mean([max(0, own - d + margin) for d in far]))
    assert np.mean(costs) > 0
    found = method("triplet", margin=margin, mining=mining).compare(given, AT).total
    assert float(found.detach()) == pytest.approx(np.mean(costs), rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4], [0, 1]])
def test_a_batch_without_a_pair_of_one_class_costs_nothing(name: str, labels: list[int]) -> None:
    given = batch(labels)
    loss = method(name).compare(given, AT)
    assert float(loss.total.detach()) == 0
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert given["h"].grad is not None
    assert not given["h"].grad.any()


@pytest.mark.parametrize("name", NAMES)
def test_equal_embeddings_give_numbers(name: str) -> None:
    for value in (0.0, 1.0):
        given = {"h": torch.full((6, 4), value, requires_grad=True), "label": torch.tensor([0, 0, 1, 1, 2, 2])}
        loss = method(name).compare(given, AT)
        loss.total.backward()  # type: ignore[no-untyped-call]
        assert loss.total.isfinite()
        assert given["h"].grad is not None
        assert given["h"].grad.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_options_and_refusals(name: str) -> None:
    assert isinstance(method(name, projector="linear", dim=7).projector, nn.Linear)
    with pytest.raises(UserError, match=f"method '{name}' needs labels of at least 2 classes"):
        method(name, classes=0)
    with pytest.raises(UserError):
        method("triplet", mining="easy")
