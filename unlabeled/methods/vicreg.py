"""VICReg: views agree, every dimension varies, and no two dimensions vary together."""

from __future__ import annotations

from torch import nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.losses import vicreg
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.registry import Count, Decay, Width, register

MEASURED = {**SHORT_RUNS, "method.hidden": 1024, "method.dim": 1024}


@register(
    "vicreg",
    recipe={"views": "byol", "optimizer": {"name": "lars", "lr": 0.2, "weight_decay": 1e-6}},
    measured={"resnet": MEASURED},
)
class VICReg(Comparison):
    """VICReg: Variance-Invariance-Covariance Regularization (Bardes et al. 2022), algorithm 1.

    Its views are BYOL's with the same blur and solarisation in both; here they are BYOL's as they are. The expander's last
    layer has no bias: none of the three terms would see it.

    Args:
        invariance: λ, the weight of the views' mean squared difference (25: §4.2).
        variance: μ, the weight of the hinge on each dimension's deviation (25: §4.2).
        covariance: ν, the weight of the covariances off the diagonal (1: §4.2).
        hidden: width of the expander's two hidden layers (8192: Bardes et al. 2022).
        dim: of the embedding (8192: Bardes et al. 2022).
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        invariance: Decay = 25.0,
        variance: Decay = 25.0,
        covariance: Decay = 1.0,
        hidden: Width = 8192,
        dim: Count = 8192,
    ) -> None:
        super().__init__(encoder, shape)
        self.expander = heads.mlp(encoder.dim, hidden, hidden, dim, end="plain")
        self.weights = (invariance, variance, covariance)

    @property
    def g(self) -> nn.Module:
        """The expander."""
        return self.expander

    def embed(self, batch: Batch) -> Embedded:
        """Passes each view through the encoder."""
        v1, v2 = batch.views
        return {"h1": self.encoder(v1), "h2": self.encoder(v2)}  # (B, D)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the three terms on all processes' embeddings (eq. 6)."""
        z1, z2 = self.expander(embedded["h1"]), self.expander(embedded["h2"])  # (B, dim)
        return Loss(vicreg(gather(z1), gather(z2), *self.weights), memory={"z": z1.detach()})
