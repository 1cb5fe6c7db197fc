"""FixMatch: what the network is sure of in a weak view of an unlabelled sample, it must say of a strong view too."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.methods.base import Method, needs_classes
from unlabeled.parts.heads import LinearClassifier
from unlabeled.registry import Count, Positive, Share, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}
RECIPE = {"views": "weak-strong", "optimizer": SGD, "lr_scaling": "none", "ema": 0.999, "batch_size": 448}
FALLS = {"schedule": "part-of-cosine"}


@register("fixmatch", recipe=RECIPE)
class FixMatch(Method):
    """FixMatch (Sohn et al. 2020), algorithm 1.

    The batch size counts unlabelled samples, μB; B labelled ones go beside them. The labelled samples are among the
    unlabelled ones too, as in the published code. All B + 2μB views go through the network at once, whose batch norms so see
    all of them. The learning rate 0.03 is for B = 64 and does not follow the batch size; it falls along cos(7πk/16K).

    Args:
        mu: μ, unlabelled samples for each labelled one (7: Sohn et al. 2020, §4.1).
        threshold: τ, probability from which a prediction is a pseudo-label (0.95: Sohn et al. 2020, §4.1).
        weight: λ of the unlabelled samples' loss (1: Sohn et al. 2020, §4.1).
    """

    n_views = 2
    adds_up = True
    parts = MappingProxyType({"encoder": FALLS, "classifier": FALLS})

    def __init__(
        self, encoder: Encoder, shape: DataShape, *, mu: Count = 7, threshold: Share = 0.95, weight: Positive = 1.0
    ) -> None:
        super().__init__(encoder, shape)
        needs_classes("fixmatch", shape)
        self.classifier = LinearClassifier(encoder.dim, shape.classes)
        self.mu, self.threshold, self.weight = mu, threshold, weight

    @property
    def label_head(self) -> LinearClassifier:
        """The classifier."""
        return self.classifier

    def labelled_beside(self, batch_size: int) -> int:
        """Asks for B beside a batch of μB."""
        return max(1, batch_size // self.mu)

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes ℓ_s + λ ℓ_u (eq. 3 and 4): cross-entropies of labelled weak views, and of strong views with the
        pseudo-labels of weak ones, 0 where the network is not sure."""
        assert batch.labelled is not None
        label = batch.labelled.targets["label"]  # (B,)
        weak, strong = batch.views  # (μB, ...)
        views = torch.cat([batch.labelled.views[0], weak, strong])
        logits: Tensor = self.classifier(self.encoder(views)).float()  # (B + 2μB, K)
        of_labelled, of_weak, of_strong = torch.split(logits, [len(label), len(weak), len(strong)])
        supervised = F.cross_entropy(of_labelled, label)
        sure, pseudo = of_weak.detach().softmax(1).max(1)  # (μB,) each
        mask = (sure >= self.threshold).float()
        unlabelled = (F.cross_entropy(of_strong, pseudo, reduction="none") * mask).mean()
        terms = {"labelled": supervised.detach(), "unlabelled": unlabelled.detach(), "sure": mask.mean()}
        return Loss(supervised + self.weight * unlabelled, terms)
