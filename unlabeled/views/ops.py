"""Batched image operations: pure functions of per-sample parameters. Nothing here is random.

Images are float32 (B, C, H, W), nominally in [0, 1]; a parameter is (B,), on the images' device. What acts on rows and
columns apart is in `resample`; brightness, contrast, saturation, hue and grey are linear in the pixel, so all of them
together are one 3x3 matrix and one offset. Only the caller clamps, once, at the end.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601 weights of red, green and blue in the perceived brightness, to which PIL's and torchvision's greys round."""


# ---- colour ----------------------------------------------------------------------------------------------------------


def hue_matrix(turn: Tensor) -> Tensor:
    """Rotates colours about the grey axis, (1, 1, 1): the sum of the channels and the saturation stay, greys stay.

    A third of a turn swaps the channels, which is what torchvision's way through HSV gives too; between, HSV keeps
    max(R, G, B) instead and is not linear.

    Args:
        turn: (B,) in turns: 0.5 is the complementary hue.

    Returns:
        (B, 3, 3).
    """
    cos, sin = torch.cos(2 * math.pi * turn), torch.sin(2 * math.pi * turn)
    same = (1 + 2 * cos) / 3
    after = (1 - cos) / 3 + sin / math.sqrt(3)
    before = (1 - cos) / 3 - sin / math.sqrt(3)
    return torch.stack([same, before, after, after, same, before, before, after, same], 1).view(-1, 3, 3)


def colour_matrix(
    channels: int, brightness: Tensor, contrast: Tensor, saturation: Tensor | None = None, hue: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Combines hue, then saturation, contrast and brightness, as one matrix and one offset per sample, for `recolour`.

    With hue's matrix H and the luma weights l of the pixel (3,): b c (s H + (1 - s) 1 l^T H) x + b (1 - c) l^T H mean(x).
    Without clamps between, the last three commute, so that only the place of hue is a choice.

    Args:
        channels: of the images.
        brightness: (B,) factor >= 0; 1 changes nothing.
        contrast: (B,) factor >= 0 about the sample's mean luma (of all channels alike, if they are not 3).
        saturation: (B,) factor >= 0 about the pixel's luma; 1 changes nothing, 0 is grey. Only with 3 channels.
        hue: (B,) in turns; 0 changes nothing. Only together with saturation.

    Returns:
        (B, C, C), and (B, C): what the offset takes of the mean of each channel.
    """
    gain, lift = (brightness * contrast).view(-1, 1, 1), (brightness * (1 - contrast)).view(-1, 1)
    luma = lift.new_tensor(LUMA) if channels == 3 else lift.new_full((channels,), 1 / channels)
    if saturation is None or hue is None:
        return gain * torch.eye(channels, device=gain.device), lift * luma
    rotation, s = hue_matrix(hue), saturation.view(-1, 1, 1)
    luma = luma @ rotation  # (B, 3), of the rotated colour
    return (s * rotation + (1 - s) * luma.unsqueeze(1)) * gain, lift * luma


def recolour(x: Tensor, matrix: Tensor, lift: Tensor) -> Tensor:
    """Computes `matrix` (B, C, C) times each pixel of x (B, C, H, W), plus `lift` (B, C) times the channels' means. Not
    clamped."""
    pixels = x.flatten(2)
    return torch.baddbmm((pixels.mean(2) * lift).sum(1).view(-1, 1, 1), matrix, pixels).view_as(x)


def solarise(x: Tensor, threshold: Tensor, out: Tensor | None = None) -> Tensor:
    """Inverts the values at or above `threshold` (B,); above 1 leaves the sample as it is. `out` may be `x`."""
    return torch.where(x >= threshold.view(-1, 1, 1, 1), 1 - x, x, out=out)


def keep_one_colour(x: Tensor, kept: Tensor, noise: Tensor) -> Tensor:
    """Drops two of three colours of patches: in their place stands grey with noise of 1% of the deviation of the one that
    stays, so that nothing tells of the lens of a camera (Doersch et al. 2015, §3.1).

    Args:
        x: (B, P, 3, H, W) in [0, 1].
        kept: (B, P) int64, the colour that stays: 0, 1 or 2; all of them stay where it is -1.
        noise: (B, P, 3, H, W), standard normal numbers.
    """
    own = kept[..., None, None, None]
    stays = torch.arange(3, device=x.device).view(3, 1, 1) == own  # (B, P, 3, 1, 1)
    deviation = (x.std((3, 4), keepdim=True, correction=0) * stays).sum(2, keepdim=True)  # (B, P, 1, 1, 1)
    return torch.where(stays | (own < 0), x, (0.5 + 0.01 * deviation * noise).clamp(0, 1))


# ---- geometry that is not separable ------------------------------------------------------------------------------------


def quarter_turns(x: Tensor, turns: Tensor) -> Tensor:
    """Turns square images counter-clockwise by `turns` (B,) in {0, 1, 2, 3} times 90 degrees; exact, no resampling."""
    if x.shape[2] != x.shape[3]:
        raise ValueError(f"quarter turns need square images, not {x.shape[2]}x{x.shape[3]}")
    k = turns.view(-1, 1, 1, 1)
    x = torch.where(k % 2 == 1, x.mT.flip(2), x)
    return torch.where(k >= 2, x.flip(2, 3), x)


def affine_matrix(degrees: Tensor, shift: Tensor, shear: Tensor, scale: Tensor) -> Tensor:
    """Tells where each output position of an affine transformation about the centre is taken from, in `affine_grid`'s
    coordinates.

    The picture is sheared along x, then y, rotated clockwise, scaled and shifted, as by torchvision's `affine`; what is
    returned is the inverse of that.

    Args:
        degrees: (B,) clockwise.
        shift: (B, 2) right and down, as fractions of the side.
        shear: (B, 2) along x and y, in degrees within (-90, 90).
        scale: (B,) > 0; 2 makes things twice as large.

    Returns:
        (B, 2, 3).
    """
    angle = torch.deg2rad(degrees)
    cos, sin = torch.cos(angle), torch.sin(angle)
    tan_x, tan_y = torch.tan(torch.deg2rad(shear)).unbind(1)
    # [[1, tan_x], [0, 1]] @ [[1, 0], [tan_y, 1]] @ [[cos, sin], [-sin, cos]] / scale
    bottom = torch.stack([cos * tan_y - sin, sin * tan_y + cos], 1)
    top = torch.stack([cos, sin], 1) + tan_x.unsqueeze(1) * bottom
    linear = torch.stack([top, bottom], 1) / scale.view(-1, 1, 1)
    return torch.cat([linear, -2 * linear @ shift.unsqueeze(2)], 2)


def warp(x: Tensor, matrix: Tensor, size: int, displacement: Tensor | None = None, border: str = "zeros") -> Tensor:
    """Resamples bilinearly at the positions of `affine_matrix`; not antialiased, so shrink with `crop_taps` first.

    Args:
        x: (B, C, S, S), square.
        matrix: (B, 2, 3).
        size: side of the result.
        displacement: (B, 2, size, size) or None, added to the sampled x and y, as fractions of the side.
        border: what lies outside: `zeros`, `border` (the nearest pixel) or `reflection`.
    """
    grid = F.affine_grid(matrix, [len(x), x.shape[1], size, size], align_corners=False)
    if displacement is not None:
        grid = grid + 2 * displacement.permute(0, 2, 3, 1)
    return F.grid_sample(x, grid, "bilinear", border, align_corners=False)


def rotate(x: Tensor, degrees: Tensor, border: str = "zeros") -> Tensor:
    """Rotates square images about their centre, counter-clockwise, by any `degrees` (B,)."""
    zero = torch.zeros(len(x), 2, device=x.device)
    return warp(x, affine_matrix(-degrees, zero, zero, torch.ones_like(degrees)), x.shape[3], border=border)


def elastic_displacement(knots: Tensor, size: int) -> Tensor:
    """Makes a smooth displacement field (B, 2, size, size): cubic interpolation of `knots` (B, 2, k, k), its values on a
    grid."""
    return F.interpolate(knots, (size, size), mode="bicubic", align_corners=True)


def cut_out(x: Tensor, top: Tensor, left: Tensor, side: int) -> Tensor:
    """Cuts squares out of images at whole pixels, exactly.

    Args:
        x: (B, C, H, W).
        top: (B, P) int64, first rows of P squares; or (B, P, C), of each channel by itself. All of a square lies within.
        left: likewise, first columns.
        side: of a square, in pixels.

    Returns:
        (B, P, C, side, side).
    """
    if top.ndim == 2:
        top, left = top[..., None], left[..., None]
    reach = torch.arange(side, device=x.device)
    rows = top[..., None, None] + reach[:, None]  # (B, P, C or 1, side, 1)
    columns = left[..., None, None] + reach  # (B, P, C or 1, 1, side)
    image = torch.arange(len(x), device=x.device).view(-1, 1, 1, 1, 1)
    channel = torch.arange(x.shape[1], device=x.device).view(1, 1, -1, 1, 1)
    return x[image, channel, rows, columns]


# ---- others ------------------------------------------------------------------------------------------------------------


def cutout(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor, fill: float = 0.0) -> Tensor:
    """Fills one rectangle per sample, in pixels; its part outside the image is ignored (DeVries & Taylor 2017)."""
    y = torch.arange(x.shape[2], device=x.device)
    z = torch.arange(x.shape[3], device=x.device)
    rows = (y >= top.view(-1, 1)) & (y < (top + height).view(-1, 1))  # (B, H)
    columns = (z >= left.view(-1, 1)) & (z < (left + width).view(-1, 1))  # (B, W)
    return x.masked_fill((rows.unsqueeze(2) & columns.unsqueeze(1)).unsqueeze(1), fill)


def sobel(x: Tensor) -> Tensor:
    """Computes horizontal and vertical derivative of the luma, (B, 2, H, W) in [-4, 4]; outside is 0 (DeepCluster, section
    3.3)."""
    weights = x.new_tensor(LUMA) if x.shape[1] == 3 else x.new_full((x.shape[1],), 1 / x.shape[1])
    grey = torch.einsum("bchw,c->bhw", x, weights).unsqueeze(1)
    across = x.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    return F.conv2d(grey, torch.stack([across, across.T]).unsqueeze(1), padding=1)


def edges(x: Tensor) -> Tensor:
    """Computes the length of the Sobel derivative of the luma over 4, which an upright edge from black to white has, in
    every channel: (B, C, H, W) in [0, 1.2]. At the border the outermost pixels go on, so that no frame appears."""
    padded = sobel(F.pad(x, (1, 1, 1, 1), mode="replicate"))[:, :, 1:-1, 1:-1]
    length: Tensor = torch.linalg.vector_norm(padded, dim=1, keepdim=True)
    return (length / 4).expand_as(x).clone()


def noise(x: Tensor, sigma: Tensor, field: Tensor) -> Tensor:
    """Adds sigma (B,) times `field` (B, C, H, W), standard normal numbers. Not clamped."""
    return torch.addcmul(x, sigma.view(-1, 1, 1, 1), field)
