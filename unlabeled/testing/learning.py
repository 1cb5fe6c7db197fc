"""The last rule: a few steps on clusters teach a method what two views share, without collapse."""

from __future__ import annotations

from typing import Any

import torch

from unlabeled.batch import Loss
from unlabeled.encoders import Encoder
from unlabeled.methods.base import Method
from unlabeled.parts.memory import Bank, Ema, Queue
from unlabeled.probes.extract import features
from unlabeled.probes.health import collapse, look
from unlabeled.probes.knn import KNN
from unlabeled.testing.rule import require, rule
from unlabeled.testing.trial import Trial, optimizer

SAMPLES, JUDGED, STEPS, BATCH, PER_EPOCH = 512, 512, 60, 64, 20
"""Epochs long enough to learn what the first step of one found: a classifier may have started anew."""
SEEDS = (1, 2)
"""Some starts of networks as small as these go nowhere: a method has two."""
RATE, QUEUED_RATE = 1e-2, 5e-3
"""Of AdamW. At the higher, embeddings outrun the keys that wait in a queue, and the loss rises."""
LOOKS = (10, 20, 30, 40, 50, STEPS)
"""Steps after which is looked: most methods have learned enough by the second or third."""


def knn(trial: Trial, encoder: Encoder) -> float:
    """Accuracy on other samples of the clusters."""
    fit, judged = trial.samples(SAMPLES), trial.samples(JUDGED, 1)
    probe = KNN(k=10).fit(features(encoder, fit, device="cpu"), fit.labels)
    return probe.score(features(encoder, judged, device="cpu"), judged.labels)["top1"]


def options(trial: Trial) -> dict[str, Any]:
    """With which so few steps are enough, where none are given."""
    more: dict[str, Any] = {"hidden": 256, "queue": BATCH}
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
    """Within sixty steps the loss falls, unless a rival learns against it; the embeddings spread, and kNN finds the clusters
    better than before."""
    missing = ""
    for seed in SEEDS:
        missing = start(trial, seed)
        if not missing:
            return
    require(False, missing)


def start(trial: Trial, seed: int) -> str:
    """What it lacks in the end; "" as soon as that is nothing."""
    method = trial.make(seed=seed, n=SAMPLES, **options(trial))
    untrained = knn(trial, method.encoder)
    rate = QUEUED_RATE if trial.holds(Queue) else RATE
    step, losses = trial.stepper(method, optimizer(method, lr=rate)), list[Loss]()
    for end in LOOKS:
        losses += trial.train(step, range(len(losses), end), size=BATCH, total=STEPS, per_epoch=PER_EPOCH)
        missing = lacking(trial, method, losses, untrained)
        if not missing:
            break
    return missing


def lacking(trial: Trial, method: Method, losses: list[Loss], untrained: float) -> str:
    """What it has not learned yet; "" for nothing."""
    total = torch.stack([loss.total.detach() for loss in losses])
    first, last = float(total[1:4].mean()), float(total[-5:].mean())
    if last >= first and not losses[-1].rivals:
        return f"the loss goes from {first:g} to {last:g}"  # the first step's queue is noise
    z = losses[-1].memory.get("z")
    if z is not None:  # an objective that sees no embedding is not met by one that is the same for all
        seen = look(z.float())
        collapsed = collapse("z", seen, None, seen.dim**0.5 / 3)
        if collapsed or not seen.spread > 0.3:
            said = f"embeddings spread by {seen.spread:.2f}, where 1 is evenly"
            return said if collapsed is None else f"{collapsed.kind}: {collapsed.seen}"
    trained = knn(trial, method.encoder)
    return "" if trained > untrained + 0.08 else f"kNN finds {trained:.1%} of the clusters, and {untrained:.1%} before"
