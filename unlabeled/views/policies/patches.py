"""Policies of pretext tasks: views that know something of themselves."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.registry import register
from unlabeled.views.view import RATIO, Parameters, View, check_number, draw_views, of, pieces, to_device

GRID = 3
CELL, PATCH = 85 / 224, 64 / 224
"""Sides of a cell of the grid and of the patch cut from it, where the view of the whole has side 1."""
LEAST = 4


@register("pirl")
class Pirl:
    """The image, and nine patches of it in random order (Misra & van der Maaten 2020; numbers of the published code).

    The image is a random resized crop of 8 to 100% of the area. The patches come from another crop, of 60 to 100%, in a grid
    of 3×3: of 85 px each where the image has 224, with a patch of 64 px at a random place in each cell, at least 4 px. Image
    and patches are each mirrored with probability 0.5, jittered by 0.4, 0.4, 0.4, 0.2, and grey with probability 0.2.

    The target "permutation" (B, 9) says which cell, counted by rows, each patch comes from.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        patch_scale: tuple[float, float] = (0.6, 1.0),
        patch: int = 0,
        mirror: float = 0.5,
        jitter: float = 1.0,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.2,
        grey: float = 0.2,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its invariances switch off what would change the meaning of a picture.
            scale: least and largest area of the image's crop, as fractions of the picture.
            patch_scale: likewise of the crop that the patches are cut from.
            patch: side of a patch in pixels; 0 for 64/224 of the image's, at least 4.
            mirror: probability of a left-right reflection, where the data allows it.
            jitter: probability that brightness, contrast, saturation and hue change at all.
            brightness: half-width of the range of factors about 1.
            contrast: half-width of the range of factors about 1.
            saturation: half-width of the range of factors about 1.
            hue: largest rotation of the colours either way, in turns.
            grey: probability of losing the colour.

        Raises:
            UserError: a value out of range.
        """
        self.cell = max(LEAST, round(CELL * shape.size))
        if patch:
            check_number("patch", patch, 1, self.cell, f"it is cut from a cell of {self.cell} pixels")
        side = int(patch) or max(LEAST, round(PATCH * shape.size))
        image = View(
            shape.size, scale, RATIO, mirror=mirror, jitter=jitter, brightness=brightness, contrast=contrast,
            saturation=saturation, hue=hue, grey=grey,
        ).within(shape)  # fmt: skip
        self.parts = [image, replace(image, size=side, scale=patch_scale).within(shape)]

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [image (B, C, size, size), patches (B, 9, C, p, p)]; "permutation" (B, 9) int64."""
        x = fields["image"]
        image, patch = self.parts
        (whole,) = draw_views([image], x, generator)
        drawn, order = self.draw(len(x), x.shape[3], generator)
        count, c, side = GRID * GRID, x.shape[1], x.shape[3]
        planned = patch.plan(to_device(drawn, x.device), side, c)
        out = torch.empty(len(x), count, c, patch.size, patch.size, device=x.device)
        for piece in pieces(x, side):
            pixels = x[piece].repeat_interleave(count, 0)  # (b·9, C, S, S)
            mine = slice(piece.start * count, piece.stop * count)
            patch.apply(pixels, of(planned, mine), out[piece].flatten(0, 1))
        return [whole, out], {"permutation": order.to(x.device, non_blocking=True)}

    def draw(self, count: int, side: int, generator: torch.Generator) -> tuple[Parameters, Tensor]:
        """Draws parameters (count · 9,) of the patches in the order of `order` (count, 9), on the CPU; colours for each
        patch."""
        patch, places = self.parts[1], GRID * GRID
        crop = patch.draw(count, side, generator)
        drawn = patch.draw(count * places, side, generator)
        order = torch.rand(count, places, generator=generator).argsort(1)
        gap = torch.rand(2, count, places, generator=generator) * (self.cell - patch.size)
        for axis, (start, length, cell) in enumerate((("top", "height", order // GRID), ("left", "width", order % GRID))):
            pixel = crop[length][:, None] / (GRID * self.cell)  # of the picture, in one of the grid
            drawn[start] = (crop[start][:, None] + (cell * self.cell + gap[axis]) * pixel).flatten()
            drawn[length] = (pixel * patch.size).expand(-1, places).flatten()
        return drawn, order
