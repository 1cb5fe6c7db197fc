"""The policy of counting: an image at half its side, and the four quarters of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views.view import RATIO, View, draw_views

QUARTERS = 4
LEAST = 4


@register("quarters")
class Quarters:
    """An image scaled down to half its side, and its four quarters at full resolution, all of the same size (Noroozi,
    Pirsiavash & Favaro 2017, "Representation Learning by Learning to Count", §3).

    What would tell one from the other without a look at what they show is taken away, as there: the image is scaled down
    in one of several ways, drawn for each image (area, bilinear or bicubic, the last two antialiased), as the network
    otherwise knows the trace of one; and 67% of images lose their colour, against chromatic aberration.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        scale: tuple[float, float] = (0.6, 1.0),
        mirror: float = 0.5,
        grey: float = 0.67,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            scale: least and largest area of the image's crop, as fractions of the picture; the paper crops 224 px of 256 and
                more.
            mirror: probability of a left-right reflection, where the data allows it.
            grey: probability of losing the colour (0.67: Noroozi et al. 2017, §4.1).

        Raises:
            UserError: a value out of range, or images too small for quarters.
        """
        self.side = shape.size // 2
        if self.side < LEAST:
            raise UserError(
                f"views of {shape.size} px have quarters of {self.side} px, in which nothing is to be counted: give "
                f"--image-size {2 * LEAST} or more"
            )
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        self.parts = [View(2 * self.side, scale, ratio, mirror=mirror, grey=grey).within(shape)]

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [whole (B, C, s, s), quarters (B, 4, C, s, s)] in [0, 1], row by row, s half of the
        size; no targets: the sum is the target."""
        (x,) = draw_views(self.parts, fields["image"], generator)  # (B, C, 2s, 2s)
        way = torch.randint(len(WAYS), (len(x),), generator=generator).to(x.device)
        scaled = torch.stack([shrunk(x) for shrunk in WAYS])  # (3, B, C, s, s)
        whole = scaled[way, torch.arange(len(x), device=x.device)].clamp(0, 1)
        rows = x.view(*x.shape[:2], 2, self.side, 2, self.side)  # (B, C, 2, s, 2, s)
        return [whole, rows.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)], {}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Draws the image and its quarters, whose counts sum to the image's."""
        return {"whole": views[0], "quarters": views[1]}


def by_area(x: Tensor) -> Tensor:
    """Halves the side: means of 2×2 pixels."""
    return F.avg_pool2d(x, 2)


def bilinear(x: Tensor) -> Tensor:
    """Halves the side, bilinear and antialiased."""
    return F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True)


def bicubic(x: Tensor) -> Tensor:
    """Halves the side, bicubic and antialiased; values may leave [0, 1] a little."""
    return F.interpolate(x, scale_factor=0.5, mode="bicubic", antialias=True)


WAYS = (by_area, bilinear, bicubic)
