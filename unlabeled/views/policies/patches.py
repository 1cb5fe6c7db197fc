"""Policies of pretext tasks: views that know something of themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views import ops
from unlabeled.views.policies.weak_strong import Operation, autocontrast, posterize, sharpness, solarize
from unlabeled.views.view import RATIO, Parameters, View, check_number, draw_views, of, pieces, to_device

GRID = 3
CELL, PATCH = 85 / 224, 64 / 224
"""Sides of a cell of the grid and of the patch cut from it, where the view of the whole has side 1."""
LEAST = 4
WHITE = 255

OPERATIONS = (
    Operation(posterize, 4, 9, "intensity"),  # 4 to 8 bits, alike
    Operation(sharpness, 0.1, 1.9),
    Operation(solarize, 0, 1, "intensity"),
    Operation(autocontrast, changes="balance"),
)
"""One after the other: the photometric transformation of the published code."""


@dataclass(frozen=True, slots=True)
class Photometric:
    """All `operations` on a picture, with a probability; then, with another, the loss of its colour.

    Attributes:
        chance: of the operations, those of PIL on bytes.
        grey: chance of losing the colour.
        operations: each with a magnitude from its range.
    """

    chance: float
    grey: float
    operations: tuple[Operation, ...]

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        """Draws parameters (count,), on the CPU."""
        u = torch.rand(2 + len(self.operations), count, generator=generator)
        drawn = {"light": (u[0] < self.chance).float(), "grey": (u[1] < self.grey).float()}
        for place, operation in enumerate(self.operations):
            drawn[f"magnitude {place}"] = operation.low + (operation.high - operation.low) * u[2 + place]
        return drawn

    def apply(self, x: Tensor, drawn: Parameters) -> Tensor:
        """Maps (B, C, S, S) float32 in [0, 1], both."""
        if self.chance > 0:
            changed = x.mul(WHITE).round_().to(torch.uint8)
            for place, operation in enumerate(self.operations):
                changed = operation.apply(changed, drawn[f"magnitude {place}"])
            x = torch.where(drawn["light"].view(-1, 1, 1, 1) > 0, changed.float().div_(WHITE), x)
        if self.grey > 0:
            luma = torch.einsum("bchw,c->bhw", x, x.new_tensor(ops.LUMA)).unsqueeze(1)
            x = torch.where(drawn["grey"].view(-1, 1, 1, 1) > 0, luma, x)
        return x


@register("jigsaw", joined=True, says="The image, and one picture of nine patches of it in random order: `pirl`, joined.")
@register("pirl", formerly={"photometric": 0.0})
class Pirl:
    """The image, and nine patches of it in random order (Misra & van der Maaten 2020; numbers of the published code).

    The image is a random resized crop of 8 to 100% of the area. The patches come from another crop, of 60 to 100%, in a grid
    of 3×3: of 85 px each where the image has 224, with a patch of 64 px at a random place in each cell, at least 4 px. Image
    and patches are each mirrored with probability 0.5, and jittered by 0.4, 0.4, 0.4, 0.2; with probability 0.66 they are
    posterised (to 4 to 8 bits), blurred or sharpened (0.1 to 1.9), solarised (above any threshold), and their contrast is
    stretched, one after the other; last they are grey with probability 0.2.

    - `pirl`: the image and, each by itself, the patches; for the method of that name.
    - `jigsaw`: two pictures, for every method that compares two: the patches put together in their random order, each with
      a third of the side; and the image. The first is the one that goes through the encoder that learns where the views
      have different parts to play: MoCo's queue then holds images, as the paper's bank does.

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
        photometric: float = 0.66,
        grey: float = 0.2,
        joined: bool = False,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its invariances switch off what would change the meaning of a picture.
            scale: least and largest area of the image's crop, as fractions of the picture.
            patch_scale: likewise of the crop that the patches are cut from.
            patch: side of a patch in pixels; 0 for 64/224 of the image's, at least 4, or a third of it if they are joined.
            mirror: probability of a left-right reflection, where the data allows it.
            jitter: probability that brightness, contrast, saturation and hue change at all.
            brightness: half-width of the range of factors about 1.
            contrast: half-width of the range of factors about 1.
            saturation: half-width of the range of factors about 1.
            hue: largest rotation of the colours either way, in turns.
            photometric: probability of posterising, sharpening, solarising and stretching the contrast, or what the data
                allow of these.
            grey: probability of losing the colour.
            joined: whether the patches are put together to a picture as large as the image, which then comes second.

        Raises:
            UserError: a value out of range.
        """
        chance = check_number("photometric", photometric, 0.0, 1.0, "it is a probability")
        if patch and joined:
            raise UserError(f"patch {patch} is not possible: nine patches fill the view, so each has a third of its side")
        side = -(-shape.size // GRID) if joined else int(patch) or max(LEAST, round(PATCH * shape.size))
        self.cell = round(side * CELL / PATCH) if joined else max(LEAST, round(CELL * shape.size))
        check_number("patch", side, 1, self.cell, f"it is cut from a cell of {self.cell} pixels")
        image = View(
            shape.size, scale, RATIO, mirror=mirror, jitter=jitter, brightness=brightness, contrast=contrast,
            saturation=saturation, hue=hue, grey=grey,
        ).within(shape)  # fmt: skip
        fitting = tuple(operation for operation in OPERATIONS if operation.fits(shape))
        self.light = Photometric(chance if fitting else 0.0, image.grey, fitting)
        image = replace(image, grey=0.0)
        self.parts = [image, replace(image, size=side, scale=patch_scale).within(shape)]
        self.joined = joined

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> [image (B, C, size, size), patches (B, 9, C, p, p)], or joined [(B, C, size, size),
        image]; "permutation" (B, 9) int64."""
        x = fields["image"]
        image, patch = self.parts
        (whole,) = draw_views([image], x, generator)
        drawn, order = self.draw(len(x), x.shape[3], generator)
        count, c, side = GRID * GRID, x.shape[1], x.shape[3]
        planned = patch.plan(to_device(drawn, x.device), side, c)
        lit, lit_patches = (to_device(self.light.draw(n, generator), x.device) for n in (len(x), count * len(x)))
        out = torch.empty(len(x), count, c, patch.size, patch.size, device=x.device)
        for piece in pieces(x, max(side, image.size)):
            pixels = x[piece].repeat_interleave(count, 0)  # (b·9, C, S, S)
            mine = slice(piece.start * count, piece.stop * count)
            cut = patch.apply(pixels, of(planned, mine), out[piece].flatten(0, 1))
            cut.copy_(self.light.apply(cut, of(lit_patches, mine)))
            whole[piece] = self.light.apply(whole[piece], of(lit, piece))
        views = [self.join(out), whole] if self.joined else [whole, out]
        return views, {"permutation": order.to(x.device, non_blocking=True)}

    def join(self, patches: Tensor) -> Tensor:
        """Puts patches (B, 9, C, p, p) together to (B, C, size, size); up to 2 px are cut where the side is no multiple of
        3."""
        b, _, c, p, _ = patches.shape
        size = self.parts[0].size
        joined = patches.view(b, GRID, GRID, c, p, p).permute(0, 3, 1, 4, 2, 5).reshape(b, c, GRID * p, GRID * p)
        return joined[:, :, :size, :size].contiguous()

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
