"""A policy of a task of magnification: an image, and the same with fewer pixels."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views.view import RATIO, View, draw_views

LEAST = 4
"""Side of a reduced image, at least; ours."""


@register("reduced")
class Reduced:
    """A crop of each image, mirrored: with a half or a quarter of its side in pixels, and as it is.

    Reduced by bicubic interpolation, with antialiasing (Ledig et al. 2017, §3.2).
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        factor: Literal[2, 4] = 2,
        scale: tuple[float, float] = (0.4, 1.0),
        mirror: float = 0.5,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            factor: 2 or 4, by which the side is divided.
            scale: least and largest area of the crop, as fractions of the picture.
            mirror: probability of a left-right reflection, where the data allows it.

        Raises:
            UserError: a value out of range, or views too small for the factor.
        """
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        self.parts, self.side = [View(shape.size, scale, ratio, mirror=mirror).within(shape)], shape.size // factor
        if self.side < LEAST:
            raise UserError(
                f"views of {shape.size} pixels leave {self.side} when reduced by {factor}, and {LEAST} are the least: give "
                f"--kind.size {LEAST * factor} or more"
            )

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [(B, C, size / factor, ...), (B, C, size, size)] in [0, 1]; no targets."""
        (x,) = draw_views(self.parts, fields["image"], generator)
        small = F.interpolate(x, (self.side, self.side), mode="bicubic", antialias=True, align_corners=False)
        return [small.clamp(0, 1), x], {}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns what is seen and what is asked for, as pictures of one size."""
        return {"small": F.interpolate(views[0], views[1].shape[2:], mode="nearest"), "true": views[1]}
