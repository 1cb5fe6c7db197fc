"""SwAV: predict from one view to which prototypes another view of the image was assigned."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import sinkhorn, swapped_prediction
from unlabeled.losses.similarity import dot
from unlabeled.methods.base import SHORT_RUNS, Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.parts.clustering import check_prototypes
from unlabeled.parts.memory import Queue
from unlabeled.registry import Count, Positive, SampledOrNone, Width, register

CODED = 2
"""Views that get a code: the full crops (Caron et al. 2020, eq. 6)."""

SMALL_BATCHES = {"views": "multi-crop", "optimizer": {"name": "lars", "lr": 0.6, "weight_decay": 1e-6}, "warmup_epochs": 0.0}
"""What the published code trains batches of 256 with."""

NARROW = {"prototypes": 512, "hidden": 1024, "queue": 0, "epsilon": 0.02, "frozen_epochs": 0}
MEASURED = {**SHORT_RUNS, **{f"method.{name}": value for name, value in NARROW.items()}, "views.small": 0}


@register("swav", recipe=SMALL_BATCHES, measured={"resnet": MEASURED})
class SwAV(Comparison):
    """Unsupervised Learning of Visual Features by Contrasting Cluster Assignments (Caron et al. 2020).

    Takes any number of views of an image, from 2 on. The first two of the largest size get codes, all views predict them.
    Options and optimiser are those of the published code for batches of 256: a queue, and no warm-up. Batches of 4,096 it
    trains with `--optimizer.lr 0.3 --warmup-epochs 10 --method.queue 0` (4.8, in the paper's way of stating it).

    Args:
        prototypes: K (3,000 for ImageNet: 2020); no fewer than the data has classes, and some times as many are better.
        temperature: τ of the prediction (0.1: 2020, appendix).
        epsilon: ε of Sinkhorn-Knopp, the smoothness of the codes (0.05: 2020, appendix).
        dim: of embeddings and prototypes (128: 2020, appendix).
        hidden: width of the projector's hidden layer (2048: 2020, appendix).
        queue: embeddings of each coded view that join the batch when codes are computed (3,840: 2020, for small batches); 0
            for none.
        queue_from: epoch, counted from 0, from which they do (15: 2020, for small batches); later where the queue is not
            full by then.
        frozen_epochs: during which the prototypes stay as drawn (1: 2020, appendix).
    """

    n_views = None

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        prototypes: Count = 3000,
        temperature: Positive = 0.1,
        epsilon: Positive = 0.05,
        dim: Count = 128,
        hidden: Count = 2048,
        queue: SampledOrNone = 3840,
        queue_from: Width = 15,
        frozen_epochs: Width = 1,
    ) -> None:
        super().__init__(encoder, shape)
        check_prototypes(prototypes, shape.classes)
        self.projector = heads.mlp(encoder.dim, hidden, dim)
        self.prototypes = nn.Linear(dim, prototypes, bias=False)
        self.queues = nn.ModuleList(Queue(queue, dim) for _ in range(CODED if queue else 0))
        self.temperature, self.epsilon = temperature, epsilon
        self.queue, self.queue_from, self.frozen_epochs = queue, queue_from, frozen_epochs
        self.after_step(Progress(0, 1, 0))

    def full_cost_from(self, epochs: int) -> int:
        """Returns the first epoch whose codes are computed with the queues."""
        return self._queued_from(self.shape.n) if self.queues else 0

    def embed(self, batch: Batch) -> Embedded:
        """Passes views of one size through the encoder as one batch; the largest first.

        Raises:
            UserError: fewer than two views.
        """
        if len(batch.views) < 2:
            raise UserError("one view of an image has no other to predict: give --views multi-crop, or two views or more")
        sizes = sorted({view.shape[-1] for view in batch.views}, reverse=True)
        embedded: Embedded = {}
        for size in sizes:
            views = [view for view in batch.views if view.shape[-1] == size]
            for h in self.encoder(torch.cat(views)).chunk(len(views)):  # (B, D) each
                kind = "large" if size == sizes[0] else "small"
                embedded[f"{kind} {len(embedded)}"] = h
        return embedded

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Compares each view's prediction with the codes of the other full crops (eqs. 1 to 6)."""
        h = torch.cat(list(embedded.values()))  # (V·B, D)
        z = F.normalize(self.projector(h).float(), dim=1)  # (V·B, dim)
        views = z.chunk(len(embedded))  # (B, dim) each
        coded = min(CODED, sum(name.startswith("large") for name in embedded))
        c = self._prototypes(at)  # (K, dim)
        scores = [dot(view, c) for view in views]  # (B, K) each
        everyones = [gather(view.detach()) for view in views[:coded]]  # (N, dim) each
        codes = [self._code(i, every, len(views[i]), at) for i, every in enumerate(everyones)]  # (B, K) each
        loss = swapped_prediction(scores, codes, self.temperature)
        memory = {f"view {i}": every for i, every in enumerate(everyones)}
        return Loss(loss, memory={"z": views[0].detach(), **memory})

    def _prototypes(self, at: Progress) -> Tensor:
        """Frozen by a gradient of zero: DistributedDataParallel waits for one of every parameter."""
        w = self.prototypes.weight
        return w if at.epoch >= self.frozen_epochs else w.detach() + 0 * w

    @torch.no_grad()
    def _code(self, view: int, every: Tensor, own: int, at: Progress) -> Tensor:
        """(own, K): this process's rows of the codes of all processes' embeddings and the queued ones."""
        n = self.shape.n
        full = bool(self.queues) and at.epoch >= self._queued_from(n - n % len(every))
        queued = [self.queues[view].get_buffer("keys")] if full else []
        codes = sinkhorn(dot(torch.cat([every, *queued]), self.prototypes.weight), self.epsilon)
        return codes[rank() * own :][:own]

    def _queued_from(self, per_epoch: int) -> int:
        """The first epoch before which the queue was filled, by so many embeddings in each: what it starts with are no
        embeddings (published code)."""
        return max(self.queue_from, math.ceil(self.queue / max(1, per_epoch)))

    def observe(self, loss: Loss, at: Progress) -> None:
        """Enqueues the coded views' embeddings, of all processes."""
        for i, queue in enumerate(self.queues):
            if f"view {i}" in loss.memory:
                queue.push(loss.memory[f"view {i}"])  # type: ignore[operator]

    @torch.no_grad()
    def after_step(self, at: Progress) -> None:
        """Brings prototypes back to length 1."""
        self.prototypes.weight.copy_(F.normalize(self.prototypes.weight, dim=1))
