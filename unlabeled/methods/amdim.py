"""AMDIM: what one view of an image says of the places of another, over three scales."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank, world
from unlabeled.encoders import Encoder
from unlabeled.losses import clipped_infomax
from unlabeled.methods.base import Comparison, Embedded, stage_shapes
from unlabeled.parts import heads
from unlabeled.registry import Count, Decay, Positive, register

VIEWS = {"views.scale": [0.3, 1.0], "views.strength": 0.5, "views.hue": 0.4, "views.grey": 0.25, "views.blur": 0.0}
"""Of the published code for STL-10: crops from 30%, jitter with probability 0.8 and 0.4, 0.4, 0.4, 0.2, grey 0.25. There
both views are mirrored alike."""
ADAM = {"name": "adamw", "lr": 2e-4, "weight_decay": 1e-5, "beta1": 0.8}
"""Of the published code, for batches of 200."""


class Head(nn.Module):
    """(B, L, encoded) -> (B, L, dim): one hidden layer beside a linear shortcut, and a batch norm (published code)."""

    def __init__(self, encoded: int, dim: int) -> None:
        super().__init__()
        self.shared, self.norm = heads.Shared(encoded, dim, dim, norm=False), nn.BatchNorm1d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Maps the vectors of each place."""
        result: Tensor = self.norm(self.shared(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        return result


@register("amdim", recipe={"views": "simclr", **VIEWS, "optimizer": ADAM})
class AMDIM(Comparison):
    """Augmented Multiscale Deep InfoMax (Bachman, Hjelm & Buchwalter 2019), §3.

    Three scales of each view: its representation (1), the map of the last stage (5) and that of the stage before it (7), if
    there is one, named after the sides that these have in the paper. Each is brought to one space. From view to view, in
    both directions, 1 tells all places of 5 and all of 7, and a place of 5, drawn for each image, all places of 5, from
    those of the other images: three terms, each the mean of its directions. Scores are divided by √dim, those beyond ±clip
    hardly count, and their squares are held small: without, the paper found training unstable.

    The paper's network has no padding, so that places see different pixels; here any network does that shows its stages.

    Args:
        clip: C of C tanh(s / C), which bounds the scores (20: Bachman et al. 2019, published code).
        penalty: weight of the mean squared score (0.04: Bachman et al. 2019, published code).
        dim: of the space (1024: Bachman et al. 2019, published code).
    """

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        clip: Positive = 20.0,
        penalty: Decay = 0.04,
        dim: Count = 1024,
    ) -> None:
        super().__init__(encoder, shape)
        maps = stage_shapes(encoder, shape)
        self.clip, self.penalty = clip, penalty
        self.whole = Head(encoder.dim, dim)
        self.before = max(-2, -len(maps))  # the stage before the last, or the only one
        self.coarse, self.fine = Head(maps[-1][0], dim), Head(maps[self.before][0], dim)

    def embed(self, batch: Batch) -> Embedded:
        """Passes both views through the encoder, and gives what its last two stages made of them."""
        found: Embedded = {}
        for number, view in enumerate(batch.views):
            h, maps = self.encoder.local(view)
            found |= {f"h{number}": h, f"5{number}": maps[-1].flatten(2).mT, f"7{number}": maps[self.before].flatten(2).mT}
        return found  # (B, D), (B, L, C) of each view

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the sum of the three terms, each with its penalty."""
        one, five, seven = (
            [head(embedded[f"{name}{view}"] if name != "h" else embedded[f"h{view}"][:, None]) for view in (0, 1)]
            for name, head in (("h", self.whole), ("5", self.coarse), ("7", self.fine))
        )  # (B, 1, dim), (B, L, dim), (B, M, dim) of each view
        count = len(five[0])
        rows = torch.arange(count, device=five[0].device)
        u = torch.rand(2, world() * count, generator=at.generator())[:, rank() * count :][:, :count].to(rows.device)
        terms: dict[str, Tensor] = {}
        for name, sources, targets in (("1 to 5", one, five), ("1 to 7", one, seven), ("5 to 5", five, five)):
            chosen = (u * sources[0].shape[1]).long()  # (2, B), a place of each image
            told = [self._told(sources[v][rows, chosen[v]], targets[1 - v]) for v in (0, 1)]
            terms[name] = (told[0] + told[1]) / 2
        total = torch.stack(list(terms.values())).sum()
        return Loss(total, {name: term.detach() for name, term in terms.items()}, {"z": one[0][:, 0].detach()})

    def _told(self, source: Tensor, parts: Tensor) -> Tensor:
        """What the vectors (B, dim) do not tell of the places (B, L, dim) of the other view, among those of all
        processes."""
        everyone, offset = gather(parts), rank() * len(parts)
        return clipped_infomax(source, parts, clip=self.clip, penalty=self.penalty, gathered=everyone, offset=offset)
