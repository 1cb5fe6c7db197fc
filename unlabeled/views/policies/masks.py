"""Policies whose targets are masks: which patches of an image are seen, and which are not."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.parts.patches import covered, patch_side
from unlabeled.registry import register
from unlabeled.views.policies.holes import GREY
from unlabeled.views.view import RATIO, View, check_number, draw_views, one_thread
from unlabeled.words import counted

RATIOS = (0.75, 1.5)
"""Of rows to columns of a block that is asked for (Assran et al. 2023, §4)."""
LEAST = 0.2
"""Share of the patches of each image that is seen, where chance allows it; ours: in small grids four blocks may hide nearly
all, and of each image no more are seen than of that of which fewest are."""
TRIES = 8  # drawings of an image's blocks, of which the first that leaves so many is taken


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


@register("blocks")
class Blocks:
    """A crop of each image, and which blocks of its patches are asked for, of what one large block shows besides them
    (Assran et al. 2023, §3 and §4).

    Of each image some blocks are asked for, which may overlap, of 15 to 20% of the area and 0.75 to 1.5 times as high as
    wide; what is seen is a square block of 85 to 100% of the area, less all that is asked for. All images of a batch have
    blocks of one size; and as many patches are seen of each as of the one of which fewest are: which, is drawn (the
    published code takes the upper ones).

    The target "keep" (B, K) holds the places of patches that are seen, counted row by row, and "hidden" (B, M, T) those of
    each block; the two have none in common.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        scale: tuple[float, float] = (0.3, 1.0),
        mirror: float = 0.0,
        blocks: int = 4,
        area: tuple[float, float] = (0.15, 0.2),
        seen: tuple[float, float] = (0.85, 1.0),
        patch_size: int = 0,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            scale: least and largest area of the crop, as fractions of the picture.
            mirror: probability of a left-right reflection, where the data allows it; none in the published code.
            blocks: how many are asked for.
            area: least and largest of a block that is asked for, as fractions of the view.
            seen: likewise of the block of which the rest is seen.
            patch_size: side of a patch in pixels; 0 for a ViT's: an eighth of the view's side up to 64 pixels, else 16.

        Raises:
            UserError: a value out of range, or too few patches for blocks of them.
        """
        self.parts = [View(shape.size, scale, RATIO, mirror=mirror).within(shape)]
        self.blocks = int(check_number("blocks", blocks, 1, 64, "it is how many are asked for"))
        for name, (low, high) in {"area": area, "seen": seen}.items():
            check_number(name, low, 0.0, high, "it is a range of fractions of the view, the lower first")
            check_number(name, high, low, 1.0, "it is a range of fractions of the view")
        check_number("patch_size", patch_size, 0, shape.size, f"it is cut from a view of {shape.size} pixels")
        self.area, self.seen, self.side = area, seen, -(-shape.size // (int(patch_size) or patch_side(shape.size)))
        if self.side < 4:
            raise UserError(
                f"views of {shape.size} px have {self.side}×{self.side} patches, too few to hide blocks of them: give a "
                "smaller --views.patch-size and --encoder.patch-size"
            )

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [(B, C, size, size)] in [0, 1]; "keep" (B, K), "hidden" (B, M, T) int64."""
        x = fields["image"]
        views = draw_views(self.parts, x, generator)
        with one_thread():
            keep, hidden = self._drawn(len(x), generator)
        return views, {"keep": keep.to(x.device, non_blocking=True), "hidden": hidden.to(x.device, non_blocking=True)}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Returns what is seen and what is asked for, as pictures."""
        (x,), places = views, self.side**2
        seen, asked = (covered(targets[name].flatten(1), places, *x.shape[2:]) for name in ("keep", "hidden"))
        return {"seen": torch.where(seen, x, GREY), "asked": torch.where(asked, x, GREY)}

    def _drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(count, K) and (count, M, T)."""
        lots = torch.rand(3, generator=generator).tolist()
        asked = self._size(self.area, lots[0], math.exp(math.log(RATIOS[0]) + lots[1] * math.log(RATIOS[1] / RATIOS[0])))
        around = self._size(self.seen, lots[2], 1.0)
        hidden = self._blocks(asked, (TRIES, count, self.blocks), generator)  # (TRIES, count, M, side²) bool
        free = self._blocks(around, (TRIES, count, 1), generator)[:, :, 0] & ~hidden.any(2)  # (TRIES, count, side²)
        left = free.sum(2)  # (TRIES, count)
        enough = (left >= LEAST * self.side**2).int()
        best, of = torch.where(enough.any(0), enough.argmax(0), left.argmax(0)), torch.arange(count)
        hidden, free = hidden[best, of], free[best, of]
        fewest = int(free.sum(1).min())
        if not fewest:
            raise UserError(
                f"{counted(self.blocks, 'blocks')} of up to {self.area[1]:g} of the view leave nothing of an image to be "
                "seen: give fewer --views.blocks, or a smaller --views.area"
            )
        order = torch.rand(free.shape, generator=generator).masked_fill(~free, -1.0)
        keep = order.argsort(1, descending=True)[:, :fewest].sort(1).values
        places = hidden.nonzero()[:, 2].view(count, self.blocks, -1)
        return keep, places

    def _size(self, area: tuple[float, float], lot: float, ratio: float) -> tuple[int, int]:
        """Rows and columns of a block: its area at `lot` of the way from least to largest, `ratio` times as high as wide."""
        patches = (area[0] + lot * (area[1] - area[0])) * self.side**2
        rows, columns = (max(1, round(math.sqrt(patches * r))) for r in (ratio, 1 / ratio))
        return min(rows, self.side), min(columns, self.side)

    def _blocks(self, size: tuple[int, int], shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draws blocks of so many rows and columns: bool (*shape, side²)."""
        within = []
        for length in size:
            first = (torch.rand(shape, generator=generator) * (self.side - length + 1)).floor().long()[..., None]
            places = torch.arange(self.side)
            within.append((places >= first) & (places < first + length))  # (*shape, side)
        return (within[0][..., :, None] & within[1][..., None, :]).flatten(-2)
