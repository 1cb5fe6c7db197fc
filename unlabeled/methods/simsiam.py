"""SimSiam: no negatives and no momentum; predict the other view's projection, whose gradient is stopped."""

from __future__ import annotations

from types import MappingProxyType

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.losses import byol
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.registry import Count, Width, register

SGD = {"name": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}
MEASURED = {**SHORT_RUNS, "method.hidden": 1024, "method.dim": 1024}


@register("simsiam", recipe={"views": "moco-v2", "optimizer": SGD}, measured={"resnet": MEASURED})
class SimSiam(Comparison):
    """Exploring Simple Siamese Representation Learning (Chen & He 2021), algorithm 1.

    The batch norm after the projector's last layer has no scale and shift, as in the published code. The learning rate of
    the predictor is constant: it is not decayed, and has no warm-up either.

    Args:
        hidden: width of the projector's two hidden layers (2048: Chen & He 2021).
        dim: of projections and predictions (2048: Chen & He 2021).
        bottleneck: width of the predictor's hidden layer; 0 takes a quarter of `dim` (512 of 2048: Chen & He 2021).
    """

    parts = MappingProxyType({"predictor": {"schedule": "constant"}})

    def __init__(
        self, encoder: Encoder, shape: DataShape, *, hidden: Width = 2048, dim: Count = 2048, bottleneck: Width = 0
    ) -> None:
        super().__init__(encoder, shape)
        self.projector = heads.mlp(encoder.dim, hidden, hidden, dim, end="norm")
        self.predictor = heads.mlp(dim, bottleneck or max(1, dim // 4), dim)

    def embed(self, batch: Batch) -> Embedded:
        """Passes each view through the encoder."""
        v1, v2 = batch.views
        return {"h1": self.encoder(v1), "h2": self.encoder(v2)}  # (B, D)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes ½ D(p1, stop(z2)) + ½ D(p2, stop(z1)), D the negative cosine: ‖p/‖p‖ - z/‖z‖‖²/2 - 1."""
        z1, z2 = self.projector(embedded["h1"]), self.projector(embedded["h2"])  # (B, dim)
        p1, p2 = self.predictor(z1), self.predictor(z2)  # (B, dim)
        loss = (byol(p1, z2) + byol(p2, z1)) / 4 - 1  # byol stops the gradient of its target
        return Loss(loss, memory={"z": z1.detach()})
