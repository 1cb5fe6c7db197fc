"""Super-resolution: who can draw what a small picture does not show knows what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Method, map_shape
from unlabeled.parts.decoders import MapDecoder
from unlabeled.registry import Count, register

ADAM = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.0}
"""Of Ledig et al. 2017, §3.2, with Adam's own β; theirs are batches of 16."""


@register("super-resolution", recipe={"views": "reduced", "optimizer": ADAM})
class SuperResolution(Method):
    """Single-image super-resolution as a pretext task, after Ledig et al. 2017 ("SRResNet") and Shi et al. 2016.

    The encoder sees an image of a half or a quarter of the side (`--views.factor`), and a decoder of sub-pixel convolutions
    (Shi et al. 2016, §2.2), on its last map and on h, draws what is missing to the bicubic enlargement: it begins with
    that. The loss is the absolute difference of pixels, which converges better than squares (Lim et al. 2017, "EDSR",
    §4.2), without any network that was trained before. The log has the peak signal-to-noise ratio of what is drawn beside
    that of the bicubic enlargement, in dB.

    A decoder of the last map alone sees little of the details themselves: that is what makes the encoder say what is in the
    image. What is judged are images as large as `--kind.eval-size` says, in which things are larger than in those it saw.

    Args:
        width: channels of the decoder (64: Shi et al. 2016, §3.2; Ledig et al. 2017, §2.1).
    """

    n_views = 2
    adds_up = True

    def __init__(self, encoder: Encoder, shape: DataShape, *, width: Count = 64) -> None:
        super().__init__(encoder, shape)
        channels, side = map_shape(encoder, shape, max(1, shape.size // 2))
        self.decoder = MapDecoder(encoder.dim, channels, width, shape.channels, shape.size / side)
        nn.init.zeros_(self.decoder.values.weight)
        nn.init.zeros_(self.decoder.values.bias)  # type: ignore[arg-type]

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that are not an image and the same with fewer pixels.

        Raises:
            UserError: others.
        """
        super().check(views, targets)
        if len(views) != 2 or views[0].shape[2] >= views[1].shape[2]:
            raise UserError("the method enlarges the first view to the second, and these are as large: give --views reduced")

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the mean absolute difference of pixels."""
        true = batch.views[1]
        made, bicubic = self.made(batch)
        terms = {"psnr": psnr(made.detach(), true), "psnr_bicubic": psnr(bicubic, true)}
        return Loss((made - true).abs().mean(), terms)

    def made(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns what is drawn of the small images, and their bicubic enlargement, (B, C, S, S) each."""
        small, size = batch.views[0], tuple(batch.views[1].shape[2:])
        bicubic = F.interpolate(small, size, mode="bicubic", align_corners=False).clamp(0, 1)
        h, maps = self.encoder.local(small)
        return bicubic + self.decoder(h, maps[-1], size).float(), bicubic

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the small images as they are and enlarged, what is drawn of them, and the images themselves."""
        made, bicubic = self.made(batch)
        small = F.interpolate(batch.views[0], bicubic.shape[2:], mode="nearest")
        return {"small": small, "bicubic": bicubic, "drawn": made.clamp(0, 1), "true": batch.views[1]}


def psnr(x: Tensor, true: Tensor) -> Tensor:
    """Returns the mean peak signal-to-noise ratio of images (B, C, H, W), clamped to [0, 1], in dB; at most 100."""
    error = (x.clamp(0, 1) - true).square().flatten(1).mean(1)
    return -10 * torch.log10(error.clamp_min(1e-10)).mean()
