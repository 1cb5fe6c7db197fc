"""One protocol, one amount of labels, several draws of them: the figure in a table, with its spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.data import Source, balanced_draw
from unlabeled.errors import UserError
from unlabeled.probes.base import Figure, ImageProbe, NewClassesProbe, Probe, binomial, check_classes
from unlabeled.probes.classified import Classified
from unlabeled.probes.paired import Clusters, packed, paired, unpacked
from unlabeled.probes.score import SHARES, Score
from unlabeled.probes.subject import Subject
from unlabeled.registry import Choice, build
from unlabeled.words import counted

TRAINING = "the training split"
CONFUSED = 100
"""Classes up to which who was taken for whom is kept: a million pairs of a thousand are no reading."""


def evaluate_features(
    train_h: Tensor,
    train_y: Tensor,
    test_h: Tensor,
    test_y: Tensor,
    *,
    protocol: Choice,
    amount: int | float = 1.0,
    draws: int = 10,
    seed: int = 0,
    then: Callable[[Probe, np.ndarray, np.ndarray], None] | None = None,
    clusters: Clusters | None = None,
) -> Score:
    """Fits a protocol on class-balanced draws of the labels and scores each on the whole test split.

    All training features, labelled or not, are at the protocol's disposal for statistics; test features and test labels
    reach nothing but `score`. Images with label -1 (unlabelled) are never drawn, and scored only by a protocol that needs
    no labels.

    Args:
        train_h: (N, D) float.
        train_y: (N,) int64, -1 where unlabelled.
        test_h: (M, D) float.
        test_y: (M,) int64, -1 where unlabelled.
        protocol: name of a probe and its options.
        amount: int, that many images of each class; float in (0, 1], that share of them. 1.0 needs a single draw.
        draws: how often labels are drawn, >= 1; once for a protocol that learns nothing (`fits` is False).
        seed: of the first draw; draw i has seed + i.
        then: called after the last draw with the probe, the rows (N,) it was fitted on and those (M,) it was scored on.
        clusters: of the M test samples, where they are not independent.

    Raises:
        UserError: an unknown protocol or option, a split without labels, features that are not finite, a bad amount.
    """
    probe: Probe = build("probes", protocol)
    needs_labels = getattr(probe, "needs_labels", True)
    _check(train_h, train_y, "training", needs_labels)
    _check(test_h, test_y, "test", needs_labels)
    if needs_labels:
        check_classes(train_y[train_y >= 0].cpu().numpy(), TRAINING)
    if draws < 1:
        raise UserError(f"draws = {draws}: must be at least 1")
    everything = isinstance(amount, float) and amount == 1.0
    labelled = torch.nonzero(train_y >= 0).squeeze(1).cpu()
    labels = train_y.cpu()[labelled].numpy()
    scored = (test_y >= 0) if needs_labels else torch.ones_like(test_y, dtype=torch.bool)
    test_h, test_y = test_h[scored.to(test_h.device)], test_y[scored]

    found = _Found(protocol)
    classes = int(max(train_y.max(), test_y.max())) + 1
    for draw in range(1 if everything or not getattr(probe, "fits", True) else draws):
        chosen = labelled if everything else labelled[_tensor(balanced_draw(labels, amount, seed + draw))]
        probe.fit(train_h[chosen.to(train_h.device)], train_y[chosen.to(train_y.device)], reference=train_h)
        values = probe.score(test_h, test_y)
        own: Mapping[str, float] = getattr(probe, "intervals_", {})
        spread = {name: binomial(values[name], len(test_y)) for name in SHARES if name in values} | dict(own)
        plain = getattr(probe, "plain", ())
        figures = {name: Figure(value, spread.get(name), name not in plain) for name, value in values.items()}
        found.add(probe, figures, len(chosen) if needs_labels else 0, classes)
    if then is not None:
        then(probe, chosen.numpy(), np.flatnonzero(scored.cpu().numpy()))
    alike = clusters and clusters.at(scored.cpu().numpy())
    return found.score(amount, seed, getattr(probe, "scored_", len(test_y)), alike)


def evaluate_images(
    subject: Subject,
    train: Source,
    test: Source,
    *,
    protocol: Choice,
    amount: int | float = 1.0,
    draws: int | None = None,
    seed: int = 0,
    then: Callable[[ImageProbe, np.ndarray, np.ndarray], None] | None = None,
    clusters: Clusters | None = None,
) -> Score:
    """Fits a protocol that works on images, on class-balanced draws of the labels, and scores each on the test split.

    One that needs no labels sees all images once, with label -1 where there is none.

    Args:
        subject: what is judged.
        train: labelled where the protocol needs it.
        test: likewise; its labels reach nothing but `score`.
        protocol: name of an `ImageProbe` and its options.
        amount: int, that many images of each class; float in (0, 1], that share of them. 1.0 needs a single draw.
        draws: how often labels are drawn, >= 1; None for the protocol's own.
        seed: of the first draw; draw i has seed + i.
        then: called after the last draw with the probe, the positions (N,) it was fitted on and those (M,) scored.
        clusters: of all test samples, where they are not independent.

    Raises:
        UserError: an unknown protocol or option, a split without labels, a bad amount.
    """
    probe: ImageProbe = build("probes", protocol)
    if draws is not None and draws < 1:
        raise UserError(f"draws = {draws}: must be at least 1")
    (positions, y), (scored, scored_y) = (_known(source, probe.needs_labels) for source in (train, test))
    if probe.needs_labels:
        check_classes(y, TRAINING)
    once = not probe.needs_labels or (isinstance(amount, float) and amount == 1.0)
    found = _Found(protocol)
    chosen = np.arange(len(y))
    for draw in range(1 if once else draws or probe.draws):
        chosen = chosen if once else balanced_draw(y, amount, seed + draw)
        probe.fit(subject, train, positions[chosen], y[chosen], seed=seed + draw)
        figures = probe.score(test, scored, scored_y)
        used = getattr(probe, "fitted_", len(chosen)) if probe.needs_labels else 0
        found.add(probe, figures, used, max(len(train.classes), len(test.classes)))
    if then is not None:
        then(probe, positions[chosen], scored)
    return found.score(amount, seed, getattr(probe, "scored_", len(scored)), clusters and clusters.at(scored))


def evaluate_new_classes(
    known: tuple[Tensor, Tensor] | None, new: tuple[Tensor, Tensor], *, protocol: Choice, draws: int = 10, seed: int = 0
) -> Score:
    """Fits a protocol on known classes and scores it on new ones, once for each draw.

    Args:
        known: features (N, D) and labels (N,) int64 of training images; None for a protocol that fits nothing.
        new: features (M, D) and labels (M,) of test images of other classes.
        protocol: name of a `NewClassesProbe` and its options.
        draws: how often, >= 1; once if the protocol draws for itself.
        seed: of the first draw; draw i has seed + i.

    Raises:
        UserError: an unknown protocol or option, features that are not finite, too few classes or images.
    """
    probe: NewClassesProbe = build("probes", protocol)
    if draws < 1:
        raise UserError(f"draws = {draws}: must be at least 1")
    for split, (h, _) in {**({"training": known} if known else {}), "test": new}.items():
        _check_finite(h, split)
    found, done = _Found(protocol), 0
    while done < draws and not (done and found.intervals):
        if known is not None:
            probe.fit(*known, seed=seed + done)
        found.add(probe, probe.score(*new, seed=seed + done), probe.labelled_)
        done += 1
    if done == 1:
        for name in SHARES:
            if name in found.metrics:
                found.intervals.setdefault(name, binomial(found.metrics[name][0], len(new[1])))
    return found.score(1.0, seed, len(new[1]))


@dataclass
class _Found:
    """What the draws of one protocol gave, and the score in the end."""

    protocol: Choice
    metrics: dict[str, list[float]] = field(default_factory=dict)
    intervals: dict[str, float] = field(default_factory=dict)
    plain: dict[str, None] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    used: list[int] = field(default_factory=list)
    each: list[str] = field(default_factory=list)
    guess: dict[str, float] = field(default_factory=dict)
    confusion: Any = 0
    also: dict[str, list[str]] = field(default_factory=dict)
    constant: list[bool] = field(default_factory=list)
    chosen: dict[str, list[float]] = field(default_factory=dict)

    def add(self, probe: Any, figures: Mapping[str, Figure], used: int, classes: int = 0) -> None:
        """Adds a draw: what the probe found, and from how many labels."""
        said: Classified | None = getattr(probe, "classified_", None)
        for name, figure in {**figures, **(said.figures() if said else {})}.items():
            self.metrics.setdefault(name, []).append(figure.value)
            self.plain |= {} if figure.share else {name: None}
            self.intervals |= {} if figure.interval is None else {name: figure.interval}
        self.used.append(used)
        self.notes |= dict.fromkeys(probe.notes_)
        for option, value in getattr(probe, "chosen_", {}).items():
            self.chosen.setdefault(option, []).append(value)
        if said:
            check_classes(said.truth, "the test split")
            self.each.append(packed(said.right))
            self.constant.append(said.constant)
            for name, values in said.each().items():
                self.also.setdefault(name, []).append(packed(values))
            self.guess = {name: value for name, value in said.guess().items() if name in self.metrics}
            if classes <= CONFUSED:
                self.confusion = self.confusion + said.confusion(classes)
        elif hasattr(probe, "each_"):
            self.each.append(packed(probe.each_))

    def score(self, amount: int | float, seed: int, tested: int, clusters: Clusters | None = None) -> Score:
        """With a note where a figure is a single value, of which no spread is known; and where test samples are not
        independent, of which intervals are as wide as whole clusters of them differ."""
        alone = len(self.used) == 1
        known = clusters and self.each and len(unpacked(self.each[0])) == len(clusters.of)
        alike = clusters if known else None
        several = alike is None or self._widen(alike)
        bare = [name for name in self.metrics if alone and name not in self.intervals]
        if bare and several:
            said = f"{self.protocol.name}: no interval: {', '.join(bare)} of one image, start or draw; give more of them"
            self.notes[said] = None
        return Score(
            self.protocol.name, self.protocol.options, amount, len(self.used), seed, self.used, tested, self.metrics,
            list(self.notes), self.intervals if alone else {}, list(self.plain), self.each, self.guess,
            self.confusion.tolist() if isinstance(self.confusion, np.ndarray) else [], self.also,
            bool(self.constant) and all(self.constant), self.chosen,
            packed(np.unique(alike.of, return_inverse=True)[1]) if alike else "",
        )  # fmt: skip

    def _widen(self, clusters: Clusters) -> bool:
        """Makes each interval as wide as by clusters, and says it; those of figures that are not known for each sample by as
        much as that of the first. Returns whether there are several clusters: there is no interval of one."""
        first = next(iter(self.metrics))
        texts = {first: self.each[0], **{name: texts[0] for name, texts in self.also.items()}}
        wide = {name: paired(unpacked(text)[None], np.zeros(1), clusters.of)[1] for name, text in texts.items()}
        more = wide[first] / self.intervals[first] if first in self.intervals else 1.0
        grown = {name: max(half, wide.get(name, more * half)) for name, half in self.intervals.items()}
        self.intervals = {name: half for name, half in grown.items() if math.isfinite(half)}
        count, which = len(np.unique(clusters.of)), "intervals" if len(self.used) == 1 else "intervals of differences"
        said = f"{which} are of {counted(count, 'clusters')} by {clusters.by}, whose samples are not independent"
        self.notes[f"no interval: all that is tested on shares one {clusters.by}" if count < 2 else said] = None
        return count > 1


def _known(source: Source, labelled: bool) -> tuple[np.ndarray, np.ndarray]:
    """Positions and labels of the images that can be read, -1 for no label; only labelled ones if so asked."""
    y = np.full(len(source), -1, np.int64) if source.labels is None else source.labels
    kept = np.flatnonzero(source.good() & ((y >= 0) | (not labelled)))
    if not len(kept):
        raise UserError(f"{source.name!r} has no labels: this protocol needs some")
    return kept, y[kept]


def _check(h: Tensor, y: Tensor, split: str, needs_labels: bool) -> None:
    if needs_labels and not bool((y >= 0).any()):
        raise UserError(f"the {split} split has no labels: evaluation needs some")
    _check_finite(h, split)


def _check_finite(h: Tensor, split: str) -> None:
    if not bool(h.isfinite().all()):
        raise UserError(
            f"the features of the {split} split are not finite (NaN or infinity): the run diverged; "
            "use an earlier checkpoint, or pretrain again with a smaller learning rate"
        )


def _tensor(positions: Any) -> Tensor:
    return torch.as_tensor(np.asarray(positions), dtype=torch.int64)
