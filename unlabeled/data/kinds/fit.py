"""Where a picture that is not square goes in a square: the same in reading files, in an encoder and in a graph of it, whose
lengths are symbols."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Fit = Literal["crop", "pad", "stretch"]
"""What becomes of a picture that is not square: its central square; all of it with black beside; all of it, squashed."""


def central(height: int, width: int) -> tuple[int, int, int]:
    """Returns top, left and side of the central square.

    >>> central(300, 1203)
    (0, 451, 300)
    """
    side: Any = torch.sym_min(height, width)
    return (height - side) // 2, (width - side) // 2, side


def within(height: int, width: int, size: int) -> tuple[int, int, int, int]:
    """Returns top, left, height and width of the whole picture in a square of side `size`, with its shape kept.

    >>> within(300, 1200, 64)
    (24, 0, 16, 64)
    """
    longest = torch.sym_max(height, width)
    rounded: Any = [
        torch.sym_max(1, (2 * size * length + longest) // (2 * longest)) for length in (height, width)
    ]  # half up
    high, wide = rounded
    return (size - high) // 2, (size - wide) // 2, high, wide


def resized(x: Tensor, height: int, width: int) -> Tensor:
    """Resizes images (B, C, H, W): bilinear, antialiased."""
    return F.interpolate(x, (height, width), mode="bilinear", antialias=True, align_corners=False)


def fitted(x: Tensor, size: int, fit: Fit, resize: Callable[[Tensor, int, int], Tensor] = resized) -> Tensor:
    """Makes squares of images (B, C, H, W), in one resampling: (B, C, size, size)."""
    height, width = x.shape[-2:]
    if fit == "pad":
        top, left, high, wide = within(height, width, size)
        return F.pad(resize(x, high, wide), (left, size - left - wide, top, size - top - high))
    if fit == "crop":
        top, left, side = central(height, width)
        x = F.pad(x, (-left, left + side - width, -top, top + side - height))  # slices of symbols have no length
    return resize(x, size, size)
