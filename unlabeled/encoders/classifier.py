"""An encoder with the linear classifier that was trained on it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from unlabeled.encoders.encoder import Encoder
from unlabeled.parts.heads import LinearClassifier


class Classifier(nn.Module):
    """Raw samples (B, ...) of the encoder's kind -> logits (B, K) float32, one for each class.

    Args:
        encoder: as it was trained, that is without whitening.
        head: what was trained on it.
        classes: names of the K classes.
    """

    def __init__(self, encoder: Encoder, head: LinearClassifier, classes: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.head, self.classes = encoder, head, tuple(classes)

    def forward(self, x: Tensor) -> Tensor:
        """Maps samples to logits; their softmax are probabilities.

        Raises:
            UserError: samples of another shape.
        """
        return self.head(self.encoder(x)).float()  # type: ignore[no-any-return]
