"""MoCo v3: no queue; a query's candidates are the keys of its own batch, from an encoder that follows slowly."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.losses import info_nce
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.optim.schedules import cosine_momentum
from unlabeled.parts import heads
from unlabeled.parts.memory import Ema
from unlabeled.registry import Count, Positive, Share, Width, register

VIT = {"views": "byol", "optimizer": {"name": "adamw", "lr": 1.5e-4, "weight_decay": 0.1}}
RESNET = {
    "views.scale": (0.2, 1.0),
    "optimizer": {"name": "lars", "lr": 0.3, "weight_decay": 1e-6},
    "method.temperature": 1.0,
}
MEASURED = {**SHORT_RUNS, "method.hidden": 1024, "method.temperature": 0.2}


@register("moco-v3", recipe=VIT, encoders={"resnet": RESNET}, measured={"resnet": MEASURED})
class MoCoV3(Comparison):
    """An Empirical Study of Training Self-Supervised Vision Transformers (Chen, Xie & He 2021), algorithm 1.

    Options and optimiser are those of the paper's ViTs, its subject. A ResNet gets by default what the published code trains
    it with for 300 epochs: LARS (0.3, weight decay 1e-6), τ = 1, crops from 20% of the area; for 1,000 epochs the authors
    give it `--optimizer.weight-decay 1.5e-6 --method.momentum 0.996`. Where the backbone has a `patch_embed`, that stays
    random, which keeps the training of a ViT stable, and the projector has three layers; else it has two, and the predictor
    does not end with batch norm (the published code). Position embeddings are timm's, learned; the paper's are fixed sines.

    Args:
        momentum: m of the key encoder at the start; rises to 1 along a cosine (0.99: Chen, Xie & He 2021).
        temperature: τ (0.2 for ViT, 1 for ResNet, which a recipe takes for a ResNet: Chen, Xie & He 2021).
        dim: of queries and keys (256: Chen, Xie & He 2021).
        hidden: width of the hidden layers of projector and predictor (4096: Chen, Xie & He 2021).
    """

    rising = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        momentum: Share = 0.99,
        temperature: Positive = 0.2,
        dim: Count = 256,
        hidden: Width = 4096,
    ) -> None:
        super().__init__(encoder, shape)
        patches = getattr(encoder.backbone, "patch_embed", None)
        between: list[int] = [hidden]
        end: heads.End = "plain"
        if isinstance(patches, nn.Module):
            patches.requires_grad_(False)
            between, end = [hidden, hidden], "norm"
        self.projector = heads.mlp(encoder.dim, *between, dim, end="norm")
        self.predictor = heads.mlp(dim, hidden, dim, end=end)
        self.key_encoder, self.key_projector = Ema(encoder), Ema(self.projector)
        self.momentum, self.temperature = momentum, temperature

    def embed(self, batch: Batch) -> Embedded:
        """Passes each view through the encoder."""
        v1, v2 = batch.views
        return {"h1": self.encoder(v1), "h2": self.encoder(v2)}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Passes each view through the key encoder."""
        v1, v2 = batch.views
        return {"t1": self.key_encoder(v1), "t2": self.key_encoder(v2)}  # (B, D), no gradient

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Compares each view's queries with the other view's keys of all processes: ctr(q1, k2) + ctr(q2, k1)."""
        z1, z2 = self.projector(embedded["h1"]), self.projector(embedded["h2"])  # (B, dim)
        q1, q2 = self.predictor(z1), self.predictor(z2)  # (B, dim)
        k1, k2 = self.key_projector(embedded["t1"]), self.key_projector(embedded["t2"])  # (B, dim), no gradient
        return Loss(self._contrast(q1, gather(k2)) + self._contrast(q2, gather(k1)), memory={"z": z1.detach()})

    def _contrast(self, q: Tensor, keys: Tensor) -> Tensor:
        """2τ · InfoNCE, whose gradient then does not grow as τ falls."""
        own = rank() * len(q) + torch.arange(len(q), device=q.device)
        return 2 * self.temperature * info_nce(q, keys, own, self.temperature)

    def after_step(self, at: Progress) -> None:
        """Lets the key encoder follow, ever more slowly; the predictor has no copy."""
        momentum = cosine_momentum(at, self.momentum)
        self.key_encoder.update(self.encoder, momentum)
        self.key_projector.update(self.projector, momentum)
