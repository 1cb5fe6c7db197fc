"""Sixty steps on clusters: a method learns what two views share, and does not collapse."""

from __future__ import annotations

import pytest
import torch

from unlabeled.encoders import Encoder
from unlabeled.probes.extract import features
from unlabeled.probes.health import effective_rank, std_ratio, verdict
from unlabeled.probes.knn import KNN

from .kit import NAMES, images, learns, make, optimizer, train

STEPS, BATCH = 60, 64


def knn(encoder: Encoder) -> float:
    fit, judged = images(), images(seed=1)
    probe = KNN(k=10).fit(features(encoder, fit, device="cpu"), fit.y)
    return probe.score(features(encoder, judged, device="cpu"), judged.y)["top1"]


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_without_collapse(name: str) -> None:
    method = make(name, seed=1, hidden=256, queue=BATCH, momentum=0.99)
    if not learns(method):
        return
    untrained = knn(method.encoder)
    losses = train(name, method, optimizer(method, lr=5e-3), range(STEPS), total=STEPS, size=BATCH)
    total = torch.stack([loss.total.detach() for loss in losses])
    assert total[-5:].mean() < total[1:4].mean(), "the loss does not fall (the first step's queue is noise)"

    z = losses[-1].memory.get("z", features(method.encoder, images(), device="cpu"))
    spread, rank = std_ratio(z), effective_rank(z)
    assert verdict(spread, rank, min(z.shape)) is None
    assert spread > 0.3

    trained = knn(method.encoder)
    assert trained > untrained + 0.08
