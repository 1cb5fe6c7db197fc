"""One or two transformations on one of two views: what each is worth by itself, as SimCLR's study of them asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.registry import register
from unlabeled.views import ops
from unlabeled.views.view import RATIO, Parameters, View, check_number, of, pieces, to_device

Transformation = Literal["crop", "cutout", "colour", "sobel", "noise", "blur", "rotate"]

TRANSFORMATIONS: tuple[Transformation, ...] = ("crop", "cutout", "colour", "sobel", "noise", "blur", "rotate")
"""In the order of figure 5."""


@dataclass(frozen=True, slots=True)
class Sobel:
    """Every picture becomes the strength of its edges."""

    def draw(self, count: int, side: int, generator: torch.Generator) -> Parameters:
        """Draws nothing."""
        return {}

    def apply(self, x: Tensor, drawn: Parameters) -> Tensor:
        """Maps (B, C, S, S) float32 in [0, 1], both."""
        return ops.edges(x).clamp_(0, 1)


@dataclass(frozen=True, slots=True)
class Noise:
    """Gaussian noise whose standard deviation is drawn from [0, sigma] for each of pictures with `channels`."""

    channels: int
    sigma: float

    def draw(self, count: int, side: int, generator: torch.Generator) -> Parameters:
        """Draws standard deviations (count,) and the noise (count, C, side, side)."""
        sigma = self.sigma * torch.rand(count, generator=generator)
        return {"sigma": sigma, "field": torch.randn(count, self.channels, side, side, generator=generator)}

    def apply(self, x: Tensor, drawn: Parameters) -> Tensor:
        """Maps (B, C, S, S) float32 in [0, 1], both."""
        return ops.noise(x, drawn["sigma"], drawn["field"]).clamp_(0, 1)


@register("pair")
class Pair:
    """A random crop of the picture, transformed, and the same crop as it is (Chen et al. 2020, section 3.1, figure 5).

    Crops help so much that without them nothing else could be judged; so both views are one crop, resized, and what is
    studied happens to the first view alone. One transformation is applied if `first` and `second` are the same, else both,
    in this order.

    `crop`: a second crop, of the first, and mirror 0.5; `cutout`: a black square of half the side (DeVries and Taylor 2017);
    `colour`: SimCLR's jitter and grey (appendix A); `sobel`: the strength of edges, always; `noise`: Gaussian; `blur`: with
    probability 0.5 and sigma 0.1 to 2 (appendix A); `rotate`: 0, 90, 180 or 270 degrees alike. The paper does not give
    the strength of the cut-out and the noise, nor how often Sobel is applied: these are ours.

    Mirror and colour are left out where the data does not allow them. Rotation is not: who names it asks what it does.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        first: Transformation = "crop",
        second: Transformation = "colour",
        scale: tuple[float, float] = (0.08, 1.0),
        strength: float = 1.0,
        sigma: float = 0.2,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            first: crop, cutout, colour, sobel, noise, blur or rotate; applied to one view.
            second: one of these, applied after the first; the same for one alone.
            scale: least and largest area of the crops, as fractions of the picture; SimCLR's by default.
            strength: SimCLR's s: brightness, contrast and saturation change by 0.8 s, hue by 0.2 s.
            sigma: largest standard deviation of the noise, for values in [0, 1].

        Raises:
            UserError: a value out of range.
        """
        s = check_number("strength", strength, 0.0, 2.5, "it multiplies the colour jitter")
        check_number("sigma", sigma, 0.0, 1.0, "it is the standard deviation of noise on values in [0, 1]")
        plain = View(shape.size).within(shape)
        crop = View(shape.size, scale, RATIO, mirror=0.5).within(shape)
        colour = View(
            shape.size, jitter=0.8, brightness=0.8 * s, contrast=0.8 * s, saturation=0.8 * s, hue=0.2 * s, grey=0.2
        ).within(shape)  # fmt: skip
        known: dict[str, View | Sobel | Noise] = {
            "crop": crop,
            "cutout": replace(plain, cutout=0.5),
            "colour": colour,
            "sobel": Sobel(),
            "noise": Noise(shape.channels, float(sigma)),
            "blur": replace(plain, blur=0.5),
            "rotate": replace(plain, turn=0.75),
        }
        self.light = replace(crop, mirror=0.0)
        self.steps = [known[name] for name in dict.fromkeys((first, second))]

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> two float32 (B, C, size, size) in [0, 1], the first transformed; no targets."""
        x = fields["image"]
        size = self.light.size
        c, side = x.shape[1], x.shape[3]
        shared = self.light.plan(to_device(self.light.draw(len(x), side, generator), x.device), side, c)
        drawn = [_moved(step.draw(len(x), size, generator), x.device) for step in self.steps]
        planned = [step.plan(d, size, c) if isinstance(step, View) else d for step, d in zip(self.steps, drawn, strict=True)]
        changed, plain = (torch.empty(len(x), x.shape[1], size, size, device=x.device) for _ in range(2))
        for piece in pieces(x, size):
            picture = self.light.apply(x[piece], of(shared, piece), plain[piece])
            for step, parameters in zip(self.steps, planned, strict=True):
                picture = step.apply(picture, of(parameters, piece))
            changed[piece] = picture
        return [changed, plain], {}


def _moved(drawn: Parameters, device: torch.device) -> Parameters:
    return to_device(drawn, device) if drawn else drawn
