"""DeepCluster: cross-entropy with clusters in loops, what an epoch begins with, and how images are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabeled.batch import DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.errors import UserError
from unlabeled.methods.deepcluster import DeepCluster
from unlabeled.parts.clustering import agreement
from unlabeled.registry import Choice
from unlabeled.training.batches import order

AT = Progress(0, 10, 0)
N, K = 60, 5


def method(clusters: int = K, n: int = N) -> DeepCluster:
    torch.manual_seed(0)
    encoder = build_encoder(Choice("resnet10t", {"width": 4}), 3, 16, torch.zeros(3), torch.ones(3))
    return DeepCluster(encoder, DataShape(n, 3, 16, 4), clusters=clusters)


def groups(made: DeepCluster, seed: int = 0) -> Tensor:
    """Features (n, D) in as many groups as there are clusters, of sizes 1 : 2 : 3 : 4 : 5 in the order of the images."""
    numbers = torch.Generator().manual_seed(seed)
    group = torch.repeat_interleave(torch.arange(K), torch.arange(1, K + 1) * N // 15)
    return torch.eye(made.encoder.dim)[group] * 8 + 0.01 * torch.randn(N, made.encoder.dim, generator=numbers)


def begin(made: DeepCluster, features: Tensor, seed: int = 0) -> list[nn.Module]:
    asked: list[nn.Module] = []

    def extract(module: nn.Module) -> Tensor:
        asked.append(module)
        return features

    torch.manual_seed(seed)
    with torch.no_grad():
        made.before_epoch(AT, extract)
    return asked


def test_the_objective_is_cross_entropy_with_the_clusters() -> None:
    made = method()
    begin(made, groups(made))
    nn.init.normal_(made.classifier.weight)
    nn.init.normal_(made.classifier.bias)
    index = torch.tensor([0, 7, 33, 59])
    h = torch.randn(4, made.encoder.dim)
    w, b = made.classifier.weight.detach().double().numpy(), made.classifier.bias.detach().double().numpy()
    total = 0.0
    for i, row in enumerate(h.double().numpy()):
        logits = [sum(max(0.0, x) * w[c, d] for d, x in enumerate(row)) + b[c] for c in range(K)]
        total += np.log(sum(np.exp(s) for s in logits)) - logits[int(made.clusters.labels[index[i]])]
    loss = made.compare({"h": h, "label": made.clusters.labels[index]}, AT)
    assert float(loss.total.detach()) == pytest.approx(total / 4, rel=1e-5)


def test_an_epoch_begins_with_clusters_of_the_encoder_and_a_new_classifier() -> None:
    made = method()
    first = groups(made)
    assert begin(made, first) == [made.encoder]
    sizes = made.clusters.labels.bincount(minlength=K)
    assert (sizes > 0).all()
    assert float(made.clusters.nmi) == 0
    assert not made.classifier.bias.any()
    assert 0.005 < float(made.classifier.weight.detach().std()) < 0.015
    with torch.no_grad():
        made.classifier.weight.fill_(1)
        made.classifier.bias.fill_(1)
    old = made.clusters.labels.clone()
    begin(made, groups(made, seed=5), seed=1)
    assert float(made.clusters.nmi) == pytest.approx(agreement(old, made.clusters.labels))
    assert 0 < float(made.clusters.nmi) < 1
    assert not made.classifier.bias.any()
    assert float(made.classifier.weight.detach().abs().max()) < 0.1
    loss = made.compare({"h": torch.randn(2, made.encoder.dim), "label": old[:2]}, AT)
    assert torch.equal(loss.terms["nmi"], made.clusters.nmi)


def test_whitening_comes_before_clustering() -> None:
    """A direction that varies much and means nothing decides plain k-means, and not the whitened one."""
    made = method(clusters=2, n=400)
    numbers = torch.Generator().manual_seed(0)
    side = torch.arange(400) % 2
    features = torch.zeros(400, made.encoder.dim)
    features[:, 0] = 100 * torch.randn(400, generator=numbers)
    features[:, 1] = side * 2.0 - 1 + 0.01 * torch.randn(400, generator=numbers)
    begin(made, features)
    assert agreement(made.clusters.labels, side) > 0.9


def test_each_cluster_is_drawn_as_often_as_any_other() -> None:
    made = method()
    begin(made, groups(made))
    labels, weights = made.clusters.labels, made.sampling()
    assert len(labels.bincount().unique()) > 1, "the clusters are equally large: nothing is tested"
    share = torch.zeros(K, dtype=torch.float64).index_add_(0, labels, weights)
    torch.testing.assert_close(share, torch.ones(K, dtype=torch.float64))
    drawn = np.concatenate([order(0, epoch, N, weights.numpy()) for epoch in range(100)])
    counts = np.bincount(labels.numpy()[drawn], minlength=K) / len(drawn)
    np.testing.assert_allclose(counts, 1 / K, atol=0.02)


def test_more_clusters_than_images_are_refused_at_once() -> None:
    with pytest.raises(UserError, match=r"61 clusters cannot be made of 60 training samples: give --method\.clusters"):
        method(clusters=61)
