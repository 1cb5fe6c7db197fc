"""Views that share as much as they are asked to: what makes for good ones, as InfoMin asks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views import ops
from unlabeled.views.policies.weak_strong import WHITE, RandAugment
from unlabeled.views.view import RATIO, Parameters, View, check_number, of, pieces, to_device


@register("infomin")
class InfoMin:
    """Two views that share little beside what a picture is of (Tian et al. 2020, "What Makes for Good Views for Contrastive
    Learning?").

    As it is, it is the paper's InfoMin augmentation: random resized crops, a mirror, colour jitter, blur, two operations of
    RandAugment, grey. Their magnitudes are drawn from FixMatch's ranges, as `weak-strong` has them.

    Three options say how much the views share, and each swept gives one of the paper's curves, in which accuracy first rises
    and then falls as they share less: `scale`, whose least area makes crops overlap less; `strength` of the colours; and, of
    patches, their `distance` (section 3). A patch is a square of the picture that is not scaled in proportion to its
    content: the first lies anywhere, the second `distance` further right and down.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        scale: tuple[float, float] = (0.2, 1.0),
        strength: float = 1.0,
        patch: float = 0.0,
        distance: float = 0.0,
        blur: float = 0.5,
        n: int = 2,
        grey: float = 0.2,
        mirror: float = 0.5,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its invariances switch off what would change the meaning of a picture.
            scale: least and largest area of the crops, as fractions of the picture; without effect on patches.
            strength: brightness, contrast and saturation change by up to 0.8 of it, hue by 0.2, with probability 0.8
                (SimCLR's).
            patch: side of a patch, as a fraction of the picture's; 0 for crops.
            distance: from one patch to the other, right and down alike, as a fraction of the picture's side.
            blur: probability.
            n: operations of RandAugment.
            grey: probability of losing the colour.
            mirror: probability of a left-right reflection, where the data allows it.

        Raises:
            UserError: a value out of range, or patches that would leave the picture.
        """
        s = check_number("strength", strength, 0.0, 2.5, "it multiplies the colour jitter")
        self.patch = check_number("patch", patch, 0.0, 1.0, "it is a fraction of the picture's side")
        self.distance = check_number("distance", distance, 0.0, 1.0, "it is a fraction of the picture's side")
        if not self.patch and self.distance:
            raise UserError(f"distance {distance:g} is one of patches: give their side, such as --views.patch 0.375")
        if self.patch + self.distance > 1:
            raise UserError(
                f"distance {distance:g} is not possible: a second patch of side {patch:g} would leave the picture; give "
                f"{1 - patch:g} or less"
            )
        view = View(
            shape.size, scale, RATIO, mirror=mirror, jitter=0.8, brightness=0.8 * s, contrast=0.8 * s, saturation=0.8 * s,
            hue=0.2 * s, grey=grey, blur=blur,
        ).within(shape)  # fmt: skip
        self.random = RandAugment.within(shape, n)
        self.grey = view.grey if self.random.n else 0.0  # grey comes last
        self.parts = [replace(view, grey=view.grey - self.grey)] * 2

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> two float32 (B, C, size, size) in [0, 1]; no targets."""
        x = fields["image"]
        c, side, size = x.shape[1], x.shape[3], self.parts[0].size
        views = []
        for view, drawn in zip(self.parts, self.draw(len(x), side, generator), strict=True):
            planned = view.plan(to_device(drawn, x.device), side, c)
            random = self.random.draw(len(x), generator)
            lost = to_device({"grey": (torch.rand(len(x), generator=generator) < self.grey).float()}, x.device)
            out = view.apply(x, planned, torch.empty(len(x), c, size, size, device=x.device))
            if self.random.n:
                for piece in pieces(out, size):
                    out[piece] = self._later(out[piece], of(random, piece), lost["grey"][piece])
            views.append(out)
        return views, {}

    def draw(self, count: int, side: int, generator: torch.Generator) -> list[Parameters]:
        """Draws what `View.draw` does of both views of `count` pictures of `side` pixels, on the CPU."""
        drawn = [view.draw(count, side, generator) for view in self.parts]
        start = torch.rand(2, count, generator=generator) * (1 - self.patch - self.distance) * side
        if self.patch:
            for number, one in enumerate(drawn):
                one["top"], one["left"] = start + number * self.distance * side
                one["height"], one["width"] = torch.full((2, count), self.patch * side)
        return drawn

    def _later(self, x: Tensor, random: Parameters, lost: Tensor) -> Tensor:
        """RandAugment on bytes, then grey."""
        x = self.random.apply(x.mul(WHITE).round_().to(torch.uint8), random).float().div_(WHITE)
        if not self.grey:
            return x
        luma = torch.einsum("bchw,c->bhw", x, x.new_tensor(ops.LUMA)).unsqueeze(1)
        return torch.where(lost.view(-1, 1, 1, 1) > 0, luma, x)
