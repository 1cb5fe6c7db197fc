"""DIM: the representation of an image tells its own places from those of other images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import local_infomax
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.registry import Count, Width, register

ADAM = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.0}
CROP = {"name": "crop", "pad": 0.0, "scale": [0.3, 1.0]}


class Shared(nn.Module):
    """Into the space that wholes and parts share: one hidden layer beside a linear shortcut (the paper's appendix)."""

    def __init__(self, encoded: int, hidden: int, dim: int, *, norm: bool) -> None:
        super().__init__()
        self.hidden, self.shortcut = heads.mlp(encoded, hidden, dim, norm=False), nn.Linear(encoded, dim)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., encoded) -> (..., dim); on (B, L, encoded) these are 1×1 convolutions."""
        result: Tensor = self.norm(self.hidden(x) + self.shortcut(x))
        return result


@register("dim", recipe={"views": CROP, "optimizer": ADAM})
class DIM(Comparison):
    """Deep InfoMax, the local form DIM(L) with the InfoNCE estimator (Hjelm et al. 2019), by encoding and dot product.

    One view: an image's representation is compared with places in an earlier map of the same view.

    Args:
        dim: of the space that wholes and places share (2048: Hjelm et al. 2019, appendix).
        hidden: width of the hidden layers that lead there (2048: Hjelm et al. 2019, appendix).
        stage: which of the encoder's stages gives the places: counted from 0, or from -1 backwards; none given, the
            second-last, or the only one (Hjelm et al. 2019 take a map of 8×8 or so within the convolutions).
    """

    n_views = 1

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        dim: Count = 2048,
        hidden: Width = 2048,
        stage: int | None = None,
    ) -> None:
        super().__init__(encoder, shape)
        with torch.no_grad():
            maps = encoder.eval().local(torch.zeros(1, shape.channels, shape.size, shape.size))[1]
        encoder.train()
        if stage is not None and not -len(maps) <= stage < len(maps):
            span = f"{-len(maps)} to {len(maps) - 1}"
            raise UserError(f"stage is {stage}, and this encoder has {len(maps)}: give a --method.stage from {span}")
        self.stage = max(-2, -len(maps)) if stage is None else stage
        self.whole = Shared(encoder.dim, hidden or encoder.dim, dim, norm=False)
        width = maps[self.stage].shape[1]
        self.part = Shared(width, hidden or width, dim, norm=True)

    @property
    def g(self) -> nn.Module:
        """The head of whole images."""
        return self.whole

    def embed(self, batch: Batch) -> Embedded:
        """Passes the view through the encoder, and gives also what one of its stages made of it."""
        h, maps = self.encoder.local(batch.views[0])  # (B, D), (B, C, H, W) of each stage
        return {"h": h, "places": maps[self.stage].flatten(2).mT}  # (B, H·W, C)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Compares each image's whole with its own places and those of all other images."""
        whole, parts = self.whole(embedded["h"]), self.part(embedded["places"])  # (B, dim), (B, H·W, dim)
        loss = local_infomax(whole, parts, gathered=gather(parts), offset=rank() * len(parts))
        return Loss(loss, memory={"z": whole.detach()})
