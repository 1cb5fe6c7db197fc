"""The classifier that a run learned itself, from the labels that its method saw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch

from unlabeled.data import Source
from unlabeled.errors import UserError
from unlabeled.probes.base import Array, Figure, binomial
from unlabeled.probes.classified import Classified, classified
from unlabeled.probes.extract import features
from unlabeled.probes.subject import Subject
from unlabeled.registry import register


@register("classifier")
class OwnClassifier:
    """Accuracy of the classifier that came out of the training itself (`supervised`, `fixmatch`, a fine-tuned run): what the
    papers of semi-supervised learning report (Sohn et al. 2020, table 2). Nothing is fitted; untrained rivals have none."""

    on_images: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_encoder: ClassVar[bool] = True
    needs_classifier: ClassVar[bool] = True
    draws: ClassVar[int] = 1

    def __init__(self) -> None:
        self.notes_: list[str] = []
        self.classified_: Classified

    def fit(self, subject: Subject, source: Source, indices: Array, y: Array, *, seed: int) -> Self:
        """Takes the classifier of the subject.

        Raises:
            UserError: it has none.
        """
        if subject.classifier is None:
            raise UserError(
                "this run has no classifier, as its method learns no labels: give --protocol linear or finetune:10%, or a "
                "run of supervised, fixmatch or evaluate --keep"
            )
        self.model_, self.device_, self.precision_ = (
            subject.classifier().to(subject.device),
            subject.device,
            subject.precision,
        )
        return self

    def score(self, source: Source, indices: Array, y: Array) -> Mapping[str, Figure]:
        """Returns the share `top1` of the labelled samples at `indices` (M,) whose class it names; of classes by their name.

        Raises:
            UserError: no labelled sample, or classes that it does not know.
        """
        known = {name: place for place, name in enumerate(self.model_.classes)}
        strange = [name for name in source.classes if name not in known]
        labelled = y >= 0
        if not labelled.any() or strange:
            reason = f"it has class {strange[0]!r}, which the classifier does not know" if strange else "it has no labels"
            raise UserError(f"{source.name!r} cannot judge the classifier: {reason}")
        wanted = np.array([known[name] for name in source.classes])[y[labelled]]
        logits = features(self.model_, source, device=self.device_, indices=indices[labelled], precision=self.precision_)
        self.classified_ = classified(torch.from_numpy(wanted), logits.double().softmax(1), torch.arange(logits.shape[1]))
        share = float(self.classified_.right.mean())
        return {"top1": Figure(share, binomial(share, len(wanted)))}
