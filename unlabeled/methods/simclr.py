"""SimCLR: negatives are the other images of the batch."""

from __future__ import annotations

import torch

from unlabeled import heads
from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.losses import info_nce_bound, nt_xent
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.registry import Count, Positive, Width, register


@register("simclr", recipe={"views": "simclr", "optimizer": {"name": "lars", "lr": 0.3, "weight_decay": 1e-6}})
class SimCLR(Comparison):
    """A Simple Framework for Contrastive Learning of Visual Representations (Chen et al. 2020), algorithm 1.

    Args:
        temperature: τ of NT-Xent (0.5: appendix B.9, CIFAR-10).
        dim: of the embedding z (128: §4.2).
        hidden: width of the projector's hidden layer; 0 takes the encoder's own (§4.2).
        projector: g(h): `mlp` (one hidden layer), `linear` or `none` (figure 8).
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        temperature: Positive = 0.5,
        dim: Count = 128,
        hidden: Width = 0,
        projector: heads.Projector = "mlp",
    ) -> None:
        super().__init__(encoder, shape)
        self.temperature = temperature
        self.projector = heads.projector(projector, encoder.dim, hidden or encoder.dim, dim)

    def embed(self, batch: Batch) -> Embedded:
        """Both views through the encoder as one batch."""
        h1, h2 = self.encoder(torch.cat(batch.views)).chunk(2)  # (B, D) each
        return {"h1": h1, "h2": h2}

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Both views through the projector as one batch, then NT-Xent against all processes' embeddings."""
        h = torch.cat([embedded["h1"], embedded["h2"]])  # (2B, D)
        z1, z2 = self.projector(h).chunk(2)  # (B, dim) each
        all1, all2 = gather(z1), gather(z2)  # (N, dim) each
        loss = nt_xent(z1, z2, self.temperature, gathered=(all1, all2), offset=rank() * len(z1))
        bound = info_nce_bound(loss.detach(), 2 * len(all1) - 1)
        return Loss(loss, {"mutual_information": bound}, {"z": z1.detach()})
