"""The two baselines of every table: an encoder that learned nothing, and one that was told the labels."""

from __future__ import annotations

from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.methods.base import Method, needs_classes
from unlabeled.parts.heads import LinearClassifier
from unlabeled.registry import register


@register("random", recipe={"views": "none"})
class Random(Method):
    """The untrained encoder: nothing is trainable, so the loop takes no step. What a method must beat.

    Random convolutions alone are no weak baseline (Saxe et al. 2011, "On random weights and unsupervised feature learning").
    """

    sees = ("image", "sound")
    n_views = 1

    def __init__(self, encoder: Encoder, shape: DataShape) -> None:
        super().__init__(encoder.requires_grad_(False), shape)

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Returns zero: there is nothing to learn."""
        return Loss(batch.views[0].new_zeros(()))


@register("supervised", recipe={"views": "crop"})
class Supervised(Method):
    """Cross-entropy with the labels, from one mildly augmented view: what labels would have given (He et al. 2016, §4.2).

    Args:
        scaled: whether the classifier begins at zero on features that a batch norm without weights brings to one scale, as
            fine-tuning has it (He et al. 2022, "Masked Autoencoders", appendix A).
    """

    sees = ("image", "sound")
    n_views = 1
    needs_labels = True
    only_labelled = True
    adds_up = True

    def __init__(self, encoder: Encoder, shape: DataShape, *, scaled: bool = False) -> None:
        super().__init__(encoder, shape)
        needs_classes("supervised", shape)
        self.classifier = LinearClassifier(encoder.dim, shape.classes, scaled=scaled)

    @property
    def label_head(self) -> LinearClassifier:
        """The classifier."""
        return self.classifier

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the mean cross-entropy of the batch's labels."""
        h = self.encoder(batch.views[0])  # (B, D)
        logits, label = self.classifier(h).float(), batch.targets["label"]
        correct = (logits.detach().argmax(1) == label).float().mean()
        return Loss(F.cross_entropy(logits, label), {"accuracy": correct})
