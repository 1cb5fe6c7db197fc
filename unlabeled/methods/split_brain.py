"""Split-brain autoencoder: one half of the network tells the colours of an image, the other its lightness."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder, Lab
from unlabeled.encoders.lab import gamut, lab_to_rgb, normal, rgb_to_lab, unnormal
from unlabeled.errors import UserError
from unlabeled.losses import soft_cross_entropy
from unlabeled.methods.base import Extract, Method, map_shape
from unlabeled.parts.bins import annealed_mean, encoded
from unlabeled.parts.decoders import MapDecoder
from unlabeled.registry import Count, register
from unlabeled.views.policies.colours import Chroma, check_colourful, coarse, coarse_side

ADAM = {"name": "adamw", "lr": 3e-5, "weight_decay": 1e-3, "beta1": 0.9, "beta2": 0.99}
"""Of colorization's published code, by the same authors; the paper names none."""
LIGHT = 2.0
"""Size of a bin of L, which has 50 of them (§4.1)."""
NEIGHBOURS, SIGMA, TEMPERATURE = 5, 5.0, 0.38
"""Of the soft encoding of ab, and of the annealed mean for pictures (Zhang et al. 2016, "Colorization", §2.1 and §2.3)."""

Form = Literal["classification", "regression"]


@register("split-brain", recipe={"views": "colours", "optimizer": ADAM, "encoder.streams": "lab"})
class SplitBrain(Method):
    """Split-Brain Autoencoders (Zhang, Isola & Efros 2017), §3.

    The encoder is two networks that share nothing (`--encoder.streams lab`), each of the given width. One sees the lightness
    L of an image and tells its colours ab, the other sees these and tells L; the representation is both halves side by side,
    of every stage too (eq. 3). What is told is a map of a quarter of the image's side, as for colorization.

    Args:
        form: `classification`, a cross-entropy over 309 colours, each spread over the 5 nearest, and over 50 bins of L, of
            which the nearest counts (eq. 2, the full method); or `regression`, half the squared distance (eq. 1) of channels
            scaled to [-1, 1] (Zhang et al. 2017, §3.1).
        width: channels of each decoder (256: Zhang et al. 2016, published network of "Colorization", its last block).
    """

    n_views = 1
    adds_up = True

    def __init__(self, encoder: Encoder, shape: DataShape, *, form: Form = "classification", width: Count = 256) -> None:
        super().__init__(encoder, shape)
        if not isinstance(encoder.backbone, Lab):
            raise UserError(
                "split-brain tells one half of the channels from the other, and this encoder sees both at once: give "
                "--encoder.streams lab, and images in colour (RGB)"
            )
        self.form = form
        self.register_buffer("colours", gamut(), persistent=False)
        self.register_buffer("lights", torch.arange(LIGHT / 2, 100, LIGHT)[:, None], persistent=False)
        channels, side = map_shape(encoder, shape)
        values = (len(gamut()), 50) if form == "classification" else (2, 1)
        ratio = coarse_side(shape.size) / side
        self.to_colours, self.to_light = (
            MapDecoder(encoder.dim // 2, channels // 2, width, count, ratio) for count in values
        )

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Looks at the colours of all images, once.

        Raises:
            UserError: no image has any.
        """
        if not at.epoch:
            check_colourful(extract(nn.Sequential(self.encoder.front, Chroma())), "split-brain")

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the sum of both halves' losses (eq. 3)."""
        x = batch.views[0]
        told_ab, told_l = self.told(x)
        lab = coarse(x)  # (B, 3, h, w)
        if self.form == "regression":
            target = normal(lab)
            colours = 0.5 * (told_ab - target[:, 1:]).square().sum(1).mean()
            light = 0.5 * (told_l - target[:, :1]).square().sum(1).mean()
        else:
            colours = soft_cross_entropy(told_ab, *encoded(lab[:, 1:], self.get_buffer("colours"), NEIGHBOURS, SIGMA))
            light = soft_cross_entropy(told_l, *encoded(lab[:, :1], self.get_buffer("lights"), 1, LIGHT))
        return Loss(colours + light, {"colours": colours.detach(), "lightness": light.detach()})

    def told(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns what the half that sees L tells of ab at each place, and the other of L: (B, ..., h, w) each."""
        h, maps = self.encoder.local(x)
        (h_l, h_ab), (map_l, map_ab) = h.chunk(2, 1), maps[-1].chunk(2, 1)
        places = coarse_side(x.shape[2]), coarse_side(x.shape[3])
        return self.to_colours(h_l, map_l, places).float(), self.to_light(h_ab, map_ab, places).float()

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws the image with the colours that were told, its lightness as it was told, and the image itself."""
        x = batch.views[0]
        told_ab, told_l = self.told(x)
        if self.form == "regression":
            told = unnormal(torch.cat([told_l, told_ab], 1))
        else:
            ab = annealed_mean(told_ab, self.get_buffer("colours"), TEMPERATURE)
            told = torch.cat([annealed_mean(told_l, self.get_buffer("lights"), TEMPERATURE), ab], 1)
        told, lab = F.interpolate(told, x.shape[2:], mode="bilinear", align_corners=False), rgb_to_lab(x)
        coloured = lab_to_rgb(torch.cat([lab[:, :1], told[:, 1:]], 1)).clamp(0, 1)
        light = lab_to_rgb(torch.cat([told[:, :1], torch.zeros_like(told[:, 1:])], 1)).clamp(0, 1)
        return {"colours told": coloured, "lightness told": light, "true": x}
