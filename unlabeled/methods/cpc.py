"""CPC: what was heard so far tells what comes next from what comes elsewhere."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.encoders.sound import valid_length
from unlabeled.losses.prediction import info_nce_ahead
from unlabeled.methods.base import Method
from unlabeled.registry import Count, register

RECIPE = {
    "encoder": "cpc",
    "views": "window",
    "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.0},
    "lr_scaling": "none",
    "batch_size": 32,
}
"""Adam, whose default learning rate suits sets of some thousand recordings, and small batches, of which such sets then
have many; the paper has 2e-4 and 64 recordings for 300,000 steps (van den Oord et al. 2018, section 3.1)."""


@register("cpc", recipe=RECIPE)
class CPC(Method):
    """Representation Learning with Contrastive Predictive Coding (van den Oord et al. 2018), section 3.1: audio.

    The context c_t, which has heard a recording until t, predicts the latents z_{t+1} ... z_{t+K} by a matrix each. The
    negatives are frames of the whole batch, the recording's own included ("mixed speaker", table 2). They are drawn
    once for all predictions of a step, where the paper's are each prediction's own: products of matrices then give
    all scores.

    Args:
        steps: K, how many frames ahead it predicts (12: section 3.1 and table 2); fewer where the view is shorter.
        negatives: N, frames that are drawn as negatives (256: ours, as all predictions share them; each has 128 of its
            own in the code published with Rivière et al. 2020, "Unsupervised Pretraining Transfers Well Across
            Languages").
    """

    sees: ClassVar[tuple[str, ...]] = ("sound",)
    n_views = 1

    def __init__(self, encoder: Encoder, shape: DataShape, *, steps: Count = 12, negatives: Count = 256) -> None:
        super().__init__(encoder, shape)
        with torch.no_grad():
            z, c = encoder.local(torch.zeros(1, 1, shape.size))[1]  # (1, D, L), (1, C, L)
        self.negatives = negatives
        self.ahead = nn.Linear(c.shape[1], min(steps, max(1, z.shape[2] - 1)) * z.shape[1], bias=False)

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes InfoNCE (eq. 4) of every frame that has one k steps later in its recording, for k from 1 to K."""
        z, c = (maps.mT for maps in self.encoder.local(batch.views[0])[1])  # (B, L, D), (B, L, C)
        length = valid_length(c.mT)  # (B,)
        every, lengths = gather(z), gather(length)  # (N, L, D), (N,)
        drawn = self.draw(lengths, z.shape[1], at)  # (n,)
        weight = self.ahead.weight.view(-1, z.shape[2], c.shape[2])  # (K, D, C)
        origin = drawn - rank() * len(z) * z.shape[1]
        losses, hits, pairs = info_nce_ahead(z, c, weight, length, every.flatten(0, 1)[drawn], origin)
        loss = losses.sum() / gather(pairs.sum()[None]).mean().clamp(min=1)
        accuracy = hits / pairs.clamp(min=1)  # (K,)
        return Loss(loss, {"accuracy": accuracy.mean(), "accuracy_next": accuracy[0]})

    def draw(self, lengths: Tensor, size: int, at: Progress) -> Tensor:
        """Draws which of N · L frames are negatives (n,): of a recording drawn from all N, any that is no padding."""
        u = torch.rand(2, self.negatives, generator=at.generator()).to(lengths.device)
        recording = (u[0] * len(lengths)).long()
        return recording * size + (u[1] * lengths[recording]).long()
