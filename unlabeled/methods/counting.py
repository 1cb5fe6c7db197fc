"""Counting: what is seen in an image is the sum of what is seen in its quarters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import counting
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.registry import Count, Positive, register
from unlabeled.views.policies.quarters import QUARTERS

ADAMW = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.0}
"""The rate of Noroozi et al. 2017, §4.1; Adam takes it to any scale of the counts."""


@register("counting", recipe={"views": "quarters", "optimizer": ADAMW})
class Counting(Comparison):
    """Representation Learning by Learning to Count (Noroozi, Pirsiavash & Favaro 2017), eq. 5.

    φ, a layer of counts ≥ 0 on the representation, gives of an image at half its side what it gives of the four quarters of
    it together: φ(D∘x) = Σ φ(T_j∘x). That nothing is ever counted, φ = 0, would solve it; so the sum must also differ from
    the counts of another image y, by a squared distance of M. A batch of B images costs five views of a quarter of their
    pixels each.

    The other image is the next one of the batch, of all processes.

    Args:
        counters: numbers that are counted (1,000: Noroozi et al. 2017, §4.1).
        margin: M, of squared distances (10: eq. 5).
    """

    n_views = 2

    def __init__(self, encoder: Encoder, shape: DataShape, *, counters: Count = 1000, margin: Positive = 10.0) -> None:
        super().__init__(encoder, shape)
        if shape.n < 2:
            raise UserError("one image has no other to count differently from: give more images, or another --method")
        self.projector = nn.Sequential(nn.Linear(encoder.dim, counters), nn.ReLU())  # φ
        self.margin = margin

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that are no image with its quarters.

        Raises:
            UserError: others.
        """
        if [view.ndim for view in views] != [4, 5] or views[1].shape[1] != QUARTERS:
            raise UserError("the method counts in an image and in its quarters: give --views quarters")

    def embed(self, batch: Batch) -> Embedded:
        """Passes the image and its quarters through the encoder, each by itself."""
        whole, quarters = batch.views  # (B, C, s, s), (B, 4, C, s, s)
        h = self.encoder(quarters.flatten(0, 1))  # (4B, D)
        return {"whole": self.encoder(whole), "quarters": h.view(len(whole), QUARTERS, -1)}

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes |φ(D∘x) - Σ φ(T_j∘x)|² + max(0, M - |φ(D∘y) - Σ φ(T_j∘x)|²), averaged over images (eq. 5)."""
        whole, total = self.projector(embedded["whole"]), self.projector(embedded["quarters"]).sum(1)  # (B, K) each
        if len(everyone := gather(whole)) < 2:
            raise UserError("one image has no other to count differently from: give --batch-size 2 or more")
        following = (torch.arange(len(whole), device=whole.device) + rank() * len(whole) + 1) % len(everyone)
        other = everyone[following]
        own, apart = ((each - total).detach().float().square().sum(1) for each in (whole, other))
        terms = {"own": own.mean(), "apart": apart.mean(), "accuracy": (own < apart).float().mean()}
        return Loss(counting(whole, other, total, self.margin), terms, {"z": whole.detach()})

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the image, its quarters, and the eight largest counts of the image beside the quarters' sums: the lighter,
        the more, in the scale of the largest."""
        whole, quarters = batch.views
        held = self.embed(batch)
        counted, total = self.projector(held["whole"]).float(), self.projector(held["quarters"]).float().sum(1)  # (B, K)
        most = counted.topk(min(8, counted.shape[1]), 1).indices
        both = torch.stack([counted.gather(1, most), total.gather(1, most)], 1)  # (B, 2, 8)
        shades = both / both.amax((1, 2), keepdim=True).clamp(min=1e-6)
        side = max(1, whole.shape[3] // 8)
        bars = shades.repeat_interleave(4 * side, 1).repeat_interleave(side, 2)[:, None]  # (B, 1, 8s, 8s)
        return {"whole": whole, "quarters": quarters, "counts, sums": bars}
