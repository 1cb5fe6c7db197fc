"""Barlow Twins: the views' embeddings agree dimension by dimension, and no two dimensions say the same."""

from __future__ import annotations

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.losses import barlow_twins
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.registry import Count, Decay, Width, register

LARS = {"name": "lars", "lr": 0.4, "weight_decay": 1.5e-6, "vector_factor": 0.024}
MEASURED = {**SHORT_RUNS, "method.hidden": 1024, "method.dim": 1024}


@register("barlow", recipe={"views": "byol", "optimizer": LARS}, measured={"resnet": MEASURED})
class BarlowTwins(Comparison):
    """Barlow Twins: Self-Supervised Learning via Redundancy Reduction (Zbontar et al. 2021), algorithm 1.

    The learning rate is the authors' for batches of 256 and 300 epochs (0.4, in their repository's issue 7; 0.2 for 2,048);
    that of biases and batch norms is 0.024 of it, as 0.0048 is of 0.2 in the published code. The last layer has no bias: a
    correlation would not see it.

    Args:
        redundancy: λ, the weight of what is off the diagonal (5e-3: §2.2).
        hidden: width of the projector's two hidden layers (8192: Zbontar et al. 2021).
        dim: of the embedding (8192: Zbontar et al. 2021).
    """

    def __init__(
        self, encoder: Encoder, shape: DataShape, *, redundancy: Decay = 5e-3, hidden: Width = 8192, dim: Count = 8192
    ) -> None:
        super().__init__(encoder, shape)
        self.projector = heads.mlp(encoder.dim, hidden, hidden, dim, end="plain")
        self.redundancy = redundancy

    def embed(self, batch: Batch) -> Embedded:
        """Passes each view through the encoder."""
        v1, v2 = batch.views
        return {"h1": self.encoder(v1), "h2": self.encoder(v2)}  # (B, D)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the cross-correlation of all processes' embeddings against the identity (eqs. 1, 2)."""
        z1, z2 = self.projector(embedded["h1"]), self.projector(embedded["h2"])  # (B, dim)
        return Loss(barlow_twins(gather(z1), gather(z2), self.redundancy), memory={"z": z1.detach()})
