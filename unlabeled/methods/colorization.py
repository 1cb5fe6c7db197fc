"""Colorization: who can tell the colours of a grey picture knows what is in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder, Lightness
from unlabeled.encoders.lab import gamut, lab_to_rgb, rgb_to_lab
from unlabeled.errors import UserError
from unlabeled.losses import soft_cross_entropy
from unlabeled.methods.base import Extract, Method, map_shape
from unlabeled.parts.bins import annealed_mean, encoded, rarity
from unlabeled.parts.decoders import MapDecoder
from unlabeled.registry import Count, Positive, Share, register
from unlabeled.views.policies.colours import coarse, coarse_side, grey
from unlabeled.words import counted

ADAM = {"name": "adamw", "lr": 3e-5, "weight_decay": 1e-3, "beta1": 0.9, "beta2": 0.99}
"""Of the published code, whose decay is Adam's."""
NEIGHBOURS, SIGMA = 5, 5.0
"""Bins that a colour is spread over, and the deviation of the Gaussian in ab (Zhang et al. 2016, §2.1)."""
COLOURFUL = 5.0
"""What a or b must exceed somewhere in an image that teaches anything (the published code leaves out all others)."""
LOOKED = 8
"""Side of the grid of places of each image from which the frequencies of colours are counted; ours."""


class Palette(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] -> (B, P): the bins nearest to the colours of P places, by number."""

    def __init__(self, centres: Tensor) -> None:
        super().__init__()
        self.register_buffer("centres", centres, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Returns them as floats."""
        ab = coarse(x)[:, 1:]
        ab = F.interpolate(ab, [min(LOOKED, side) for side in ab.shape[2:]], mode="nearest")
        return encoded(ab, self.get_buffer("centres"), 1, SIGMA)[0].flatten(1).float()


@register("colorization", recipe={"views": "colours", "optimizer": ADAM, "encoder.streams": "lightness"})
class Colorization(Method):
    """Colorful Image Colorization (Zhang, Isola & Efros 2016), §2.

    The encoder sees the lightness L of an image and nothing of its colours (`--encoder.streams lightness`). A decoder tells
    for each place of a map of a quarter of the side how likely each of 309 colours is, points of a grid of step 10 in ab
    about the colours of sRGB (`unlabeled.encoders.lab.gamut`; the paper has 313). The target is spread over the 5 nearest,
    with a Gaussian of deviation 5. Each place has the weight of its nearest colour, which is large where that is rare among
    the training images, so that the grey of skies and walls does not decide (eq. 2 to 4): the paper counts the colours of
    ImageNet, this those of the set at hand, before the first epoch. Images without any colour teach nothing, and are left
    out of the loss, as in the published code.

    The paper trains a VGG of its own, and an AlexNet for its features; here any network does. Classes whose colours are
    anything (cars, clothes) have less to teach than those whose are not (grass, sky, fruit).

    Args:
        uniform: λ, the share of a uniform distribution where colours are weighed (1/2: Zhang et al. 2016, §2.2).
        temperature: T of the annealed mean, by which a colour is read off for pictures (0.38: Zhang et al. 2016, §2.3).
        width: channels of the decoder (256: Zhang et al. 2016, published network, its last block).
    """

    n_views = 1
    adds_up = True

    def __init__(
        self,
        encoder: Encoder,
        shape: DataShape,
        *,
        uniform: Share = 0.5,
        temperature: Positive = 0.38,
        width: Count = 256,
    ) -> None:
        super().__init__(encoder, shape)
        if not isinstance(encoder.backbone, Lightness):
            raise UserError(
                "colorization asks for the colours, and this encoder sees them: give --encoder.streams lightness, and "
                "images in colour (RGB)"
            )
        self.palette, self.uniform, self.temperature = Palette(gamut()), uniform, temperature
        channels, side = map_shape(encoder, shape)
        self.decoder = MapDecoder(encoder.dim, channels, width, len(gamut()), coarse_side(shape.size) / side)
        self.register_buffer("weights", torch.ones(len(gamut())))

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Counts how often each colour occurs, once.

        Raises:
            UserError: no image has colours.
        """
        if at.epoch:
            return
        found = extract(nn.Sequential(self.encoder.front, self.palette)).long()  # (n, P)
        frequency, centres = torch.bincount(found.flatten(), minlength=len(gamut())), gamut()
        if not (frequency[(centres.abs() > COLOURFUL).any(1)] > 0).any():
            raise UserError(
                f"all {counted(self.shape.n, 'training images')} are grey, and colorization asks for their colours: "
                "give images in colour, or another --method"
            )
        self.get_buffer("weights").copy_(rarity(frequency, centres, SIGMA, self.uniform))

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the cross-entropy with the softly encoded colours, weighed by their rarity (eq. 2 to 4)."""
        x = batch.views[0]
        ab = coarse(x)[:, 1:]  # (B, 2, h, w)
        index, share = encoded(ab, self.palette.get_buffer("centres"), NEIGHBOURS, SIGMA)  # (B, 5, h, w) each
        logits = self.logits(x)
        colourful = (ab.abs() > COLOURFUL).flatten(1).any(1).float()  # (B,)
        weight = self.get_buffer("weights")[index[:, 0]] * colourful[:, None, None]
        correct = (logits.detach().argmax(1) == index[:, 0]).float().mean()
        return Loss(soft_cross_entropy(logits, index, share, weight), {"accuracy": correct})

    def logits(self, x: Tensor) -> Tensor:
        """Returns how likely each colour is at each place (B, Q, h, w), as logits, of images (B, 3, H, W)."""
        h, maps = self.encoder.local(x)
        return self.decoder(h, maps[-1], (coarse_side(x.shape[2]), coarse_side(x.shape[3]))).float()  # type: ignore[no-any-return]

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws what the encoder sees, its lightness with the colours that were told, and the image itself."""
        x = batch.views[0]
        ab = annealed_mean(self.logits(x), self.palette.get_buffer("centres"), self.temperature)  # (B, 2, h, w)
        ab = F.interpolate(ab, x.shape[2:], mode="bilinear", align_corners=False)
        coloured = lab_to_rgb(torch.cat([rgb_to_lab(x)[:, :1], ab], 1)).clamp(0, 1)
        return {"grey": grey(x), "coloured": coloured, "true": x}
