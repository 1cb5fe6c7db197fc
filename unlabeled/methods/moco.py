"""MoCo v1 and v2: negatives are the keys of earlier batches, from an encoder that follows slowly."""

from __future__ import annotations

from torch import nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import info_nce, info_nce_bound, mixed_negatives
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.parts.memory import Ema, Queue
from unlabeled.registry import Count, Positive, Sampled, SampledOrNone, Share, Width, register

SGD = {"name": "sgd", "lr": 0.03, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}
MEASURED = {"resnet": SHORT_RUNS}


@register(
    "moco-v1", recipe={"views": "moco-v1", "optimizer": SGD}, measured=MEASURED, projector="linear",
    says="Momentum Contrast as it was first published (He et al. 2020), algorithm 1: a linear projector and weaker views.",
)  # fmt: skip
@register(
    "mochi", recipe={"views": "moco-v2", "optimizer": SGD}, measured=MEASURED,
    hardest=1024, mixed=512, query_mixed=256, mix_from=10,
    says="Hard Negative Mixing for Contrastive Learning (Kalantidis et al. 2020): MoCo v2 with harder negatives.",
)  # fmt: skip
@register(
    "moco-v2", recipe={"views": "moco-v2", "optimizer": SGD}, measured=MEASURED,
    says="Momentum Contrast v2 (Chen et al. 2020): another name of moco.",
)  # fmt: skip
@register("moco", recipe={"views": "moco-v2", "optimizer": SGD}, measured=MEASURED)
class MoCo(Comparison):
    """Momentum Contrast (He et al. 2020), algorithm 1; v2 with an MLP projector and stronger views (Chen et al. 2020).

    `mochi` is v2 with negatives mixed from the hardest ones (Kalantidis et al. 2020), one of whose settings is (N, s, s') =
    (1024, 512, 256).

    The paper shuffles samples over GPUs so that queries and keys do not share the statistics of a batch norm; here the
    keys are shuffled and normalised in `splits` groups, which does the same on any number of devices.

    Queue, momentum, temperature and weight decay are those of the authors' CIFAR-10 demonstration, for some ten thousand
    images. The papers' are for ImageNet's 1.28 million: `--method.queue 65536 --method.momentum 0.999
    --method.temperature 0.2 --optimizer.weight-decay 1e-4` (0.07 in v1).

    Args:
        queue: number of keys kept, at most one for each image (4,096: CIFAR-10 demonstration; 65,536: v1, §4.1).
        momentum: m of the key encoder (0.99: CIFAR-10 demonstration; 0.999: v1, §4.1).
        temperature: τ of InfoNCE (0.1: CIFAR-10 demonstration; 0.07: v1, §3.3; 0.2: v2, §3).
        dim: of queries and keys (128: v1, §3.3).
        hidden: width of the MLP projector's hidden layer; 0 takes the encoder's own (2048 for ResNet-50: v2, §3).
        projector: `linear` (v1, §3.3) or `mlp` (v2, §3).
        splits: groups of keys with batch statistics of their own (8 GPUs: v1, §3.3); 1 for one group.
        hardest: N, keys nearest to a query that are mixed; 0 for none (1,024 of 16,384 or more: Kalantidis et al. 2020, §4).
        mixed: s, negatives mixed from two of those (Kalantidis et al. 2020, eq. 3).
        query_mixed: s', negatives mixed from one of those and the query (Kalantidis et al. 2020, eq. 4).
        mix_from: first epoch that mixes (10 of 200 on ImageNet-100: Kalantidis et al. 2020, §4).
    """

    groups_batch = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        queue: Sampled = 4096,
        momentum: Share = 0.99,
        temperature: Positive = 0.1,
        dim: Count = 128,
        hidden: Width = 0,
        projector: heads.Projector = "mlp",
        splits: Count = 8,
        hardest: SampledOrNone = 0,
        mixed: Width = 0,
        query_mixed: Width = 0,
        mix_from: Width = 0,
    ) -> None:
        super().__init__(encoder, shape)
        if hardest > queue:
            raise UserError(
                f"--method.hardest {hardest} is more than the {queue} keys of the queue: give less, or more --method.queue"
            )
        if bool(hardest) != bool(mixed + query_mixed):
            raise UserError(
                f"--method.hardest {hardest} with --method.mixed {mixed} and --method.query-mixed {query_mixed} "
                "mixes nothing: mixing takes the hardest keys and a number to mix of them, such as 1024, 512 and 256"
            )
        self.projector = heads.projector(projector, encoder.dim, hidden or encoder.dim, dim, norm=False)
        self.key_encoder = Ema(nn.Sequential(encoder, self.projector))
        self.queue = Queue(queue, dim)
        self.momentum, self.temperature, self.splits = momentum, temperature, splits
        self.hardest, self.mixed, self.query_mixed, self.mix_from = hardest, mixed, query_mixed, mix_from

    def full_cost_from(self, epochs: int) -> int:
        """Returns the first epoch that mixes."""
        return self.mix_from if self.hardest else 0

    def embed(self, batch: Batch) -> Embedded:
        """Passes the first view through the encoder."""
        return {"h": self.encoder(batch.views[0])}  # (B, D)

    def constants(self, batch: Batch) -> Embedded:
        """Returns the keys: the second view through the key encoder."""
        return {"k": self.key_encoder.in_groups(batch.views[1], self.splits)}  # (B, dim), no gradient

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Compares queries with their keys and the queue; the current keys are handed to `observe`."""
        q, k = self.projector(embedded["h"]), embedded["k"]  # (B, dim) each
        further = None
        if self.hardest and at.epoch >= self.mix_from:
            counts = self.hardest, self.mixed, self.query_mixed
            further = mixed_negatives(q, self.queue.keys, *counts, generator=at.generator())  # (B, s + s', dim)
        loss = info_nce(q, self.queue.keys, k, self.temperature, further=further)
        bound = info_nce_bound(loss.detach(), len(self.queue.keys) + 1)
        return Loss(loss, {"mutual_information": bound}, {"z": q.detach(), "keys": gather(k)})

    def observe(self, loss: Loss, at: Progress) -> None:
        """Enqueues the keys of all processes."""
        self.queue.push(loss.memory["keys"])

    def after_step(self, at: Progress) -> None:
        """Lets the key encoder follow (eq. 2)."""
        self.key_encoder.update(nn.Sequential(self.encoder, self.projector), self.momentum)
