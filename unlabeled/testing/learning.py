"""The last rule: a few steps on clusters teach a method what two views share, without collapse."""

from __future__ import annotations

import torch

from unlabeled.encoders import Encoder
from unlabeled.parts.memory import Bank, Ema
from unlabeled.probes.extract import features
from unlabeled.probes.health import effective_rank, std_ratio, verdict
from unlabeled.probes.knn import KNN
from unlabeled.testing.rule import require, rule
from unlabeled.testing.trial import Trial, optimizer

SAMPLES, STEPS, BATCH, PER_EPOCH = 512, 60, 64, 20
"""Epochs long enough to learn what the first step of one found: a classifier may have started anew."""


def knn(trial: Trial, encoder: Encoder) -> float:
    """Accuracy on other samples of the clusters."""
    fit, judged = trial.samples(SAMPLES), trial.samples(SAMPLES, 1)
    probe = KNN(k=10).fit(features(encoder, fit, device="cpu"), fit.labels)
    return probe.score(features(encoder, judged, device="cpu"), judged.labels)["top1"]


def options(trial: Trial) -> dict[str, object]:
    """With which so few steps are enough, where none are given."""
    more: dict[str, object] = {"hidden": 256, "queue": BATCH}
    known = trial.entry.options()
    if "momentum" in known:
        more["momentum"] = min(0.99, float(known["momentum"].default))  # a copy that follows within these steps
    if trial.holds(Bank) and not trial.holds(Ema):
        more["temperature"] = 0.2  # a bank of 512, each seen seven times, is too rough for 0.07
    return {name: value for name, value in more.items() if name not in trial.given}


@rule(
    "Look at the log's `z_std` and at the loss; `check_method(..., temperature=0.2)` gives options.",
    lambda trial: trial.learns,
)
def it_learns_without_collapse(trial: Trial) -> None:
    """In sixty steps the loss falls, the embeddings spread, and kNN finds the clusters better than before."""
    method = trial.make(seed=1, n=SAMPLES, **options(trial))
    untrained = knn(trial, method.encoder)
    step = trial.stepper(method, optimizer(method, lr=5e-3))
    losses = trial.train(step, range(STEPS), size=BATCH, total=STEPS, per_epoch=PER_EPOCH)
    total = torch.stack([loss.total.detach() for loss in losses])
    first, last = float(total[1:4].mean()), float(total[-5:].mean())
    require(last < first, f"the loss goes from {first:g} to {last:g}")  # the first step's queue is noise

    z = losses[-1].memory.get("z")
    if z is not None:  # an objective that sees no embedding is not met by one that is the same for all
        spread, rank = std_ratio(z), effective_rank(z)
        collapse = verdict(spread, rank, min(z.shape))
        require(collapse is None, str(collapse))
        require(spread > 0.3, f"embeddings spread by {spread:.2f}, where 1 is evenly")

    trained = knn(trial, method.encoder)
    require(trained > untrained + 0.08, f"kNN finds {trained:.1%} of the clusters, and {untrained:.1%} before")
