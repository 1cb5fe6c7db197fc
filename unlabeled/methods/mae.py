"""Masked autoencoder: a quarter of the patches says what the others look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.encoders.tokens import fix_positions, vit
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.parts.decoders import PatchDecoder
from unlabeled.parts.patches import covered, cut, joined
from unlabeled.registry import Count, register

VIT = {"name": "vit_tiny_patch16_224", "weight_init": "jax"}
"""Xavier's weights, as appendix A.1 has them; timm's smallest ViT, where the paper begins with the large one."""
ADAMW = {"name": "adamw", "lr": 1.5e-4, "weight_decay": 0.05, "beta1": 0.9, "beta2": 0.95}  # table 8
GREY = 0.5
EPSILON = 1e-6  # of the published code


@register("mae", recipe={"encoder": VIT, "views": "masked", "optimizer": ADAMW})
class MAE(Method):
    """Masked Autoencoders Are Scalable Vision Learners (He et al. 2021), §3.

    The encoder, a ViT, sees the patches that are kept; a light decoder sees what it made of them, and a mask token for each
    hidden one, and predicts the pixels of these. Both have fixed sines and cosines for positions. The decoder also gets h,
    as the published one does: the class token, unless `--encoder.global-pool avg` makes h the mean of the patches' tokens.
    h is what is judged, of all patches; the decoder is thrown away.

    Pixels are those that the backbone sees: each channel normalised by the data's mean and deviation.

    Args:
        width: of the decoder (512: He et al. 2021, §3 and table 1b).
        depth: blocks of the decoder (8: table 1a).
        heads: of the decoder's attention (16: He et al. 2021, published code).
        normalise: whether each patch is predicted less its mean, in units of its deviation (table 1d; the published code
            adds 1e-6 to a variance with n - 1).
    """

    n_views = 1
    adds_up = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        width: Count = 512,
        depth: Count = 8,
        heads: Count = 16,
        normalise: bool = True,
    ) -> None:
        super().__init__(encoder, shape)
        backbone = vit(encoder.backbone)
        self.side: int = backbone.patch_embed.patch_size[0]
        values = self.side**2 * shape.channels
        if width % 4 or width % heads:
            raise UserError(f"the decoder's width is {width}, and must be a multiple of 4 and of its {heads} heads")
        if normalise and values == 1:
            raise UserError(
                "patches of one value have no deviation to be normalised by: give --method.normalise false, or a larger "
                "--encoder.patch-size and --views.patch-size"
            )
        fix_positions(backbone)
        self.normalise = normalise
        self.decoder = PatchDecoder(encoder.dim, width, depth, heads, values)

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the mean squared error of the hidden patches' pixels."""
        target, _, _ = self.target(batch.views[0])  # (B, N, p²C)
        error = (self.predicted(batch).float() - target).square().mean(2)  # (B, N)
        return Loss(error.gather(1, batch.targets["hidden"]).mean())

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that hide nothing, and those whose places are not the encoder's patches."""
        if "hidden" not in targets:
            raise UserError("mae predicts patches that the views hide, and these hide none: give --views masked")
        rows, columns = self.places(views[0])
        places = targets["keep"].shape[1] + targets["hidden"].shape[1]
        if places != rows * columns:
            raise UserError(
                f"the views hide some of {places} patches, and the encoder sees {rows * columns}, of {self.side} px: "
                f"give --views.patch-size {self.side}"
            )

    def places(self, x: Tensor) -> tuple[int, int]:
        """Returns how many rows and columns of patches the encoder makes of x (B, C, H, W)."""
        return -(-x.shape[2] // self.side), -(-x.shape[3] // self.side)

    def predicted(self, batch: Batch) -> Tensor:
        """Returns what the decoder makes of the kept patches: (B, N, p²C), row by row."""
        x, keep, hidden = batch.views[0], batch.targets["keep"], batch.targets["hidden"]
        h, maps = self.encoder.local(x, keep)  # (B, D), (B, D, K) of each block
        return self.decoder(h, maps[-1].mT, keep, hidden, self.places(x))  # type: ignore[no-any-return]

    def target(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what is to be predicted (B, N, p²C), and the mean and the deviation (B, N, 1) of what the backbone sees
        there."""
        pixels = cut(self.encoder.front(x), self.side)
        if not self.normalise:
            return pixels, pixels.new_zeros(()), pixels.new_ones(())
        mean, deviation = pixels.mean(2, keepdim=True), (pixels.var(2, keepdim=True) + EPSILON).sqrt()
        return (pixels - mean) / deviation, mean, deviation

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the views, what the encoder sees of them, and both put together: the patches that it sees as they are, the
        others as predicted. Where patches are normalised, with the mean and the deviation of the hidden patch itself, which
        were not predicted (as in the authors' demonstration)."""
        x, front, (height, width) = batch.views[0], self.encoder.front, batch.views[0].shape[2:]
        _, mean, deviation = self.target(x)
        predicted = joined(self.predicted(batch).float() * deviation + mean, self.side, height, width)
        painted = (predicted * front.std + front.mean).clamp(0, 1)  # (B, C, H, W)
        keep, hidden = batch.targets["keep"], batch.targets["hidden"]
        unseen = covered(hidden, keep.shape[1] + hidden.shape[1], height, width)  # (B, 1, H, W)
        return {
            "view": x,
            "masked": torch.where(unseen, GREY, x),
            "reconstructed": torch.where(unseen, painted, x),
        }
