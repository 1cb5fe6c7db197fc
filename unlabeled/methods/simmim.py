"""SimMIM: hide patches of an image, and have one linear layer say what was there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Method, map_shape
from unlabeled.parts.patches import covered
from unlabeled.registry import register

ADAMW = {"name": "adamw", "lr": 1e-4, "weight_decay": 0.05}  # published code, for 512 images a batch; its β are AdamW's own
VIEWS = {"name": "masked", "scale": (0.67, 1.0), "masked": 0.6}  # §4.1
GREY = 0.5


@register("simmim", recipe={"views": VIEWS, "optimizer": ADAMW})
class SimMIM(Method):
    """SimMIM: A Simple Framework for Masked Image Modeling (Xie et al. 2022), §3.

    Any encoder that shows its stages sees the whole image, with a learned patch, the same everywhere, in place of each
    hidden one. A ViT's first layer is linear, so that this is the paper's mask token; what it starts as, the data's mean
    colour, is what hides patches from a ConvNet. A linear layer on each place of the last map says the pixels there (§3.2,
    "prediction head"), with what a linear layer makes of h added at each, so that what is judged learns; the loss is the
    absolute difference, of hidden pixels alone (eq. 1).

    The paper's encoders are a ViT and a Swin; here it is a ResNet like everywhere, unless `--encoder` names another. Of a
    ViT h is the class token; the paper fine-tunes the mean of the patches' tokens (`--encoder.global-pool avg`).

    Hidden patches are an eighth of the side of small images and 16 px of others (`--views.patch-size`), where the paper has
    32 px of 192 or 224; a large part of what this objective teaches comes of their being large.

    Pixels are those that the backbone sees: each channel normalised by the data's mean and deviation.
    """

    n_views = 1
    adds_up = True

    def __init__(self, encoder: Encoder, shape: DataShape) -> None:
        super().__init__(encoder, shape)
        channels, side = map_shape(encoder, shape)
        ratio = -(-shape.size // side)
        values = ratio**2 * shape.channels
        self.patch = nn.Parameter(torch.zeros(shape.channels, ratio, ratio))
        self.local = nn.Conv2d(channels, values, 1, bias=False)  # pixels are 0 in the mean
        self.whole = nn.Linear(encoder.dim, values, bias=False)

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that hide nothing."""
        super().check(views, targets)
        if "hidden" not in targets:
            raise UserError("simmim predicts patches that the views hide, and these hide none: give --views masked")

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the mean absolute error of hidden pixels."""
        x, hidden = batch.views[0], self.hidden(batch)
        error = (self.predicted(x, hidden) - self.encoder.front(x)).abs().mean(1, keepdim=True)  # (B, 1, H, W)
        return Loss(((error * hidden).sum((1, 2, 3)) / hidden.sum((1, 2, 3))).mean())

    def hidden(self, batch: Batch) -> Tensor:
        """Tells which pixels are not seen: bool (B, 1, H, W)."""
        keep, hidden = batch.targets["keep"], batch.targets["hidden"]
        return covered(hidden, keep.shape[1] + hidden.shape[1], *batch.views[0].shape[2:])

    def predicted(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Returns what is said of every pixel of x (B, C, H, W), in the backbone's units, where `hidden` (B, 1, H, W) is not
        seen."""
        front, (height, width), side = self.encoder.front, x.shape[2:], self.patch.shape[1]
        everywhere = self.patch.repeat(1, -(-height // side), -(-width // side))[:, :height, :width]
        h, maps = self.encoder.local(torch.where(hidden, everywhere * front.std + front.mean, x))
        patches = self.local(maps[-1]) + self.whole(h)[:, :, None, None]  # (B, side² C, rows, columns)
        return F.pixel_shuffle(patches, side)[:, :, :height, :width].float()

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the views, what the encoder sees of them, and both put together: hidden patches as predicted."""
        x, hidden, front = batch.views[0], self.hidden(batch), self.encoder.front
        painted = (self.predicted(x, hidden) * front.std + front.mean).clamp(0, 1)
        return {
            "view": x,
            "masked": torch.where(hidden, GREY, x),
            "reconstructed": torch.where(hidden, painted, x),
        }
