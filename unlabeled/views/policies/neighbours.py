"""The policy of relative positions: a patch, and the eight around it."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import Share, register
from unlabeled.views.ops import cut_out, keep_one_colour
from unlabeled.views.view import RATIO, View, draw_views

GRID, CENTRE = 3, 4
PATCHES = GRID * GRID
NEIGHBOURS = PATCHES - 1
JITTER = 7 / 96
"""Of a patch's side, each way (Doersch et al. 2015, §3.1)."""
GREEN_MAGENTA = (-1.0, 2.0, -1.0)
LEAST = 3

Colours = Literal["drop", "project", "keep"]


@register("neighbours")
class Neighbours:
    """A patch of an image and the eight around it, on a 3×3 grid at a random place (Doersch, Gupta & Efros 2015,
    "Unsupervised Visual Representation Learning by Context Prediction", §3.1).

    What would tell where a neighbour lies without a look at what it shows is taken away, as there: between patches is a
    gap of half a patch, so that edges and textures do not go on; each patch is moved by up to 7 px of 96 along each axis;
    and colours say nothing of the lens, whose chromatic aberration grows from the middle of an image.

    The first patch is the centre, the others follow row by row. The target "position" (B, 8) says where each of these lies:
    0 to 7. The published code, too, uses a patch in several pairs.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        patch: int = 0,
        gap: Share = 0.5,
        jitter: Share = JITTER,
        colours: Colours = "drop",
        scale: tuple[float, float] = (1.0, 1.0),
        mirror: float = 0.5,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            patch: side of a patch in pixels; 0 for the largest of which nine fit with their gaps.
            gap: between patches, as a fraction of their side (0.5: Doersch et al. 2015, §3.1).
            jitter: largest shift of each patch along each axis, as a fraction of its side (7/96: §3.1).
            colours: `drop` all but one of each patch, which leaves grey with noise of 1% of its deviation; `project` them
                on the plane without green against magenta; or `keep` them (§3.1). Kept where the data have no three, or
                do not allow it.
            scale: least and largest area of the image's crop, as fractions of the picture.
            mirror: probability of a left-right reflection of the image, where the data allows it.

        Raises:
            UserError: a value out of range, or images too small for patches.
        """
        if colours not in get_args(Colours):
            raise UserError(f"colours {colours!r} is not possible: give one of {', '.join(get_args(Colours))}")
        self.gap, self.jitter, size = gap, jitter, shape.size
        fitting = [side for side in range(LEAST, size) if self.span(side) <= size]
        self.patch = int(patch) or (fitting[-1] if fitting else LEAST)
        if self.patch < 1 or self.span(self.patch) > size:
            smaller = f", or --views.patch {fitting[-1]} or less" if fitting else ""
            raise UserError(
                f"nine patches of {self.patch} px with their gaps take {self.span(self.patch)} px, and views have {size}: "
                f"give --image-size {self.span(max(LEAST, self.patch))} or more{smaller}"
            )
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        self.parts = [View(size, scale, ratio, mirror=mirror).within(shape)]
        self.colours: Colours = colours if shape.channels == 3 and "colour" in shape.invariances else "keep"

    def span(self, side: int) -> int:
        """Returns the side of the grid of patches of that side, with their gaps and shifts, in pixels."""
        return GRID * side + (GRID - 1) * round(self.gap * side) + 2 * round(self.jitter * side)

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [patches (B, 9, C, p, p)] in [0, 1], the centre first; "position" (B, 8) int64."""
        (whole,) = draw_views(self.parts, fields["image"], generator)  # (B, C, size, size)
        count, size, shift = len(whole), whole.shape[3], round(self.jitter * self.patch)
        corner = shift + torch.randint(size - self.span(self.patch) + 1, (2, count, 1), generator=generator)
        moved = torch.randint(-shift, shift + 1, (2, count, PATCHES), generator=generator)
        place = torch.tensor([CENTRE, *(i for i in range(PATCHES) if i != CENTRE)])
        step = self.patch + round(self.gap * self.patch)
        top, left = torch.stack([place // GRID, place % GRID])[:, None] * step + corner + moved  # (B, 9) each
        patches = cut_out(whole, top.to(whole.device), left.to(whole.device), self.patch)
        kept = torch.randint(3, (count, PATCHES), generator=generator)
        noise = torch.randn(patches.shape if self.colours == "drop" else (0,), generator=generator)
        position = torch.arange(NEIGHBOURS, device=whole.device).expand(count, NEIGHBOURS)
        return [self.coloured(patches, kept.to(whole.device), noise.to(whole.device))], {"position": position}

    def coloured(self, patches: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
        """Takes away of patches (B, 9, 3, p, p) what tells of the lens: all colours but the `kept` (B, 9), or one direction
        of colour."""
        if self.colours == "project":
            away = patches.new_tensor(GREEN_MAGENTA)
            along = torch.einsum("bpchw,c->bphw", patches, away / away.square().sum())
            return (patches - along[:, :, None] * away.view(3, 1, 1)).clamp(0, 1)
        if self.colours == "keep":
            return patches
        return keep_one_colour(patches, kept, noise)

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Draws the centre, and the patches as they lie around it."""
        return {"centre": views[0][:, 0], "true": around(views[0][:, 0], views[0][:, 1:])}


def around(centre: Tensor, neighbours: Tensor) -> Tensor:
    """Lays neighbours (B, 8, C, p, p), row by row, around a centre (B, C, p, p): (B, 9, C, p, p)."""
    return torch.cat([neighbours[:, :CENTRE], centre[:, None], neighbours[:, CENTRE:]], 1)
