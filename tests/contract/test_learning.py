"""Sixty steps on clusters: a method learns what two views share, and does not collapse."""

from __future__ import annotations

import pytest
import torch

from unlabeled import registry
from unlabeled.encoders import Encoder
from unlabeled.parts.memory import Bank, Ema
from unlabeled.probes.extract import features
from unlabeled.probes.health import effective_rank, std_ratio, verdict
from unlabeled.probes.knn import KNN

from .kit import NAMES, learns, make, optimizer, source_of, train

STEPS, BATCH, PER_EPOCH = 60, 64, 20
"""Epochs long enough to learn what the first step of one found: a classifier may have started anew."""


def knn(encoder: Encoder) -> float:
    fit, judged = source_of(encoder), source_of(encoder, seed=1)
    probe = KNN(k=10).fit(features(encoder, fit, device="cpu"), fit.y)
    return probe.score(features(encoder, judged, device="cpu"), judged.y)["top1"]


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_without_collapse(name: str) -> None:
    papers = registry.get("methods", name).options().get("momentum")
    more = {"momentum": min(0.99, float(papers.default))} if papers else {}  # a copy that follows within sixty steps
    kinds = {type(m) for m in make(name).modules()}
    if Bank in kinds and Ema not in kinds:
        more["temperature"] = 0.2  # a bank of 512, each seen seven times, is too rough for 0.07
    method = make(name, seed=1, hidden=256, queue=BATCH, **more)
    if not learns(method):
        return
    untrained = knn(method.encoder)
    step = optimizer(method, lr=5e-3)
    losses = train(name, method, step, range(STEPS), total=STEPS, size=BATCH, per_epoch=PER_EPOCH)
    total = torch.stack([loss.total.detach() for loss in losses])
    assert total[-5:].mean() < total[1:4].mean(), "the loss does not fall (the first step's queue is noise)"

    z = losses[-1].memory.get("z")
    if z is not None:  # an objective that sees no embedding cannot be met by one that is the same for all
        spread, rank = std_ratio(z), effective_rank(z)
        assert verdict(spread, rank, min(z.shape)) is None
        assert spread > 0.3

    trained = knn(method.encoder)
    assert trained > untrained + 0.08
