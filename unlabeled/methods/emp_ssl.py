"""EMP-SSL: many small patches of an image agree with their mean, while images stay apart."""

from __future__ import annotations

import torch

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import gather
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.losses import multi_patch
from unlabeled.methods.base import Comparison, Embedded
from unlabeled.parts import heads
from unlabeled.registry import Count, Decay, Positive, register

LARS = {"name": "lars", "lr": 0.77, "trust": 0.0167, "weight_decay": 1e-4}
"""0.3 for a batch of 100, which is 0.77 for 256; clipped, it moves a layer by 0.005 = 0.3 · 0.0167 of its norm (2023)."""


@register("emp-ssl", recipe={"views": "multi-patch", "optimizer": LARS})
class EMPSSL(Comparison):
    """EMP-SSL: Towards Self-Supervised Learning in One Training Epoch (Tong et al. 2023).

    Takes any number of views of one size, from 2 on: by default 20 patches of a quarter of the area, with SimCLR's
    distortion in the published code's strength. With `--image-size` half of the pictures' side, patches keep their pixels;
    with `--kind.eval-size` the whole side, pictures are judged at the scale of the patches, for a quarter of the work of the
    paper's enlarged ones. The representation is the backbone's; the published code judges the projector's first layer,
    averaged over patches.

    Args:
        invariance: λ, the weight of the patches' agreement with their mean (200: published code of Tong et al. 2023).
        eps: ε² of the coding rate (0.2: published code of Tong et al. 2023).
        hidden: width of the projector's two hidden layers (4096: published code of Tong et al. 2023).
        dim: of the embedding (1024: published code of Tong et al. 2023).
    """

    n_views = None

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        invariance: Decay = 200.0,
        eps: Positive = 0.2,
        hidden: Count = 4096,
        dim: Count = 1024,
    ) -> None:
        super().__init__(encoder, shape)
        self.projector = heads.mlp(encoder.dim, hidden, hidden, dim)
        self.invariance, self.eps = invariance, eps

    def embed(self, batch: Batch) -> Embedded:
        """Passes all patches through the encoder as one batch.

        Raises:
            UserError: fewer than two views, or views of several sizes.
        """
        sizes = {view.shape[-1] for view in batch.views}
        if len(batch.views) < 2 or len(sizes) > 1:
            raise UserError(
                f"method 'emp-ssl' compares 2 or more views of one size, and got {len(batch.views)} of {sorted(sizes)} px: "
                "give --views multi-patch"
            )
        h = self.encoder(torch.cat(batch.views))  # (V B, D)
        return {"h": h.view(len(batch.views), -1, h.shape[1]).transpose(0, 1)}  # (B, V, D)

    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the coding rate of each patch's embeddings, and their agreement, over all processes' images."""
        h = embedded["h"].transpose(0, 1)  # (V, B, D)
        z = self.projector(h.flatten(0, 1)).view(*h.shape[:2], -1)  # (V, B, dim)
        everyone = gather(z.transpose(0, 1)).transpose(0, 1)  # (V, N, dim)
        return Loss(multi_patch(everyone, self.invariance, self.eps), memory={"z": z[0].detach()})
