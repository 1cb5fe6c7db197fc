"""BYOL: no negatives; predict what a slow copy of the network says of the other view."""

from __future__ import annotations

from torch import nn

from unlabeled import heads
from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.losses import byol
from unlabeled.memory import Ema
from unlabeled.methods.base import Method
from unlabeled.registry import register
from unlabeled.schedules import cosine_momentum


@register("byol", recipe={"views": "byol", "optimizer": {"name": "lars", "lr": 0.2, "weight_decay": 1.5e-6}})
class BYOL(Method):
    """Bootstrap Your Own Latent (Grill et al. 2020), algorithm 1.

    Args:
        momentum: of the target network at the start; rises to 1 along a cosine (0.996: §3.3).
        dim: of projections and predictions (256: §3.3).
        hidden: width of the hidden layers of projector and predictor (4096: §3.3).
    """

    def __init__(
        self, encoder: Encoder, shape: DataShape, *, momentum: float = 0.996, dim: int = 256, hidden: int = 4096
    ) -> None:
        super().__init__(encoder, shape)
        self.projector = heads.mlp(encoder.dim, hidden, dim)
        self.predictor = heads.mlp(dim, hidden, dim)
        self.target = Ema(nn.Sequential(encoder, self.projector))
        self.momentum = momentum

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Each view's prediction against the target's projection of the other (eq. 2, symmetrised)."""
        v1, v2 = batch.views
        z1, z2 = self.projector(self.encoder(v1)), self.projector(self.encoder(v2))  # (B, dim)
        t1, t2 = self.target(v1), self.target(v2)  # (B, dim), no gradient
        loss = byol(self.predictor(z1), t2) + byol(self.predictor(z2), t1)
        return Loss(loss, memory={"z": z1.detach()})

    def after_step(self, at: Progress) -> None:
        """The target follows (eq. 1), ever more slowly."""
        self.target.update(nn.Sequential(self.encoder, self.projector), cosine_momentum(at, self.momentum))
