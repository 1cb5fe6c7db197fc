"""Policies whose targets are turns: every image in all four orientations."""

from __future__ import annotations

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.registry import register
from unlabeled.views.view import RATIO, View, draw_views

TURNS = 4


@register("turns")
class Turns:
    """A view of each image, mildly changed, and the same turned by 90, 180 and 270 degrees (Gidaris et al. 2018, §3.1).

    All four turns of an image go into one batch, which the paper found far better than one at random. The view is shifted
    by an eighth of the side and mirrored, as in the published code for CIFAR-10. Turns are exact: transposed and reversed,
    never interpolated, so that no trace of a resampling tells them apart (§2.2). What is done before them favours no
    direction: the black border of a shift is as likely on each side.

    A turn is what is predicted, not a change that keeps the meaning: data need not declare the invariance "rotation". Where
    they do, the turn of an image cannot be told, and there is nothing to learn from it.

    The target "rotation" (B, 4) says by how many quarter turns, counter-clockwise, each was turned: 0, 1, 2, 3.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        pad: float = 0.125,
        scale: tuple[float, float] = (1.0, 1.0),
        mirror: float = 0.5,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            pad: largest shift either way, as a fraction of the side; what lies outside the picture is black.
            scale: least and largest area of the crop as fractions of the picture; (0.08, 1) with pad 0 is Inception's.
            mirror: probability of a left-right reflection, where the data allows it.

        Raises:
            UserError: a value out of range.
        """
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        self.parts = [View(shape.size, scale, ratio, pad, mirror=mirror).within(shape)]

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [(B, 4, C, size, size)] in [0, 1]; "rotation" (B, 4) int64."""
        (upright,) = draw_views(self.parts, fields["image"], generator)
        turned = torch.stack([torch.rot90(upright, k, (2, 3)) for k in range(TURNS)], 1)
        return [turned], {"rotation": torch.arange(TURNS, device=turned.device).expand(len(turned), TURNS)}
