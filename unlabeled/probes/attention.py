"""Where an encoder looks: a picture of the places that its representation comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.data import Source
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.plots import save_sheet
from unlabeled.probes.base import Array, Figure, Shown, mean_and_interval
from unlabeled.probes.saliency import saliency
from unlabeled.probes.subject import Subject
from unlabeled.registry import register
from unlabeled.words import counted

BATCH = 32
PAIRS = 6  # pictures in a row, each beside itself with its map
CELL, GAP, WORDS = 96, 6, 20  # pixels


@register("attention")
class Attention:
    """Grad-CAM for convolutional encoders, attention roll-out for ViT: see `unlabeled.probes.saliency`.

    Args:
        images: of the test split: how many of them, spread evenly over it, or the numbers of some in the data as given (as
            `search` counts), with commas between; a single one is written (17). 24 make a page.
    """

    on_images: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_encoder: ClassVar[bool] = True
    sees: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(self, *, images: int | tuple[int, ...] = 24) -> None:
        self.images = images
        self.notes_: list[str] = []
        self.beside_: dict[str, Attention] = {}
        """Of other encoders on the same images, by what they are called: `draw` shows their maps, too."""

    def fit(self, subject: Subject, source: Source, indices: Array, y: Array, *, seed: int) -> Self:
        """Takes the encoder; nothing is learned from training images.

        Raises:
            UserError: raw features have none.
        """
        if subject.encoder is None:
            raise UserError("attention: raw features have no encoder to look into: judge a run")
        self.encoder_: Encoder = subject.encoder
        self.device_ = subject.device
        return self

    def score(self, source: Source, indices: Array, y: Array) -> Mapping[str, Figure]:
        """Returns `focus`, the mean over the images shown with its 95% confidence interval: the share of the picture that
        can be covered while half of the attention stays. In [0.5, 1]: 0.5 where it is spread evenly, near 1 where one spot
        has half. More is more concentrated, which suits pictures of one small object, and is no virtue by itself.

        Raises:
            UserError: numbers of images that are not in the test split, or an encoder that has no maps.
        """
        self.taken_ = self._choose(np.asarray(indices), source)
        found = [
            saliency(self.encoder_, source.fetch(part)[source.field].to(self.device_))
            for part in np.split(self.taken_, range(BATCH, len(self.taken_), BATCH))
        ]
        self.scored_ = len(self.taken_)
        self.maps_ = torch.cat([s.maps for s in found])  # (n, h, w)
        self.covers_, self.means_ = found[0].covers, found[0].means
        self.focus_ = [focus(m) for m in self.maps_]
        blank = int((self.maps_.sum((1, 2)) == 0).sum())
        none = (
            f"attention: in {blank} of {counted(len(self.maps_), 'images')} no place speaks for the representation; "
            "they count as even"
        )
        self.notes_ = [f"attention: {self.means_}", *([none] if blank else [])]
        return {"focus": mean_and_interval(np.array(self.focus_))}

    def draw(self, folder: Path, name: str, train: Shown, test: Shown) -> list[Path]:
        """Writes `NAME.png`, each picture beside itself with its map and with those of `beside_`, and `NAME.json`.

        The JSON holds `means` (how maps were found), `covers` (see `Saliency`), `classes`, and for each of `images` its
        `number` in the data as given, `index` in the test source, `label` (-1 where unlabelled), `focus` and `map` (h rows
        of w shares, of sum 1); and in `beside` the same of others, by what they are called.

        Raises:
            UserError: a file cannot be written.
        """
        label = dict(zip(np.asarray(test.indices).tolist(), np.asarray(test.y).tolist(), strict=True))
        rows = [
            {
                "number": int(test.source.numbers[i]),
                "index": i,
                "label": label.get(i, -1),
                "focus": f,
                "map": _rounded(m),
            }
            for i, f, m in zip(self.taken_.tolist(), self.focus_, self.maps_, strict=True)
        ]
        classes = list(test.source.classes)
        data = {"protocol": "attention", "means": self.means_, "covers": self.covers_, "classes": classes, "images": rows}
        data["beside"] = {
            name: {"means": other.means_, "covers": other.covers_, "focus": other.focus_, "maps": _rounded(other.maps_)}
            for name, other in self.beside_.items()
        }
        names = [" ".join(f"{r['number']} {classes[r['label']] if r['label'] >= 0 else ''}".split()) for r in rows]
        sheet = self._sheet(test.source.fetch(self.taken_)[test.source.field], names)
        return [
            save_sheet(folder / f"{name}.png", sheet),
            write_whole(folder / f"{name}.json", lambda p: p.write_text(json.dumps(data) + "\n", encoding="utf-8")),
        ]

    def _choose(self, indices: Array, source: Source) -> Array:
        """Positions (n,) out of indices (M,) of the source."""
        if isinstance(self.images, tuple):
            place = dict(zip(source.numbers[indices].tolist(), indices.tolist(), strict=True))
            strange = sorted(set(self.images) - set(place))
            if strange or not self.images:
                raise UserError(
                    f"attention: {', '.join(map(str, strange)) or 'nothing'} is no test image that can be read: give "
                    f"numbers between {min(place)} and {max(place)}, such as {', '.join(map(str, list(place)[:3]))}"
                )
            return np.array([place[number] for number in self.images])
        if self.images < 1:
            raise UserError(f"attention: images is {self.images}, and must be at least 1, or numbers such as 3,17,250")
        spread = np.linspace(0, len(indices) - 1, min(self.images, len(indices)))
        return np.asarray(indices[spread.round().astype(int)])

    def _sheet(self, images: Tensor, names: list[str]) -> Any:
        """Pictures with their maps in rows, number and class above each; above all, whose maps these are, where there are
        several. No scale of colours, as each map has its own."""
        from PIL import Image, ImageDraw, ImageFont

        shown = {"": self} if not self.beside_ else {"pretrained": self, **self.beside_}
        cells = [
            [pixels(x), *(overlay(x, one.maps_[i], one.covers_) for one in shown.values())] for i, x in enumerate(images)
        ]
        group = (1 + len(shown)) * (CELL + GAP) + GAP
        columns = min(max(1, 2 * PAIRS // (1 + len(shown))), len(cells))
        head = WORDS if self.beside_ else 0
        size = columns * group + GAP, head + -(-len(cells) // columns) * (CELL + WORDS + GAP) + GAP
        sheet = Image.new("RGB", size, "white")
        pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)

        def write(at: tuple[int, int], text: str, width: int) -> None:
            while font.getlength(text) > width:
                text = text[:-2] + "…"
            pen.text(at, text, "black", font)

        for column in range(columns):
            for side, whose in enumerate(shown, 1):
                write((GAP + column * group + side * (CELL + GAP), GAP), whose.removesuffix(" encoder"), CELL)
        for i, (pictures, name) in enumerate(zip(cells, names, strict=True)):
            left, top = GAP + i % columns * group, GAP + head + i // columns * (CELL + WORDS + GAP)
            write((left, top), name, group - GAP)
            for side, cell in enumerate(pictures):
                picture = Image.fromarray(cell).resize((CELL, CELL), Image.Resampling.NEAREST)
                sheet.paste(picture, (left + side * (CELL + GAP), top + WORDS))
        return sheet


def _rounded(maps: Tensor) -> Any:
    return maps.double().numpy().round(6).tolist()


def focus(attention: Tensor) -> float:
    """Returns, of a map (h, w) >= 0, the share of places that lie outside the smallest part with half of the sum, counting
    the last place of that part by the share of it that is needed; 0.5 where all is 0."""
    ordered = attention.double().flatten().sort(descending=True).values
    half = ordered.sum() / 2
    if half == 0:
        return 0.5
    whole = int((ordered.cumsum(0) < half).sum())  # places taken entirely
    part = float((half - ordered[:whole].sum()) / ordered[whole])
    return 1 - (whole + part) / len(ordered)


def pixels(image: Tensor) -> Array:
    """Converts uint8 (C, H, W) -> uint8 (H, W, 3); other than three channels by their mean, grey."""
    rgb = image if len(image) == 3 else image.float().mean(0, keepdim=True).round().to(torch.uint8).expand(3, -1, -1)
    return np.ascontiguousarray(rgb.permute(1, 2, 0).cpu().numpy())


def overlay(image: Tensor, attention: Tensor, covers: float) -> Array:
    """Draws the image (C, H, W) in grey under its map (h, w), from least to most: uint8 (CELL, CELL, 3).

    viridis is even to the eye (Smith and van der Walt 2015) and safe for the colour-blind.
    """
    from matplotlib import colormaps

    side = round(CELL / covers)
    large = F.interpolate(attention[None, None].float(), (side, side), mode="bilinear", align_corners=False)[
        0, 0, :CELL, :CELL
    ]
    least, most = large.min(), large.max()
    share = (large - least) / (most - least) if most > least else torch.zeros_like(large)
    heat = colormaps["viridis"](share.numpy())[..., :3]  # (CELL, CELL, 3)
    grey = F.interpolate(image.float().mean(0)[None, None], (CELL, CELL), mode="nearest")[0, 0, :, :, None].numpy() / 255
    return np.asarray((255 * (0.45 * grey + 0.55 * heat)).round(), np.uint8)
