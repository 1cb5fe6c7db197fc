"""A policy of a task in colours: what is seen is the lightness of an image, what is asked for are its colours."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.batch import DataShape, Fields
from unlabeled.encoders.lab import lab_to_rgb, rgb_to_lab
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views.view import RATIO, View, draw_views
from unlabeled.words import counted

COARSER = 4
"""Side of the image, in sides of what is asked for: 64 of 256 pixels (Zhang et al. 2016, published network)."""
COLOURFUL = 5.0
"""What a or b must exceed somewhere in an image that teaches anything (Zhang et al. 2016, published code)."""


@register("colours")
class Colours:
    """A crop of each image, mirrored, whose colours are left as they are: they are what is asked for.

    Crops and mirrors are those of Zhang et al. 2016, published code (176 of 256 pixels, at random places); a range of areas
    in their place is ours. The view is in colour: encoders with `--encoder.streams lightness` or `lab` see its lightness and
    its colours apart.
    """

    def __init__(
        self, shape: DataShape, *, pad: float = 0.0, scale: tuple[float, float] = (0.4, 1.0), mirror: float = 0.5
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            pad: largest shift either way, as a fraction of the side; what lies outside the picture is black.
            scale: least and largest area of the crop, as fractions of the picture.
            mirror: probability of a left-right reflection, where the data allows it.

        Raises:
            UserError: a value out of range.
        """
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        self.parts = [View(shape.size, scale, ratio, pad, mirror=mirror).within(shape)]

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [(B, C, size, size)] in [0, 1]; no targets."""
        return draw_views(self.parts, fields["image"], generator), {}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns what is seen and what is asked for, as pictures: the lightness alone, and the image.

        Raises:
            UserError: images without colours.
        """
        if views[0].shape[1] != 3:
            raise UserError(f"images of {views[0].shape[1]} channels have no colours: give images in colour (RGB)")
        return {"grey": grey(views[0]), "true": views[0]}


def grey(x: Tensor) -> Tensor:
    """Returns the lightness of RGB images (B, 3, H, W) in [0, 1], as grey images of that form."""
    lab = rgb_to_lab(x)
    return lab_to_rgb(torch.cat([lab[:, :1], torch.zeros_like(lab[:, 1:])], 1)).clamp(0, 1)


def coarse_side(side: int) -> int:
    """Returns the side of what is asked for of an image of that side."""
    return -(-side // COARSER)


def coarse(x: Tensor) -> Tensor:
    """Returns the Lab colours that are asked for: RGB (B, 3, H, W) -> (B, 3, h, w), means over squares."""
    return F.adaptive_avg_pool2d(rgb_to_lab(x), (coarse_side(x.shape[2]), coarse_side(x.shape[3])))


class Chroma(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] -> (B, 1): the largest of |a| and |b| among the colours that are asked for."""

    def forward(self, x: Tensor) -> Tensor:
        """Returns it."""
        return coarse(x)[:, 1:].abs().flatten(1).amax(1, keepdim=True)


def check_colourful(chroma: Tensor, method: str) -> None:
    """Checks that any training image has colours, by the chroma (n, ...) of all of them.

    Raises:
        UserError: none has.
    """
    if not (chroma > COLOURFUL).any():
        raise UserError(
            f"all {counted(len(chroma), 'training images')} are grey, and {method} asks for their colours: give images in "
            "colour, or another --method"
        )
