"""Local aggregation: its loss, its background and its close neighbours in loops; warm-up and bank."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from unlabeled.errors import UserError
from unlabeled.losses import local_aggregation

from .small import array, at, images, make


def method(**options: Any) -> Any:
    return make("local-aggregation", **{"dim": 8, "clusters": 8, "runs": 2, "background": 20, "temperature": 0.3, **options})


def expected(made: Any, h: torch.Tensor, index: list[int], k: int, clustered: bool) -> float:
    v = array(torch.nn.functional.normalize(made.projector(h), dim=1))
    bank = array(made.bank.vectors)
    labels = [array(partition.labels) for partition in made.partitions]
    costs = []
    for row, i in enumerate(index):
        similarity = bank @ v[row]
        order = [i, *[j for j in np.argsort(-similarity) if j != i]]
        background = order[:k]
        close = [j for j in background if j == i or (clustered and any(own[j] == own[i] for own in labels))]
        p = np.exp(similarity / 0.3)
        costs.append(-np.log(p[close].sum() / p[background].sum()))
    return float(np.mean(costs))


@pytest.mark.parametrize("clustered", [False, True])
def test_the_loss_is_the_papers(clustered: bool) -> None:
    made, of = method(warm_up=0.0 if clustered else 0.5), images(16)
    torch.manual_seed(0)
    untrained = torch.randn(64, 8)
    made.before_epoch(at(), lambda module: untrained)
    torch.testing.assert_close(made.bank.vectors, torch.nn.functional.normalize(untrained, dim=1))
    assert bool(made.clustered) == clustered
    h = made.embed(of)["h"]
    loss = made.compare({"h": h, "index": of.index}, at())
    assert float(loss.total.detach()) == pytest.approx(expected(made, h, of.index.tolist(), 20, clustered), rel=1e-4)
    assert (float(loss.terms["close"]) > 1) == clustered


def test_close_neighbours_share_a_cluster_in_any_run() -> None:
    made = method()
    made.clustered.fill_(True)
    made.partitions[0].labels.copy_(torch.arange(64) % 8)
    made.partitions[1].labels.copy_(torch.arange(64) // 8)
    found = made.close(torch.tensor([9]), torch.arange(64)[None])[0]
    assert found.nonzero().flatten().tolist() == sorted({*range(8, 16), *range(1, 64, 8)})


def test_all_close_costs_nothing_and_the_image_alone_is_instance_discrimination() -> None:
    s = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    close = torch.ones(3, 5, dtype=torch.bool)
    assert float(local_aggregation(s, close)) == pytest.approx(0, abs=1e-12)
    close[:, 1:] = False
    softmax = torch.nn.functional.cross_entropy(s / 0.07, torch.zeros(3, dtype=torch.long))
    assert float(local_aggregation(s, close)) == pytest.approx(float(softmax))
    with pytest.raises(ValueError, match="no close neighbour"):
        local_aggregation(s, ~torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"close is torch.float64"):
        local_aggregation(s, close.float())


def test_the_bank_follows_and_the_number_of_clusters_does_the_set() -> None:
    made, of = method(clusters=0), images(16)
    assert len(made.partitions[0].centroids) == 2, "64 images, 43 a cluster, and 2 clusters at least"
    before = made.bank.vectors.clone()
    loss = made(of, at())
    made.observe(loss, at())
    moved = (made.bank.vectors != before).any(1)
    assert moved.nonzero().flatten().tolist() == of.index.tolist()
    assert made.full_cost_from(100) == 5
    with pytest.raises(UserError, match="cluster"):
        method(clusters=65)
