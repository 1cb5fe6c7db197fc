"""Images as the patches that a vision transformer sees: how large these are, how they are cut and joined, where they lie."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SMALL = 64
"""Images up to this side, in pixels, get a small-image stem."""
EPSILON = 1e-3
"""Added to a patch's deviation: a quarter of a level of 256."""


def patch_side(size: int) -> int:
    """Returns the side of a patch in images of that side, in pixels: an eighth of small ones, 16 in others (Dosovitskiy et
    al. 2021)."""
    return max(1, size // 8) if size <= SMALL else 16


def cut(x: Tensor, side: int) -> Tensor:
    """Cuts images (B, C, H, W) into patches (B, N, side² C), row by row; the pixels of a patch row by row, its channels
    last.

    Where the side does not divide them, zeros are added on the right and below, as a ViT does.
    """
    x = F.pad(x, (0, -x.shape[3] % side, 0, -x.shape[2] % side))
    return x.unfold(2, side, side).unfold(3, side, side).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


def joined(patches: Tensor, side: int, height: int, width: int) -> Tensor:
    """Joins the images (B, C, height, width) of patches (B, N, side² C): undoes `cut`."""
    rows, columns = -(-height // side), -(-width // side)
    x = patches.reshape(len(patches), rows, columns, side, side, -1).permute(0, 5, 1, 3, 2, 4)
    return x.flatten(4, 5).flatten(2, 3)[:, :, :height, :width]


def covered(chosen: Tensor, places: int, height: int, width: int) -> Tensor:
    """Tells which pixels lie in the chosen patches: bool (B, 1, height, width).

    Args:
        chosen: (B, M) int64, places of patches, row by row.
        places: how many there are, a square number: an image has as many rows of them as columns.
        height: of the images.
        width: of the images.
    """
    rows = math.isqrt(places)
    side = -(-max(height, width) // rows)
    flags = torch.zeros(len(chosen), places, device=chosen.device).scatter_(1, chosen, 1.0)
    return joined(flags[:, :, None].expand(-1, -1, side**2), side, rows * side, rows * side)[..., :height, :width] > 0


def positions(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """Tells where patches lie, row by row: (rows · columns, width), fixed sines and cosines of frequencies
    10,000^(-4i/width).

    Of the column in the first half, of the row in the second (Vaswani et al. 2017, §3.5, along each axis).

    Raises:
        ValueError: a width that four does not divide.
    """
    if width % 4:
        raise ValueError(f"positions take a width that 4 divides, not {width}")
    frequencies = 10_000 ** (-torch.arange(width // 4, device=device) / (width // 4))

    def waves(count: int) -> Tensor:
        angles = torch.arange(count, device=device)[:, None] * frequencies  # (count, width / 4)
        return torch.cat([angles.sin(), angles.cos()], 1)  # (count, width / 2)

    down, along = waves(rows)[:, None], waves(columns)[None]
    return torch.cat([along.expand(rows, -1, -1), down.expand(-1, columns, -1)], 2).flatten(0, 1)


def standardised(patches: Tensor, front: Any) -> Tensor:
    """Brings each patch, in each channel, to the mean and the deviation of the data, so that a backbone sees 0 and 1.

    What neighbours share beyond what they show, brightness, tint and contrast, is then gone (Noroozi & Favaro 2016, §3.3).
    A patch of one colour becomes the data's mean.

    Args:
        patches: (B, P, C, H, W).
        front: of the encoder, which has the data's `mean` and `std` (C, 1, 1).
    """
    deviation, mean = torch.std_mean(patches, (3, 4), correction=0, keepdim=True)
    return (patches - mean) / (deviation + EPSILON) * front.std + front.mean  # type: ignore[no-any-return]
