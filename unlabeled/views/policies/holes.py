"""A policy of a task of filling in: which region of an image is hidden."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views.view import RATIO, View, check_number, draw_views, one_thread

AREA = 0.25
"""Share of the image that is hidden, at most (Pathak et al. 2016, §3.3)."""
BLOCKS = 4
"""Squares of a quarter of the side, that may overlap: ours, the paper says no number."""
KNOTS = 0.06
"""Of the smooth noise whose lowest quarter makes regions: knots a pixel, at 128 pixels (published code)."""
CODES = 128
GREY = 0.5

Mask = Literal["centre", "blocks", "regions"]


@register("holes")
class Holes:
    """A crop of each image, mirrored, and a region of it that is hidden (Pathak et al. 2016, §3.3).

    - `centre`: the square in the middle, of half the side.
    - `blocks`: four squares of a quarter of the side at random places, which may overlap.
    - `regions`: of any shape, a quarter of the area: where smooth noise is lowest, as in the published code; the paper
      pastes shapes of the PASCAL VOC masks.

    What is asked for reaches a little beyond the hidden region, into what is seen, so that the two join.

    The targets "hidden" and "asked", which holds it, are bool (B, 1, S, S).
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        mask: Mask = "regions",
        overlap: float = 4 / 128,
        scale: tuple[float, float] = (0.4, 1.0),
        mirror: float = 0.5,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            mask: how the hidden region is drawn.
            overlap: by how much what is asked for reaches beyond it, as a fraction of the side; of a pixel at least, if
                not 0.
            scale: least and largest area of the crop, as fractions of the picture.
            mirror: probability of a left-right reflection, where the data allows it.

        Raises:
            UserError: a value out of range, or so small an image that nothing would be hidden.
        """
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        self.parts = [View(shape.size, scale, ratio, mirror=mirror).within(shape)]
        share = check_number("overlap", overlap, 0.0, 0.25, "it is a fraction of the side")
        if shape.size < 4:
            raise UserError(f"views of {shape.size} pixels are too small to hide a part of: give --kind.size 4 or more")
        self.mask, self.overlap = mask, max(1, round(share * shape.size)) if share else 0

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [(B, C, size, size)] in [0, 1]; "hidden" and "asked" (B, 1, size, size) bool."""
        (x,) = draw_views(self.parts, fields["image"], generator)
        with one_thread():
            hidden = _drawn(self.mask, len(x), x.shape[2], generator)
        hidden = hidden.to(x.device, non_blocking=True)
        around = 2 * self.overlap + 1
        asked = F.max_pool2d(hidden.float(), around, 1, self.overlap) > 0
        return [x], {"hidden": hidden, "asked": asked}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns what is seen and what is asked for, as pictures."""
        return {"hole": torch.where(targets["hidden"], GREY, views[0]), "true": views[0]}


def _drawn(mask: Mask, count: int, side: int, generator: torch.Generator) -> Tensor:
    """(count, 1, side, side) bool."""
    places = torch.arange(side)
    if mask == "regions":
        knots = max(2, round(KNOTS * CODES)) + 1
        noise = torch.rand(count, 1, knots, knots, generator=generator)
        smooth = F.interpolate(noise, (side, side), mode="bicubic", align_corners=True).flatten(1)
        lowest = smooth.kthvalue(max(1, round(AREA * side * side)), 1, keepdim=True).values
        return (smooth <= lowest).view(count, 1, side, side)
    blocks, width = (1, side // 2) if mask == "centre" else (BLOCKS, side // 4)
    corners = torch.full((2, count, blocks), (side - width) // 2)
    if mask == "blocks":
        corners = (torch.rand(2, count, blocks, generator=generator) * (side - width + 1)).floor().long()
    rows, columns = ((places >= c[..., None]) & (places < c[..., None] + width) for c in corners)  # (count, blocks, side)
    drawn: Tensor = (rows[..., :, None] & columns[..., None, :]).any(1, keepdim=True)
    return drawn
