"""NMB: the plain memory bank. Tell an image's last vector from those of other images."""

from __future__ import annotations

from torch import nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.losses import info_nce, info_nce_bound
from unlabeled.methods.base import Comparison, Embedded, Extract
from unlabeled.parts import heads
from unlabeled.parts.memory import Bank
from unlabeled.registry import Count, Positive, Sampled, Share, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}


@register("nmb", recipe={"views": "instance", "optimizer": SGD})
class NMB(Comparison):
    """Naive memory bank: the mechanism of figure 2b of MoCo (He et al. 2020), trained with InfoNCE.

    Before the first epoch the untrained network fills the bank, in evaluation mode; its batch norms change nothing yet.
    Its vectors are near each other then, as those of an untrained network are, but differ; training parts them. Negatives
    are one draw for the whole batch, from the images that are not in it.

    Args:
        negatives: drawn vectors of other images (4,096: Wu et al. 2018); fewer where the bank holds fewer.
        temperature: τ of InfoNCE (0.07: Wu et al. 2018).
        momentum: share of a bank's vector that stays when its image is seen (0.5: Wu et al. 2018, published code).
        dim: of a vector (128: Wu et al. 2018).
    """

    n_views = 1

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        negatives: Sampled = 4096,
        temperature: Positive = 0.07,
        momentum: Share = 0.5,
        dim: Count = 128,
    ) -> None:
        super().__init__(encoder, shape)
        self.projector = heads.projector("linear", encoder.dim, 0, dim)
        self.bank = Bank(shape.n, dim)
        self.negatives, self.temperature, self.momentum = negatives, temperature, momentum

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Makes the warm-up pass: what the untrained network says of each image."""
        if at.epoch == 0:
            self.bank.fill(extract(nn.Sequential(self.encoder, self.projector)))

    def embed(self, batch: Batch) -> Embedded:
        """Passes the view through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Tells which images they are."""
        return {"index": batch.index}  # (B,)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes InfoNCE of v with the image's own vector in the bank, against drawn ones; v is handed to `observe`."""
        v, index = self.projector(embedded["h"]), embedded["index"]  # (B, dim), (B,)
        everyone = gather(index)  # (N,)
        negatives = self.bank.draw(self.negatives, everyone, at.generator())  # (M, dim)
        loss = info_nce(v, negatives, self.bank.of(index), self.temperature)
        bound = info_nce_bound(loss.detach(), len(negatives) + 1)
        memory = {"z": v.detach(), "index": everyone, "vectors": gather(v.detach())}
        return Loss(loss, {"mutual_information": bound}, memory)

    def observe(self, loss: Loss, at: Progress) -> None:
        """Moves the bank's vectors to the images of all processes."""
        self.bank.write(loss.memory["index"], loss.memory["vectors"], self.momentum)
