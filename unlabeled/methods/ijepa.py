"""I-JEPA: what a part of an image shows says what a slow copy of the network makes of the other parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.encoders.tokens import fix_positions, vit
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.optim.schedules import cosine_momentum
from unlabeled.parts.decoders import BlockPredictor
from unlabeled.parts.memory import Ema
from unlabeled.registry import Count, Share, register

VIT = {"name": "vit_tiny_patch16_224", "class_token": False, "global_pool": "avg", "fc_norm": False}
"""Tokens of patches alone, whose mean is h; the final norm is theirs. timm's smallest ViT, where the paper begins with the
base one."""
ADAMW = {"name": "adamw", "lr": 1.25e-4, "weight_decay": 0.04}
"""Of the published code, whose rate is 0.001 for 2,048 images a batch; its weight decay rises to 0.4."""


@register("ijepa", recipe={"encoder": VIT, "views": "blocks", "optimizer": ADAMW})
class IJEPA(Method):
    """Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture (Assran et al. 2023), §3.

    The context encoder, a ViT, sees some patches; a narrow predictor says of each block that is not among them what the
    target encoder, a slow copy that sees the whole image, makes of it. No pixels are predicted, and no views are compared.
    The loss is Huber's of the published code, where the paper writes a squared distance, and the target's tokens are
    normalised each by itself, likewise.

    What is judged is the context encoder, of all patches; the paper judges its copy.

    Args:
        width: of the predictor (384: Assran et al. 2023, appendix A.1).
        depth: blocks of the predictor (6, of a ViT-B: Assran et al. 2023, appendix A.1).
        heads: of the predictor's attention (12, as many as a ViT-B has: Assran et al. 2023, appendix A.1).
        momentum: of the target encoder at the start; rises to 1 (0.996: Assran et al. 2023, appendix A.1, along a line; here
            along a cosine).
    """

    n_views = 1
    adds_up = True
    rising = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        width: Count = 384,
        depth: Count = 6,
        heads: Count = 12,
        momentum: Share = 0.996,
    ) -> None:
        super().__init__(encoder, shape)
        backbone = vit(encoder.backbone)
        self.side: int = backbone.patch_embed.patch_size[0]
        if width % 4 or width % heads:
            raise UserError(f"the predictor's width is {width}, and must be a multiple of 4 and of its {heads} heads")
        fix_positions(backbone)
        self.predictor = BlockPredictor(encoder.dim, width, depth, heads)
        self.target = Ema(encoder)
        self.momentum = momentum

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that ask for no blocks, and those whose places are not the encoder's patches."""
        super().check(views, targets)
        if targets.get("hidden", views[0]).ndim != 3:
            raise UserError("ijepa predicts blocks of patches, and these views ask for none: give --views blocks")
        rows, columns = self.places(views[0])
        places = int(max(targets["keep"].max(), targets["hidden"].max()))
        if places >= rows * columns:
            raise UserError(
                f"the views count patches up to {places + 1}, and the encoder sees {rows * columns}, of {self.side} px: "
                f"give --views.patch-size {self.side}"
            )

    def places(self, x: Tensor) -> tuple[int, int]:
        """Returns how many rows and columns of patches the encoder makes of x (B, C, H, W)."""
        return -(-x.shape[2] // self.side), -(-x.shape[3] // self.side)

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes Huber's loss of the predicted tokens, over all blocks."""
        predicted = self.predicted(batch).float()  # (B, M, T, D)
        return Loss(F.smooth_l1_loss(predicted, self.targets(batch)))

    def predicted(self, batch: Batch) -> Tensor:
        """Returns what the predictor says of each block, (B, M, T, D)."""
        x, keep, asked = batch.views[0], batch.targets["keep"], batch.targets["hidden"]
        _, maps = self.encoder.local(x, keep)
        return self.predictor(maps[-1].mT, keep, asked, self.places(x))  # type: ignore[no-any-return]

    @torch.no_grad()
    def targets(self, batch: Batch) -> Tensor:
        """Returns what the target encoder, which sees everything, makes of each block: (B, M, T, D), normalised tokens."""
        x, asked = batch.views[0], batch.targets["hidden"]
        rows, columns = self.places(x)
        everything = torch.arange(rows * columns, device=x.device).expand(len(x), -1)
        network: Any = self.target.module
        tokens = network.local(x, everything)[1][-1].mT.float()  # (B, N, D)
        tokens = F.layer_norm(tokens, tokens.shape[2:])
        chosen = tokens.gather(1, asked.flatten(1)[:, :, None].expand(-1, -1, tokens.shape[2]))
        return chosen.view(*asked.shape, -1)

    def after_step(self, at: Progress) -> None:
        """Lets the target encoder follow, ever more slowly."""
        self.target.update(self.encoder, cosine_momentum(at, self.momentum))
