"""Networks that see lightness and colours apart, two side by side or one of the lightness; and the Lab colour space."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

XYZ_OF_RGB = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
"""Of linear sRGB, with white point D65 (ITU-R BT.709)."""
WHITE = (0.95047, 1.0, 1.08883)
"""XYZ of D65, 2° observer."""
CENTRE, SPREAD = (50.0, 6.02, -6.69), (50.0, 92.21, 101.17)
"""Middle and half-width of the ranges that L, a and b take over all sRGB colours: normalised, each lies in [-1, 1]."""


GRID = 10.0
"""Step of the grid of colours (Zhang et al. 2016, §2.1)."""
STEPS = 256
"""Points along an edge of the RGB cube from which the gamut is found."""


class Lab(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] -> (B, 2D): the representation of L by one network, then that of a and b by another. Its
    stages are both networks' maps, side by side.

    Args:
        lightness: takes (B, 1, H, W).
        colour: takes (B, 2, H, W).
    """

    def __init__(self, lightness: nn.Module, colour: nn.Module) -> None:
        super().__init__()
        self.lightness: Any = lightness
        self.colour: Any = colour

    @property
    def shows_stages(self) -> bool:
        """Whether its networks do."""
        return hasattr(self.lightness, "forward_intermediates")

    def forward(self, x: Tensor) -> Tensor:
        """Returns both halves, side by side."""
        x = normal(rgb_to_lab(x))
        return torch.cat([self.lightness(x[:, :1]), self.colour(x[:, 1:])], 1)

    def forward_intermediates(self, x: Tensor) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
        """Returns what both networks end with, and the maps (B, 2C, ...) of their stages."""
        x = normal(rgb_to_lab(x))
        last_l, maps_l = self.lightness.forward_intermediates(x[:, :1])
        last_ab, maps_ab = self.colour.forward_intermediates(x[:, 1:])
        return (last_l, last_ab), [torch.cat(both, 1) for both in zip(maps_l, maps_ab, strict=True)]

    def forward_head(self, last: tuple[Tensor, Tensor]) -> Tensor:
        """Returns both halves of the representation (B, 2D), of what both networks end with."""
        return torch.cat([self.lightness.forward_head(last[0]), self.colour.forward_head(last[1])], 1)


class Lightness(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] -> (B, D): the representation of L alone; colours make no difference.

    Args:
        lightness: takes (B, 1, H, W).
    """

    def __init__(self, lightness: nn.Module) -> None:
        super().__init__()
        self.lightness: Any = lightness

    @property
    def shows_stages(self) -> bool:
        """Whether its network does."""
        return hasattr(self.lightness, "forward_intermediates")

    def forward(self, x: Tensor) -> Tensor:
        """Returns the representation."""
        return self.lightness(normal(rgb_to_lab(x))[:, :1])  # type: ignore[no-any-return]

    def forward_intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Returns what the network ends with, and the maps (B, C, ...) of its stages."""
        return self.lightness.forward_intermediates(normal(rgb_to_lab(x))[:, :1])  # type: ignore[no-any-return]

    def forward_head(self, last: Tensor) -> Tensor:
        """Returns the representation (B, D), of what the network ends with."""
        return self.lightness.forward_head(last)  # type: ignore[no-any-return]


def normal(lab: Tensor) -> Tensor:
    """Brings Lab (B, 3, ...) to [-1, 1], each channel by its own range, as the networks see it."""
    shape = (-1, *(1,) * (lab.ndim - 2))
    return (lab - lab.new_tensor(CENTRE).view(shape)) / lab.new_tensor(SPREAD).view(shape)


def unnormal(x: Tensor) -> Tensor:
    """Undoes `normal`."""
    shape = (-1, *(1,) * (x.ndim - 2))
    return x * x.new_tensor(SPREAD).view(shape) + x.new_tensor(CENTRE).view(shape)


def rgb_to_lab(x: Tensor) -> Tensor:
    """Converts sRGB (B, 3, H, W) in [0, 1] -> CIE 1976 L*a*b* (B, 3, H, W): L in [0, 100], a and b within about ±108; in
    float32."""
    with torch.autocast(x.device.type, enabled=False):
        x = x.float().clamp(0, 1)
        linear = torch.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
        matrix = x.new_tensor(XYZ_OF_RGB) / x.new_tensor(WHITE)[:, None]
        xyz = (matrix @ linear.flatten(2)).view_as(x)
        root = torch.where(xyz > (6 / 29) ** 3, xyz.clamp_min(1e-6) ** (1 / 3), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
        fx, fy, fz = root.unbind(1)
        return torch.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], 1)


def lab_to_rgb(lab: Tensor) -> Tensor:
    """Converts CIE 1976 L*a*b* (B, 3, H, W) -> sRGB (B, 3, H, W), which lies in [0, 1] where sRGB has that colour; in
    float32. Undoes `rgb_to_lab`."""
    with torch.autocast(lab.device.type, enabled=False):
        light, a, b = lab.float().unbind(1)
        fy = (light + 16) / 116
        f = torch.stack([fy + a / 500, fy, fy - b / 200], 1)
        xyz = torch.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
        matrix = torch.linalg.inv(lab.new_tensor(XYZ_OF_RGB, dtype=torch.float64) / lab.new_tensor(WHITE)[:, None]).float()
        linear = (matrix @ xyz.flatten(2)).view_as(xyz)
        return torch.where(linear > 0.0031308, 1.055 * linear.clamp_min(1e-6) ** (1 / 2.4) - 0.055, 12.92 * linear)


@cache
def gamut() -> Tensor:
    """Finds the colours ab that stand for all of sRGB: the corners of each square of a grid of step 10 in which sRGB has a
    colour (Zhang et al. 2016, §2.1, "in gamut").

    The colours on the faces of the RGB cube reach every square that those within it reach: along L, with a and b held, one
    leaves the cube through a face. The published list has 313; how it was found is not said there. These are 309, on cubes
    of finer steps too; 262 if a colour counts for its nearest point alone, and 229 points are themselves colours of sRGB.

    Returns:
        (309, 2) float32, sorted by a, then by b.
    """
    edge = torch.linspace(0, 1, STEPS)
    u, v = (axis.flatten() for axis in torch.meshgrid(edge, edge, indexing="ij"))
    faces = [torch.stack([*[u, v][:axis], torch.full_like(u, end), *[u, v][axis:]]) for axis in range(3) for end in (0, 1)]
    ab = rgb_to_lab(torch.cat(faces, 1)[None, :, :, None])[0, 1:, :, 0].T  # (6 · 256², 2)
    squares = torch.unique((ab / GRID).floor(), dim=0)
    corners = torch.cartesian_prod(torch.arange(2.0), torch.arange(2.0))  # (4, 2)
    found: Tensor = GRID * torch.unique((squares[:, None] + corners).flatten(0, 1), dim=0)
    return found
