"""The policy for writing and other things with an up and a left: moved and bent a little, never mirrored."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views import ops
from unlabeled.views.resample import crop_taps, separable
from unlabeled.views.view import Parameters, View, check_number, check_range, of, pieces, to_device

_KNOTS = 4


@register("affine")
class Affine:
    """Two views, each shifted, rotated, sheared, scaled and perhaps elastically distorted at random, then lit differently.

    The distortions are those with which Simard, Steinkraus & Platt 2003, section 2 ("Expanding Data Sets through Elastic
    Distortions") enlarge MNIST; their sizes here were chosen to leave digits of 8 to 32 pixels readable, not taken from it.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        shift: float = 0.1,
        rotation: float = 15.0,
        shear: float = 15.0,
        scale: tuple[float, float] = (0.85, 1.15),
        elastic: float = 0.0,
        border: Literal["zeros", "border", "reflection"] = "zeros",
        mirror: float = 0.5,
        jitter: float = 0.8,
        brightness: float = 0.2,
        contrast: float = 0.2,
        cutout: float = 0.0,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its invariances switch off what would change the meaning of a picture.
            shift: largest shift either way, right and down independently, as a fraction of the side.
            rotation: largest rotation either way, in degrees.
            shear: largest slant either way, in degrees.
            scale: smallest and largest factor by which things grow.
            elastic: standard deviation of a smooth random displacement, as a fraction of the side; 0.03 is visible.
            border: what lies outside the picture: "zeros" (black), "border" (its outermost pixels) or "reflection".
            mirror: probability of a left-right reflection, where the data allows it.
            jitter: probability that brightness and contrast change at all, where the data allows it.
            brightness: half-width of the range of factors about 1.
            contrast: half-width of the range of factors about 1.
            cutout: side of a black square at a random place, as a fraction of the side.

        Raises:
            UserError: a value out of range.
        """
        self.shift = check_number("shift", shift, 0.0, 1.0, "it is a fraction of the side")
        self.rotation = check_number("rotation", rotation, 0.0, 180.0, "it is in degrees")
        self.shear = check_number("shear", shear, 0.0, 80.0, "it is in degrees")
        self.scale = check_range("scale", scale, 0.05, 20.0, "it is a factor of the size")
        self.elastic = check_number("elastic", elastic, 0.0, 1.0, "it is a fraction of the side")
        if border not in ("zeros", "border", "reflection"):
            raise UserError(f'border {border!r} is not known; give "zeros", "border" or "reflection"')
        self.border = border
        self.light = View(
            shape.size, mirror=mirror, jitter=jitter, brightness=brightness, contrast=contrast, cutout=cutout
        ).within(shape)

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> two views, float32 (B, C, size, size) in [0, 1]; no targets."""
        x = fields["image"]
        b, c, side, size = len(x), x.shape[1], x.shape[3], self.light.size
        planned = [self.plan(to_device(self.draw(b, side, generator), x.device), c) for _ in range(2)]
        outs = [torch.empty(b, c, size, size, device=x.device) for _ in range(2)]
        for piece in pieces(x, size):
            pixels = x[piece].float().div_(255)
            if side > size:  # before warping, which is not antialiased
                whole = pixels.new_full((len(pixels),), float(side))
                taps = [crop_taps(torch.zeros_like(whole), whole, side, size)]
                pixels = separable(pixels, taps, taps)
            for parameters, out in zip(planned, outs, strict=True):
                self.apply(pixels, of(parameters, piece), out[piece])
        return outs, {}

    def draw(self, count: int, side: int, generator: torch.Generator) -> Parameters:
        """Draws parameters of one view of `count` samples, on the CPU; always as many random numbers."""
        u = torch.rand(5, count, generator=generator) * 2 - 1
        knots = torch.randn(count, 2, _KNOTS, _KNOTS, generator=generator)
        low, high = (math.log(v) for v in self.scale)
        drawn = self.light.draw(count, side, generator)
        drawn["warp"] = ops.affine_matrix(
            u[0] * self.rotation,
            u[1:3].T * self.shift,
            torch.stack([u[3] * self.shear, torch.zeros(count)], 1),
            (low + (high - low) * (u[4] + 1) / 2).exp(),
        )
        drawn["warp"][:, :, 0] *= 1 - 2 * drawn["mirror"].view(-1, 1)
        if self.elastic > 0:
            drawn["knots"] = knots * self.elastic
        return drawn

    def plan(self, drawn: Parameters, channels: int) -> Parameters:
        """Works out what `apply` needs of what was drawn."""
        warps = {name: drawn[name] for name in ("warp", "knots") if name in drawn}
        return warps | replace(self.light, mirror=0.0).plan(drawn, self.light.size, channels)  # the warp mirrors

    def apply(self, x: Tensor, planned: Parameters, out: Tensor | None = None) -> Tensor:
        """Maps x (B, C, S, S) float32 in [0, 1] -> (B, C, size, size) likewise, in `out` if given; all on one device."""
        size = self.light.size
        field = ops.elastic_displacement(planned["knots"], size) if "knots" in planned else None
        return self.light.finish(ops.warp(x, planned["warp"], size, field, self.border), planned, out)
