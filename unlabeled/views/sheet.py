"""A contact sheet: what a method sees, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Fields
from unlabeled.files import cannot_write
from unlabeled.plots import save_sheet
from unlabeled.views.view import Views

_CELL = 96
_GAP = 6
_HEAD = 30
_BETWEEN = 217  # grey of the gaps between patches
_PAPER, _INK = "#d8d8d8", "black"


Shown = Callable[[Tensor], Tensor]
"""Views (N, ...) of one draw -> uint8 pictures (N, C, H, W), or (N, P, C, H, W) of P patches."""


def contact_sheet(
    fields: Fields,
    policy: Views,
    generator: torch.Generator,
    path: Path | str,
    *,
    draws: int = 3,
    first: str = "original",
    pictures: Callable[[Fields], Tensor] = lambda fields: fields["image"],
    shown: Shown = lambda view: (view * 255).round().to(torch.uint8),
) -> Path:
    """Draws each sample beside several draws of each of its views, and writes a PNG, wholly or not at all.

    A policy whose views are a task shows what is asked and what is true, if it has `task(views, targets)`: pictures by name,
    as those of `Method.pictures`, in place of its views.

    Args:
        fields: of N samples; one row each. One channel is drawn grey, three as RGB, others as the mean of all.
        policy: makes the views.
        generator: advances by `draws` calls of the policy.
        path: of the PNG; folders above it are made.
        draws: how often each view is drawn.
        first: what the samples' own pictures are called.
        pictures: of the samples: uint8 (N, C, H, W).
        shown: of a view.

    Returns:
        The path.

    Raises:
        UserError: the file cannot be written.
    """
    asked = [_asked(policy, *policy(fields, generator), shown) for _ in range(draws)]
    columns = [[picture(image) for image in pictures(fields)]]
    headings = [first]
    for name in asked[0]:
        for draw in range(draws):
            columns.append([picture(image) for image in asked[draw][name]])
            headings.append(name if draw == 0 else "")
    own, views = zoom(columns[:1]), zoom(columns[1:])
    zooms = [own] + [views] * (len(columns) - 1)
    sheet = lay(columns, headings, zooms, [view * draws + 1 for view in range(len(asked[0]))])
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error
    return save_sheet(path, sheet)


def zoom(columns: list[list[Image.Image]]) -> int:
    """Returns the whole factor that brings the largest picture nearest to a cell; views of different sizes share one."""
    return max(1, round(_CELL / max(column[0].width for column in columns)))


def lay(columns: list[list[Image.Image]], headings: list[str], zooms: list[int], firsts: list[int]) -> Image.Image:
    """Lays pictures in columns under headings; a wider gap before each view's first column."""
    enlarged = [[image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST) for image in column]
                for column, zoom in zip(columns, zooms, strict=True)]  # fmt: skip
    height = max(column[0].height for column in enlarged)
    font = ImageFont.load_default(18)
    lefts, left = [], _GAP
    for index, column in enumerate(enlarged):
        left += 2 * _GAP if index in firsts else 0
        lefts.append(left)
        left += column[0].width + _GAP
        if headings[index] and (index + 1 == len(enlarged) or headings[index + 1]):  # nothing to spill over
            left = max(left, lefts[-1] + int(font.getlength(headings[index])) + _GAP)
    right = max(left, *(at + int(font.getlength(text)) + _GAP for at, text in zip(lefts, headings, strict=True)))
    sheet = Image.new("RGB", (right, _HEAD + max(map(len, columns)) * (height + _GAP)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for at, heading, column in zip(lefts, headings, enlarged, strict=True):
        pen.text((at, _HEAD / 2), heading, _INK, font, anchor="lm")
        for row, image in enumerate(column):
            sheet.paste(image, (at, _HEAD + row * (height + _GAP) + (height - image.height) // 2))
    return sheet


def _asked(policy: Views, views: list[Tensor], targets: dict[str, Tensor], shown: Shown) -> dict[str, list[Tensor]]:
    """What a draw shows, by heading: uint8 images of each sample."""
    task = getattr(policy, "task", None)
    if task is not None:
        return {name: drawn(images) for name, images in task(views, targets).items()}
    return {f"view {number}": [_mosaic(image) for image in shown(view)] for number, view in enumerate(views, 1)}


def drawn(images: Tensor) -> list[Tensor]:
    """Makes what people look at of images (B, C, H, W) in [0, 1], or (B, P, C, H, W) of P patches: uint8, of each sample
    one, its patches in rows."""
    return [_mosaic(image) for image in (images * 255).round().to(torch.uint8)]


def _mosaic(image: Tensor) -> Tensor:
    """Patches (P, C, H, W) -> one image (C, .., ..) with gaps, in rows of about √P; an image (C, H, W) as it is."""
    if image.ndim == 3:
        return image
    across = math.isqrt(len(image) - 1) + 1
    padded = F.pad(image, (0, 1, 0, 1), value=_BETWEEN)
    empty = padded.new_full((-len(image) % across, *padded.shape[1:]), _BETWEEN)
    rows = torch.split(torch.cat([padded, empty]), across)
    return torch.cat([torch.cat(list(row), 2) for row in rows], 1)[:, :-1, :-1]


def picture(image: Tensor) -> Image.Image:
    """Converts uint8 (C, H, W) -> an RGB picture."""
    if image.shape[0] != 3:
        image = image.float().mean(0, keepdim=True).round().to(torch.uint8).expand(3, -1, -1)
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy()), "RGB")
