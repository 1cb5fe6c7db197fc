"""Two networks side by side: one sees the lightness of an image, the other its colours."""

from __future__ import annotations

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


class Lab(nn.Module):
    """RGB (B, 3, H, W) in [0, 1] -> (B, 2D): the representation of L by one network, then that of a and b by another.

    Args:
        lightness: takes (B, 1, H, W).
        colour: takes (B, 2, H, W).
    """

    def __init__(self, lightness: nn.Module, colour: nn.Module) -> None:
        super().__init__()
        self.lightness, self.colour = lightness, colour

    def forward(self, x: Tensor) -> Tensor:
        """Returns both halves, side by side."""
        lab = rgb_to_lab(x)
        normal = (lab - lab.new_tensor(CENTRE).view(-1, 1, 1)) / lab.new_tensor(SPREAD).view(-1, 1, 1)
        return torch.cat([self.lightness(normal[:, :1]), self.colour(normal[:, 1:])], 1)


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
