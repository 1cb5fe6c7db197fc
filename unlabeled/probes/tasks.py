"""The classifiers of a run that learned several columns of labels, each beside a network that learned that column alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch

from unlabeled.data import Source
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.probes.base import Array, Figure, binomial
from unlabeled.probes.extract import features
from unlabeled.probes.paired import paired
from unlabeled.probes.subject import Subject
from unlabeled.registry import register


@dataclass(frozen=True)
class Told:
    """How a column of labels is told of test samples.

    Attributes:
        column: its name.
        right: (M,) of each labelled test sample, whether the shared network names its class.
        alone: (M,) likewise of the network that learned this column alone; None where there is none.
    """

    column: str
    right: Array
    alone: Array | None

    @property
    def gain(self) -> tuple[float, float]:
        """By which share the shared network is right more often, and half of its 95% interval, sample by sample."""
        assert self.alone is not None
        return paired(self.right[None], self.alone[None])


def judged(
    method: Method,
    train: Source,
    test: Source,
    *,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
) -> list[Told]:
    """Measures the classifiers of each column of labels that a method learned.

    Args:
        method: trained, on the `device`.
        train: whose columns number the classes.
        test: what is judged on.
        device: where it computes.
        precision: as `features` takes it.
    """
    found = []
    for column, networks in method.classifying().items():
        y = test.labelled_by(column, train.labelled_by(column)).labels
        known = np.flatnonzero(np.full(len(test), -1) if y is None else y >= 0)
        if y is None or not len(known):
            continue
        logits = [features(one, test, device=device, indices=known, precision=precision) for one in networks]
        right = [(one.argmax(1).numpy() == y[known]).astype(float) for one in logits]
        found.append(Told(column, right[0], right[1] if len(right) > 1 else None))
    return found


def spelled(found: list[Told], nouns: str) -> Iterator[str]:
    """Says it in a line for each column."""
    for one in found:
        said = f"{one.column}: {100 * one.right.mean():.1f}% of {len(one.right):,} test {nouns}"
        if one.alone is None:
            yield said
            continue
        gain, half = one.gain
        verdict = "better" if gain > half else "worse" if gain < -half else "no clear difference"
        yield (
            f"{said}, learned with the others; {100 * one.alone.mean():.1f}% by a network that learned it alone ({verdict}: "
            f"{100 * gain:+.1f} ± {100 * half:.1f} points)"
        )


@register("tasks")
class Tasks:
    """Accuracy of each column of labels that a run learned (`multi-task` with several --label), by the network that all
    share, and by one that learned that column alone: single-task beside multi-task learning, as Caruana 1997 reports both.
    Nothing is fitted; untrained rivals have none."""

    on_images: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_encoder: ClassVar[bool] = True
    needs_classifier: ClassVar[bool] = True
    draws: ClassVar[int] = 1

    def __init__(self) -> None:
        self.notes_: list[str] = []

    def fit(self, subject: Subject, source: Source, indices: Array, y: Array, *, seed: int) -> Self:
        """Takes the method of the subject.

        Raises:
            UserError: it learned no columns of labels.
        """
        method = None if subject.method is None else subject.method()
        if method is None or not method.classifying():
            raise UserError("this run learned no columns of labels: pretrain with --method multi-task --label A --label B")
        self.method_, self.train_ = method.to(subject.device), source
        self.device_, self.precision_ = subject.device, subject.precision
        return self

    def score(self, source: Source, indices: Array, y: Array) -> Mapping[str, Figure]:
        """Returns the share of the labelled samples of `source` that is right, by column, and of the network that learned it
        alone."""
        found = judged(self.method_, self.train_, source, device=self.device_, precision=self.precision_)
        self.notes_ = list(spelled(found, source.kind.nouns))
        figures: dict[str, Figure] = {}
        for one in found:
            each = {one.column: one.right} | ({} if one.alone is None else {f"{one.column} alone": one.alone})
            figures |= {name: Figure(float(r.mean()), binomial(float(r.mean()), len(r))) for name, r in each.items()}
        return figures
