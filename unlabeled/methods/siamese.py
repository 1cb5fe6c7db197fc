"""Siamese network: two images of one class lie together, two of different classes at least a margin apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.losses import contrastive
from unlabeled.methods.base import Comparison, Embedded, needs_classes
from unlabeled.parts import heads
from unlabeled.registry import Count, Positive, Width, register


@register("siamese", recipe={"views": "crop", "optimizer": "sgd"})
class Siamese(Comparison):
    """Contrastive loss on pairs (Chopra et al. 2005; in the form of Hadsell et al. 2006), as many of one class as of two.

    Each image of the batch is paired with the next one of its class and with the next one of another; the batch comes
    shuffled, so both are random. An image without either kind of partner costs nothing.

    The papers leave margin and scale of the embedding to each other. Where the first distances are much larger than the
    margin, everything is drawn to one point before different classes repel; so embeddings are brought to length 1.

    Args:
        margin: m, the distance from which on different classes are left alone (any m > 0: Hadsell et al. 2006, eq. 4).
        normalize: whether embeddings are brought to length 1, as later networks do (Schroff et al. 2015, §3.1); without, the
            margin must be about as large as the first distances.
        dim: of the embedding (128 as in Schroff et al. 2015, table 5; 2 to draw it: Hadsell et al. 2006).
        hidden: width of the projector's hidden layer, if it has one; 0 takes the encoder's own (Chen et al. 2020, §4.2).
        projector: from h to the embedding: `linear`, the last layer of a network (Chopra et al. 2005, §3); `mlp`; or `none`,
            and h itself is the embedding.
    """

    n_views = 1

    needs_labels = True
    only_labelled = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        margin: Positive = 1.0,
        normalize: bool = True,
        dim: Count = 128,
        hidden: Width = 0,
        projector: heads.Projector = "linear",
    ) -> None:
        super().__init__(encoder, shape)
        needs_classes("siamese", shape)
        self.margin, self.normalize = margin, normalize
        self.projector = heads.projector(projector, encoder.dim, hidden or encoder.dim, dim)

    def embed(self, batch: Batch) -> Embedded:
        """Passes the images through the encoder: the two networks of the paper are one."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Returns their classes."""
        return {"label": batch.targets["label"]}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the mean of eq. 4 over pairs of both kinds; zero where no two images are of one class."""
        z, label = self.projector(embedded["h"]), embedded["label"]  # (B, dim), (B,)
        z = F.normalize(z.float(), dim=1) if self.normalize else z
        others, labels = gather(z), gather(label)  # (N, dim), (N,)
        own = rank() * len(z) + torch.arange(len(z), device=z.device)  # (B,), where each is in `others`
        same = (label[:, None] == labels).scatter(1, own[:, None], False)  # (B, N), but itself
        different = label[:, None] != labels
        paired = same.any(1) & different.any(1)  # (B,)
        x, y = z.repeat(2, 1), others[torch.cat([_next(same, own), _next(different, own)])]  # (2B, dim) each
        alike = torch.arange(2 * len(z), device=z.device) < len(z)
        costs = contrastive(x, y, alike, self.margin, reduction="none")  # (2B,)
        return Loss(costs.where(paired.repeat(2), 0).mean(), memory={"z": z.detach()})


def _next(wanted: Tensor, own: Tensor) -> Tensor:
    """For each row of (B, N) the first column that is wanted, cyclically from column `own` (B,) on; (B,) int64."""
    n = wanted.shape[1]
    ahead = (torch.arange(n, device=own.device)[None] - own[:, None] - 1).remainder(n)
    return ahead.to(torch.int32).masked_fill(~wanted, n).argmin(1)
