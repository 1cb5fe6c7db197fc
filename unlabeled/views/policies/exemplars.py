"""The policy of exemplars: an image's most structured patch, transformed again and again."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import DataShape, Fields
from unlabeled.registry import Count, register
from unlabeled.views import ops
from unlabeled.views.view import Parameters, check_number, check_range, to_device

HUELESS = 1 / 512
"""Difference of a pixel's largest and smallest channel below which it has no hue: half a level of 256."""


@register("exemplar")
class Exemplars:
    """Views of one seed patch of each image: moved, scaled, rotated, in other contrast and colour (Dosovitskiy et al. 2014,
    "Discriminative Unsupervised Feature Learning with Convolutional Neural Networks", §2.1).

    The seed is the patch with the strongest gradients. The paper draws one among such, and keeps it; so this one is a
    function of the image, and the same in every epoch. A view shows what lies around a seed where it moves or shrinks, and
    a reflection beyond the picture's border.

    The first contrast multiplies each pixel's projections on principal components: those of the view's own pixels, about
    their mean, where the paper has those of all pixels of the set. The second raises saturation and value to a power, times
    a factor, plus a shift. Powers and factors are drawn evenly on a logarithmic scale. Pixels without hue stay so.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        views: Count = 2,
        patch: Count = 32,
        translation: float = 0.2,
        scale: tuple[float, float] = (0.7, 1.4),
        rotation: float = 20.0,
        contrast: tuple[float, float] = (0.5, 2.0),
        power: tuple[float, float] = (0.25, 4.0),
        factor: tuple[float, float] = (0.7, 1.4),
        shift: float = 0.1,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its invariances switch off what would change the meaning of a picture.
            views: how many of each seed (each of the K = 1 to 300 of a seed is drawn anew here).
            patch: side of the seed in pixels of the picture; all of a picture that is no larger (32, of 96: §2.1).
            translation: largest shift along each axis, as a fraction of the patch (0.2: §2.1).
            scale: smallest and largest factor by which things grow (0.7, 1.4: §2.1).
            rotation: largest rotation either way, in degrees (20: §2.1).
            contrast: smallest and largest factor of the projection on each principal component (0.5, 2: §2.1).
            power: smallest and largest power of saturation and value (0.25, 4: §2.1).
            factor: smallest and largest factor of these (0.7, 1.4: §2.1).
            shift: largest number added to these, either way (0.1: §2.1).

        Raises:
            UserError: a value out of range.
        """
        self.translation = check_number("translation", translation, 0.0, 1.0, "it is a fraction of the patch")
        self.rotation = check_number("rotation", rotation, 0.0, 180.0, "it is in degrees")
        self.shift = check_number("shift", shift, 0.0, 1.0, "it is added to values in [0, 1]")
        given = {"scale": scale, "contrast": contrast, "power": power, "factor": factor}
        self.ranges = {name: check_range(name, each, 0.01, 100.0, "it holds factors") for name, each in given.items()}
        self.views, self.patch, self.size = views, patch, shape.size
        self.colour = shape.channels > 1 and "colour" in shape.invariances
        self.light = self.colour or bool({"colour", "intensity"} & shape.invariances)

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> `views` times (B, C, size, size) in [0, 1]; no targets: the class is the image."""
        x = fields["image"].float().div_(255)
        centre = seeds(x, self.patch)  # (B, 2)
        drawn = [to_device(self.draw(len(x), x.shape[1], generator), x.device) for _ in range(self.views)]
        return [self.lit(self.moved(x, centre, each), each) for each in drawn], {}

    def draw(self, count: int, channels: int, generator: torch.Generator) -> Parameters:
        """Draws parameters (count,) or (count, channels), on the CPU; the same numbers whatever is allowed."""
        u = torch.rand(8 + channels, count, generator=generator)

        def of(name: str, u: Tensor) -> Tensor:
            low, high = map(math.log, self.ranges[name])
            return (low + (high - low) * u).exp()

        return {
            "right": (2 * u[0] - 1) * self.translation,
            "down": (2 * u[1] - 1) * self.translation,
            "scale": of("scale", u[2]),
            "degrees": (2 * u[3] - 1) * self.rotation,
            "power": of("power", u[4]),
            "factor": of("factor", u[5]),
            "saturation": (2 * u[6] - 1) * self.shift,
            "value": (2 * u[7] - 1) * self.shift,
            "contrast": of("contrast", u[8:]).T,  # (count, channels)
        }

    def moved(self, x: Tensor, centre: Tensor, drawn: Parameters) -> Tensor:
        """Resamples the patch about `centre` (B, 2), moved, scaled and rotated: (B, C, size, size)."""
        share = min(1.0, self.patch / x.shape[3])
        there = torch.stack([drawn["right"], drawn["down"]], 1)
        matrix = ops.affine_matrix(drawn["degrees"], there, torch.zeros_like(there), drawn["scale"] / share)
        matrix[:, :, 2] += centre
        return ops.warp(x, matrix, self.size, border="reflection")

    def lit(self, x: Tensor, drawn: Parameters) -> Tensor:
        """Changes the contrast along principal components, then saturation and value, as far as the data allow it."""
        if not self.light:
            return x.clamp(0, 1)
        alike = drawn["contrast"][:, :1].expand_as(drawn["contrast"])
        x = along_components(x, drawn["contrast"] if self.colour else alike).clamp_(0, 1)
        power, factor, more_s, more_v = (drawn[n].view(-1, 1, 1, 1) for n in ("power", "factor", "saturation", "value"))
        value, least = x.amax(1, keepdim=True), x.amin(1, keepdim=True)  # (B, 1, H, W)
        chroma = value - least
        hue = torch.where(chroma > HUELESS, (value - x) / chroma.clamp(min=HUELESS), 0.0)  # 0 of the largest channel, to 1
        saturation = chroma / value.clamp(min=HUELESS)
        if self.colour:
            saturation = (saturation**power * factor + more_s).clamp(0, 1)
        return (value**power * factor + more_v).clamp(0, 1) * (1 - saturation * hue)


def seeds(x: Tensor, patch: int) -> Tensor:
    """Finds the patch of that side, in pixels, with the largest mean of squared gradients.

    Args:
        x: (B, C, S, S) in [0, 1].

    Returns:
        (B, 2), its centre: across and down, in [-1, 1] from edge to edge; (0, 0) where it is all of the image.
    """
    side = x.shape[3]
    if patch >= side:
        return x.new_zeros(len(x), 2)
    energy = F.avg_pool2d(ops.edges(x)[:, :1].square(), patch, 1)  # (B, 1, S - p + 1, S - p + 1)
    place = energy.flatten(1).argmax(1)
    corner = torch.stack([place % energy.shape[3], place // energy.shape[3]], 1)
    found: Tensor = (2 * corner + patch) / side - 1
    return found


def along_components(x: Tensor, factor: Tensor) -> Tensor:
    """Scales what pixels are along each principal component of an image's colours, about their mean.

    Args:
        x: (B, C, H, W).
        factor: (B, C) of each component.
    """
    pixels = x.flatten(2)
    mean = pixels.mean(2, keepdim=True)
    centred = pixels - mean
    _, components = torch.linalg.eigh(centred @ centred.mT)  # (B, C, C), in columns
    scaled: Tensor = components * factor[:, None] @ components.mT @ centred
    return (scaled + mean).view_as(x)
