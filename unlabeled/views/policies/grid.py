"""The policy of predictive coding on images: a grid of overlapping patches."""

from __future__ import annotations

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import Share, register
from unlabeled.views.ops import cut_out, keep_one_colour
from unlabeled.views.view import RATIO, View, draw_views

GRID = 7
PATCHES = GRID * GRID
LEAST = 4
SEEN = 3
"""Rows above what the sheet of views asks for."""


@register(
    "patch-grid-v2", grey=0.25, drop=1.0, flip=0.5,
    says="The same 7×7 grid with stronger changes of each patch, and perhaps upside down (Hénaff et al. 2020, CPC v2).",
)  # fmt: skip
@register("patch-grid")
class PatchGrid:
    """A 7×7 grid of patches of an image, each half over the next: 64 px of 256 (van den Oord, Li & Vinyals 2018,
    "Representation Learning with Contrastive Predictive Coding", §3.2).

    Each patch is a crop of 60 px of its 64 at a random place, with black around it, so that no edge goes on in the next. The
    image is mirrored half of the time.

    - `patch-grid`: images without colour, as in that paper.
    - `patch-grid-v2`: patches are changed each by itself, so that what they share beyond what they show is gone: two of
      three colours dropped, mirrored or not (Hénaff et al. 2020, "Data-Efficient Image Recognition with Contrastive
      Predictive Coding", §3.1); a quarter of the images loses its colour. (Its grid has 6×6 patches of 80 px of 260.)
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        scale: tuple[float, float] = (0.6, 1.0),
        mirror: float = 0.5,
        grey: float = 1.0,
        inner: Share = 60 / 64,
        drop: Share = 0.0,
        flip: Share = 0.0,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            scale: least and largest area of the image's crop, as fractions of the picture; the papers crop 256 px of 300.
            mirror: probability of a left-right reflection of the image, where the data allows it.
            grey: probability that the image loses its colour.
            inner: side of what is kept of a patch, as a fraction of the patch's (60/64: van den Oord et al. 2018, §3.2).
            drop: probability that a patch keeps one colour alone, where the data have three and allow it.
            flip: probability of a left-right reflection of a patch, where the data allows it.

        Raises:
            UserError: a value out of range, or images too small for patches.
        """
        self.stride = shape.size // (GRID + 1)
        self.patch = 2 * self.stride
        if self.patch < LEAST:
            raise UserError(
                f"a {GRID}×{GRID} grid in views of {shape.size} px has patches of {self.patch} px, which show nothing: "
                f"give --image-size {LEAST // 2 * (GRID + 1)} or more"
            )
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        self.parts = [View(shape.size, scale, ratio, mirror=mirror, grey=grey).within(shape)]
        self.inner = max(1, round(inner * self.patch))
        self.drop = drop if shape.channels == 3 and "colour" in shape.invariances else 0.0
        self.flip = flip if "mirror" in shape.invariances else 0.0

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [patches (B, 49, C, p, p)] in [0, 1], row by row; no targets: each patch is one."""
        (whole,) = draw_views(self.parts, fields["image"], generator)  # (B, C, size, size)
        count, size, device = len(whole), whole.shape[3], whole.device
        place = torch.arange(PATCHES)
        rest = torch.randint(size - self.stride * (GRID + 1) + 1, (2, count, 1), generator=generator)
        top, left = (torch.stack([place // GRID, place % GRID])[:, None] * self.stride + rest).to(device)  # (B, 49) each
        patches = cut_out(whole, top, left, self.patch)
        u = torch.rand(4, count, PATCHES, generator=generator)
        if self.drop:
            kept = torch.where(u[0] < self.drop, (u[1] * 3).long().clamp(max=2), -1).to(device)
            patches = keep_one_colour(patches, kept, torch.randn(patches.shape, generator=generator).to(device))
        if self.flip:
            patches = torch.where((u[2] < self.flip).to(device)[..., None, None, None], patches.flip(4), patches)
        edge = (u[2:] * (self.patch - self.inner + 1)).long().to(device)  # (2, B, 49), of what is kept
        reach = torch.arange(self.patch, device=device)
        within = (reach >= edge[..., None]) & (reach < edge[..., None] + self.inner)  # (2, B, 49, p)
        return [patches * (within[0, :, :, None, :, None] & within[1, :, :, None, None, :])], {}

    def task(self, views: list[Tensor], targets: dict[str, Tensor]) -> dict[str, Tensor]:
        """Draws the patches above, from which those below are predicted, and all of them."""
        return {"above": covered(views[0], SEEN), "true": views[0]}


def covered(patches: Tensor, rows: int) -> Tensor:
    """Keeps the first rows of a grid of patches (B, 49, C, p, p), and puts grey in place of the others."""
    hidden = torch.arange(PATCHES, device=patches.device) >= rows * GRID
    return torch.where(hidden[:, None, None, None], 0.5, patches)
