"""Policies whose targets are masks: which patches of an image are seen, and which are not."""

from __future__ import annotations

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.parts.patches import patch_side
from unlabeled.registry import register
from unlabeled.views.view import RATIO, View, check_number, draw_views, one_thread
from unlabeled.words import counted


@register("masked")
class Masked:
    """A crop of each image, mirrored, and which of its patches are hidden (He et al. 2021, §3 and table 8).

    Crops of 20 to 100% of the area, nothing but a mirror besides: the mask makes every sample new. Of each image 75% of the
    patches are hidden, drawn uniformly and without replacement, of each image by itself.

    The targets "keep" (B, K) and "hidden" (B, N - K) are places of patches, counted row by row; each is in one of them.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        scale: tuple[float, float] = (0.2, 1.0),
        mirror: float = 0.5,
        masked: float = 0.75,
        patch_size: int = 0,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            scale: least and largest area of the crop, as fractions of the picture.
            mirror: probability of a left-right reflection, where the data allows it.
            masked: share of the patches that are hidden.
            patch_size: side of a patch in pixels; 0 for a ViT's: an eighth of the view's side up to 64 pixels, else 16.

        Raises:
            UserError: a value out of range, or so few patches that none would be seen, or none hidden.
        """
        self.parts = [View(shape.size, scale, RATIO, mirror=mirror).within(shape)]
        share = check_number("masked", masked, 0.0, 1.0, "it is the share of patches that are hidden")
        check_number("patch_size", patch_size, 0, shape.size, f"it is cut from a view of {shape.size} pixels")
        self.places = (-(-shape.size // (int(patch_size) or patch_side(shape.size)))) ** 2
        self.seen = round(self.places * (1 - share))
        if not 0 < self.seen < self.places:
            raise UserError(
                f"masked {masked} leaves {self.seen} of {counted(self.places, 'patches')} to be seen, and some must "
                "be seen and some hidden: give another share, or smaller patches"
            )

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [(B, C, size, size)] in [0, 1]; "keep" (B, K), "hidden" (B, N - K) int64."""
        x = fields["image"]
        views = draw_views(self.parts, x, generator)
        with one_thread():
            order = torch.rand(len(x), self.places, generator=generator).argsort(1)
        order = order.to(x.device, non_blocking=True)
        return views, {"keep": order[:, : self.seen], "hidden": order[:, self.seen :]}
