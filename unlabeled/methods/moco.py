"""MoCo v1 and v2: negatives are the keys of earlier batches, from an encoder that follows slowly."""

from __future__ import annotations

from torch import nn

from unlabeled import heads
from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.losses import info_nce, info_nce_bound
from unlabeled.memory import Ema, Queue
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.registry import Count, Positive, Share, Width, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}


@register("moco-v1", recipe={"views": "moco-v1", "optimizer": SGD}, projector="linear", temperature=0.07)
@register("moco", "moco-v2", recipe={"views": "moco-v2", "optimizer": SGD})
class MoCo(Comparison):
    """Momentum Contrast (He et al. 2020), algorithm 1; v2 with an MLP projector and stronger views (Chen et al. 2020).

    The paper shuffles samples over GPUs so that queries and keys do not share the statistics of a batch norm; here the
    keys are shuffled and normalised in `splits` groups, which does the same on any number of devices.

    Args:
        queue: number of keys kept (65,536 for ImageNet: v1, §4.1; 4,096 is the authors' CIFAR-10 demonstration).
        momentum: m of the key encoder (0.999: v1, §4.1).
        temperature: τ of InfoNCE (v1: 0.07, §3.3; v2: 0.2, §3).
        dim: of queries and keys (128: v1, §3.3).
        hidden: width of the MLP projector's hidden layer; 0 takes the encoder's own (2048 for ResNet-50: v2, §3).
        projector: `linear` (v1, §3.3) or `mlp` (v2, §3).
        splits: groups of keys with batch statistics of their own (8 GPUs: v1, §3.3); 1 for one group.
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        queue: Count = 4096,
        momentum: Share = 0.999,
        temperature: Positive = 0.2,
        dim: Count = 128,
        hidden: Width = 0,
        projector: heads.Projector = "mlp",
        splits: Count = 8,
    ) -> None:
        super().__init__(encoder, shape)
        self.projector = heads.projector(projector, encoder.dim, hidden or encoder.dim, dim, norm=False)
        self.key_encoder = Ema(nn.Sequential(encoder, self.projector))
        self.queue = Queue(queue, dim)
        self.momentum, self.temperature, self.splits = momentum, temperature, splits

    def embed(self, batch: Batch) -> Embedded:
        """The first view through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """The keys: the second view through the key encoder."""
        return {"k": self.key_encoder.in_groups(batch.views[1], self.splits)}  # (B, dim), no gradient

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Queries against their keys and the queue; the current keys are handed to `observe`."""
        q, k = self.projector(embedded["h"]), embedded["k"]  # (B, dim) each
        loss = info_nce(q, self.queue.keys, k, self.temperature)
        bound = info_nce_bound(loss.detach(), len(self.queue.keys) + 1)
        return Loss(loss, {"mutual_information": bound}, {"z": q.detach(), "keys": gather(k)})

    def observe(self, loss: Loss, at: Progress) -> None:
        """Enqueues the keys of all processes."""
        self.queue.push(loss.memory["keys"])

    def after_step(self, at: Progress) -> None:
        """The key encoder follows (eq. 2)."""
        self.key_encoder.update(nn.Sequential(self.encoder, self.projector), self.momentum)
