"""Pictures inside a page: data URIs, thumbnails, sprites, first-layer filters."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from unlabeled.data import Source
from unlabeled.encoders import Encoder

SIDE = 48
"""Of a thumbnail at most, in pixels: 2,000 of them are then about 3 MB at most."""
TYPES = {".png": "image/png", ".svg": "image/svg+xml"}


def uri(content: bytes, kind: str) -> str:
    """Returns bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def file_uri(path: Path) -> str:
    """Returns a PNG or SVG file as a data URI. An SVG file shown as an image runs no script."""
    return uri(path.read_bytes(), TYPES[path.suffix.lower()])


def picture_uri(image: Image.Image) -> str:
    """Returns a picture as a data URI: PNG, which loses nothing, or JPEG where that is less than half as large."""
    written = {}
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 88, "subsampling": 0})):
        file = io.BytesIO()
        image.save(file, format=kind, **options)
        written[kind] = file.getvalue()
    kind = "jpeg" if 2 * len(written["jpeg"]) < len(written["png"]) else "png"
    return uri(written[kind], f"image/{kind}")


def thumbnails(source: Source, indices: np.ndarray) -> list[Image.Image]:
    """Returns the images at `indices` (n,), in RGB, at most `SIDE` pixels wide. One channel becomes grey, three are RGB, of
    other numbers the mean is shown."""
    return [
        _thumbnail(pixels)
        for start in range(0, len(indices), 512)
        for pixels in source.pictures(indices[start : start + 512])
    ]


@dataclass(frozen=True)
class Sprite:
    """Thumbnails in one picture, row after row.

    Attributes:
        uri: of the picture.
        side: of a thumbnail in pixels.
        stride: pixels from one to the next: a multiple of 8, so that JPEG's blocks belong to one thumbnail each.
        across: thumbnails in a row.
    """

    uri: str
    side: int
    stride: int
    across: int


def sprite(pictures: list[Image.Image]) -> Sprite:
    """Puts at least one picture of equal sizes side by side."""
    side = pictures[0].width
    stride, across = -(-side // 8) * 8, math.ceil(math.sqrt(len(pictures)))
    sheet = Image.new("RGB", (across * stride, -(-len(pictures) // across) * stride))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % across * stride, i // across * stride))
    return Sprite(picture_uri(sheet), side, stride, across)


def filters(encoder: Encoder) -> tuple[Image.Image, int] | None:
    """Returns the filters of the first convolution, and how many there are: each around its own mid-grey, three channels as
    RGB, of other numbers the mean. None where there is no convolution."""
    first = next((m for m in encoder.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        return None
    weight = first.weight.detach().float().cpu()  # (F, C, k, k)
    weight = weight / weight.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-12)
    tiles = [_picture(((tile + 1) * 127.5).round().to(torch.uint8)) for tile in weight]
    side, across = tiles[0].width, min(16, math.ceil(math.sqrt(2 * len(tiles))))
    zoom = max(1, round(36 / side))
    cell = side * zoom + 3
    sheet = Image.new("RGB", (across * cell - 3, -(-len(tiles) // across) * cell - 3), "#808080")
    for i, tile in enumerate(tiles):
        sheet.paste(tile.resize((side * zoom,) * 2, Image.Resampling.NEAREST), (i % across * cell, i // across * cell))
    return sheet, len(tiles)


def _thumbnail(pixels: Tensor) -> Image.Image:
    image = _picture(pixels)
    return image if image.width <= SIDE else image.resize((SIDE, SIDE), Image.Resampling.BOX)


def _picture(pixels: Tensor) -> Image.Image:
    """uint8 (C, H, W) -> RGB."""
    if pixels.shape[0] != 3:
        pixels = pixels.float().mean(0, keepdim=True).round().to(torch.uint8).expand(3, -1, -1)
    return Image.fromarray(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy()), "RGB")
