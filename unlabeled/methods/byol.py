"""BYOL: no negatives; predict what a slow copy of the network says of the other view."""

from __future__ import annotations

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.losses import byol
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.optim.schedules import cosine_momentum
from unlabeled.parts import heads
from unlabeled.parts.memory import Ema
from unlabeled.registry import Count, Share, Width, register

MEASURED = {**SHORT_RUNS, "method.hidden": 1024}


@register(
    "byol",
    recipe={"views": "byol", "optimizer": {"name": "lars", "lr": 0.45, "weight_decay": 1e-6}},
    measured={"resnet": MEASURED},
)
class BYOL(Comparison):
    """Bootstrap Your Own Latent (Grill et al. 2020), algorithm 1.

    Optimiser and momentum are those of the published code for 100 epochs. It trains 300 with `--optimizer.lr 0.3`, and 1,000
    with `--optimizer.lr 0.2 --optimizer.weight-decay 1.5e-6 --method.momentum 0.996` (§3.3).

    Args:
        momentum: τ of the target network, at the start if it rises (0.99: published code, 100 epochs). 0: the target is the
            online network of the last step; 1: it stays random (table 5a).
        rising: whether the momentum rises to 1 along a cosine (§3.3); false keeps it, as in the ablation of table 5a.
        dim: of projections and predictions (256: §3.3).
        hidden: width of the hidden layers of projector and predictor (4096: §3.3).
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        momentum: Share = 0.99,
        rising: bool = True,
        dim: Count = 256,
        hidden: Width = 4096,
    ) -> None:
        super().__init__(encoder, shape)
        self.projector = heads.mlp(encoder.dim, hidden, dim)
        self.predictor = heads.mlp(dim, hidden, dim)
        self.target_encoder, self.target_projector = Ema(encoder), Ema(self.projector)
        self.momentum, self.rising = momentum, rising

    def embed(self, batch: Batch) -> Embedded:
        """Passes each view through the online encoder."""
        v1, v2 = batch.views
        return {"h1": self.encoder(v1), "h2": self.encoder(v2)}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Passes each view through the target's encoder."""
        v1, v2 = batch.views
        return {"t1": self.target_encoder(v1), "t2": self.target_encoder(v2)}  # (B, D), no gradient

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Compares each view's prediction with the target's projection of the other (eq. 2, symmetrised)."""
        z1, z2 = self.projector(embedded["h1"]), self.projector(embedded["h2"])  # (B, dim)
        t1, t2 = self.target_projector(embedded["t1"]), self.target_projector(embedded["t2"])  # (B, dim), no gradient
        loss = byol(self.predictor(z1), t2) + byol(self.predictor(z2), t1)
        return Loss(loss, memory={"z": z1.detach()})

    def after_step(self, at: Progress) -> None:
        """Lets the target follow (eq. 1), ever more slowly if the momentum rises."""
        momentum = cosine_momentum(at, self.momentum) if self.rising else self.momentum
        self.target_encoder.update(self.encoder, momentum)
        self.target_projector.update(self.projector, momentum)
