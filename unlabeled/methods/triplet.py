"""Triplet network: an image lies nearer to each of its class than to any other, by a margin."""

from __future__ import annotations

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.losses import batch_triplet
from unlabeled.losses.mining import Mining
from unlabeled.methods.base import Comparison, Embedded, needs_classes
from unlabeled.parts import heads
from unlabeled.registry import Count, Positive, Width, register

SGD = {"name": "sgd", "lr": 0.05}  # FaceNet, §3.3: SGD, with AdaGrad, from 0.05 on


@register("triplet", recipe={"views": "crop", "optimizer": SGD})
class Triplet(Comparison):
    """FaceNet (Schroff et al. 2015): triplets of labelled images, mined within the batch (§3.2).

    All pairs of a class are anchor and positive, and each takes a negative of the batch: the batch should hold several
    images of a class (about 40 in §3.2). Memory grows with pairs × batch.

    Args:
        margin: α, between squared distances on the unit sphere (0.2: §3.3).
        mining: which negatives count: `semi-hard`, the nearest that is farther than the positive (§3.2); `hardest`; `all`;
            or `distance-weighted` (Wu et al. 2017, §3.2).
        dim: of the embedding (128: table 5).
        hidden: width of the projector's hidden layer, if it has one; 0 takes the encoder's own (Chen et al. 2020, §4.2).
        projector: from h to the embedding: `linear`, the last layer of the paper's networks (tables 1 and 2); `mlp`; or
            `none`, and h itself is the embedding.
    """

    n_views = 1

    needs_labels = True
    only_labelled = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        margin: Positive = 0.2,
        mining: Mining = "semi-hard",
        dim: Count = 128,
        hidden: Width = 0,
        projector: heads.Projector = "linear",
    ) -> None:
        super().__init__(encoder, shape)
        needs_classes("triplet", shape)
        self.margin, self.mining = margin, mining
        self.projector = heads.projector(projector, encoder.dim, hidden or encoder.dim, dim)

    def embed(self, batch: Batch) -> Embedded:
        """Passes the images through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Returns their classes."""
        return {"label": batch.targets["label"]}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the mean of eq. 3 over all anchors and positives, ‖z‖ = 1 (§3.1); zero where no two images are of one
        class."""
        z, label = self.projector(embedded["h"]), embedded["label"]  # (B, dim), (B,)
        everyone = gather(z), gather(label)
        loss = batch_triplet(
            z, label, self.margin, mining=self.mining, normalize=True, gathered=everyone, offset=rank() * len(z)
        )
        return Loss(loss, memory={"z": z.detach()})
