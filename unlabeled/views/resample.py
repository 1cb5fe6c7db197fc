"""Crops, mirrorings, resizing and blur: rows and columns apart, each output pixel a weighted sum of few input pixels.

A picture of 256 pixels that is cropped to 224 needs three or four of its rows for each row of the view, so the sums are over
bags of rows (`embedding_bag`), and columns are rows of the transposed picture: what a GPU wants; a processor's views are
made of the same taps in `compiled`. Nothing here is random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

CROP = ("top", "height", "flip"), ("left", "width", "mirror")
"""Names of a crop's parameters along rows and along columns: start, length, whether it is reversed."""


@dataclass(frozen=True, slots=True)
class Taps:
    """Along one axis: out[b, i] = sum over k of weight[b, i, k] * in[b, index[b, i, k]].

    Attributes:
        index: (B, size_out, K) int32, in [0, size_in).
        weight: (B, size_out, K) float32.
    """

    index: Tensor
    weight: Tensor


def crop_boxes(
    scale: tuple[float, float], ratio: tuple[float, float], side: int, u: Tensor, v: Tensor, proposals: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draws random resized crops, distributed as torchvision's: the first of ten proposals that fits, or else the whole
    picture.

    Args:
        scale: least and largest area as fractions.
        ratio: least and largest width / height, drawn uniformly in its logarithm.
        side: of the picture, in pixels.
        u: (B,) uniform, places the top.
        v: (B,) uniform, places the left.
        proposals: (2, 10, B) uniform.

    Returns:
        top, left, height, width, each (B,), whole pixels.
    """
    if scale == ratio == (1.0, 1.0):
        whole, none = torch.full_like(u, float(side)), torch.zeros_like(u)
        return none, none, whole, whole
    area = (scale[0] + (scale[1] - scale[0]) * proposals[0]) * side * side
    low, high = math.log(ratio[0]), math.log(ratio[1])
    stretch = (0.5 * (low + (high - low) * proposals[1])).exp()
    root = area.sqrt()
    widths, heights = (root * stretch).round(), (root / stretch).round()  # (10, B)
    fits = (widths >= 1) & (heights >= 1) & (widths <= side) & (heights <= side)
    first = fits.byte().argmax(0, keepdim=True)
    found = fits.gather(0, first)[0]
    width = torch.where(found, widths.gather(0, first)[0], float(side))
    height = torch.where(found, heights.gather(0, first)[0], float(side))
    top = (u * (side - height + 1)).floor().minimum(side - height)
    left = (v * (side - width + 1)).floor().minimum(side - width)
    return top, left, height, width


def crop_taps(start: Tensor, length: Tensor, size_in: int, size_out: int, mirror: Tensor | None = None) -> Taps:
    """Returns the taps of one axis of a crop that is resized with antialiasing.

    Each output pixel is a triangle (bilinear) filter over the crop, as wide as one output pixel where the crop shrinks and
    as one input pixel where it grows: torchvision's `resized_crop(antialias=True)`.

    Args:
        start: (B,) first pixel of the crop; may lie outside the image, where everything is 0.
        length: (B,) of the crop in pixels, in (0, size_in].
        size_in: pixels of the image along this axis.
        size_out: pixels of the result along this axis.
        mirror: (B,) bool or 0/1, whether this axis is reversed.

    Returns:
        Weights that sum to 1, or to 0 where the crop shows nothing of the image.
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    position = torch.arange(0.5, size_out, device=start.device).view(1, -1, 1)
    if mirror is not None:
        position = torch.where(mirror.view(-1, 1, 1) > 0, size_out - position, position)
    step = length / size_out  # input pixels per output pixel
    width = step.clamp(min=1.0)
    centre = start + step * position
    first = (centre - width + 0.5).floor_()  # the first pixel whose middle is within `width` of the centre
    pixel = first + torch.arange(0.5, math.ceil(2 * max(1.0, size_in / size_out)), device=start.device)
    inside = (pixel > start.clamp(min=0.0)) & (pixel < (start + length).clamp(max=float(size_in)))
    weight = (pixel - centre).abs_().div_(width).neg_().add_(1.0).clamp_(min=0.0).mul_(inside)
    weight /= weight.sum(2, keepdim=True).clamp_(min=1e-6)
    return Taps(pixel.int().clamp_(0, size_in - 1), weight)


def blur_kernels(sigma: Tensor, radius: int) -> Tensor:
    """Returns Gaussians of standard deviations `sigma` (B,), in pixels: (B, 2 radius + 1), of sum 1; nothing but 1 where it
    is 0."""
    distance = torch.arange(-radius, radius + 1, device=sigma.device)
    kernels = torch.exp(-0.5 / sigma.clamp(min=1e-3).square().view(-1, 1) * distance.square())
    return kernels / kernels.sum(1, keepdim=True)


def blur_taps(kernels: Tensor, size: int) -> Taps:
    """Returns the taps of one axis of a blur by symmetric `kernels` (B, 2 radius + 1), its border reflected without
    repeating the edge pixel.

    Raises:
        ValueError: a radius that is not less than `size`, the pixels along this axis.
    """
    radius = kernels.shape[1] // 2
    if radius >= size:
        raise ValueError(f"a blur of radius {radius} cannot be reflected within {size} pixels")
    pixel = torch.arange(size, device=kernels.device).view(-1, 1) + torch.arange(-radius, radius + 1, device=kernels.device)
    index = (size - 1) - (size - 1 - pixel.abs_()).abs_()
    return Taps(index.int().expand(len(kernels), -1, -1), kernels.unsqueeze(1).expand(-1, size, -1))


def separable(x: Tensor, rows: list[Taps], columns: list[Taps]) -> Tensor:
    """Applies each of `rows` along the rows of every channel, in turn, then each of `columns` along its columns.

    Args:
        x: (B, C, H, W) float32.
        rows: the first's indices within H, the next one's within the first's size, and so on.
        columns: likewise within W.

    Returns:
        (B, C, H', W').
    """
    b, c, h, w = x.shape
    picture = torch.arange(b, dtype=torch.int32, device=x.device).view(-1, 1, 1)
    plane = torch.arange(b * c, dtype=torch.int32, device=x.device).view(b, c, 1, 1)
    for taps in rows:
        index = taps.index.unsqueeze(1) + plane * h  # (B, C, H', K)
        x = _bags(x.reshape(-1, w), index, taps.weight.unsqueeze(1).expand_as(index)).view(*index.shape[:3], w)
        h = x.shape[2]
    x = x.reshape(-1, w).t().contiguous().view(w, b, c * h)
    for taps in columns:
        index = (taps.index * b + picture).transpose(0, 1)  # (W', B, K)
        x = _bags(x.view(-1, c * h), index, taps.weight.transpose(0, 1)).view(*index.shape[:2], c * h)
    return x.view(len(x), -1).t().contiguous().view(b, c, h, -1)


def _bags(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Weighted sums of rows of `table` (R, n): index and weight (..., K) -> (bags, n)."""
    k = index.shape[-1]
    return F.embedding_bag(index.reshape(-1, k), table, mode="sum", per_sample_weights=weight.reshape(-1, k))


def blur_radius(size: int) -> int:
    """Returns the radius of SimCLR's kernel, a tenth of the side (appendix A): 11 at 224 (23 taps, as BYOL says), 4 at 96, 1
    at 32, 0 at 1."""
    return min(max(1, size // 20), size - 1)


def gaussian_blur(x: Tensor, sigma: Tensor, radius: int | None = None) -> Tensor:
    """Blurs each sample with its own `sigma` (B,), in pixels; `radius` None is `blur_radius` of the shorter side."""
    h, w = x.shape[2:]
    kernels = blur_kernels(sigma, blur_radius(min(h, w)) if radius is None else radius)
    return separable(x, [blur_taps(kernels, h)], [blur_taps(kernels, w)])
