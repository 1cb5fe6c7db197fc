"""Still images: from bytes, a PIL image or an array of any usual kind to uint8 (C, S, S)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import Fields, Progress
from unlabeled.data.kinds import medical, values
from unlabeled.data.kinds.fit import Fit
from unlabeled.data.kinds.kind import STRAYS, Form
from unlabeled.data.kinds.pixels import (
    Opened,
    channels_of,
    deep,
    native_channels,
    native_size,
    open_image,
    to_pixels,
    weight,
    whole,
    whole_weight,
)
from unlabeled.data.kinds.stored import Stored
from unlabeled.data.kinds.tiff import planes_as_pages
from unlabeled.data.reader import NATURAL, Raw, Reader, in_a_line, session
from unlabeled.data.room import decoding_room
from unlabeled.errors import UserError
from unlabeled.registry import Choice, Range, register
from unlabeled.words import counted

if TYPE_CHECKING:
    from unlabeled.encoders import Encoder

_KNOWN = "jpg jpeg jpe jfif png bmp dib gif webp tif tiff ppm pgm pbm pnm jp2 j2k avif tga ico"
SUFFIXES = frozenset(f".{s}" for s in _KNOWN.split(" ")) | medical.SUFFIXES

_SAMPLED = 256
"""Images looked at to find what a source is: their headers, their colours, the values of those of more than 8 bits."""
WIDE = 0.5
"""Share of the median picture outside its central square from which on pictures are squashed where nothing is asked for.
Ours: photographs of 4:3 and 3:2 lose 25% and 33%, as is the custom."""
MILD_CROP, MILD_COLOURS = 0.5, 0.5
"""Least area of a crop, and strength of the colour jitter, of views that are mild. The area is ours; the strength is half of
SimCLR's, as in MoCo v2 and in SimCLR's experiments on CIFAR-10 (appendix B.9)."""
USUAL_CROP = 0.2
"""Least area of a crop where nothing is asked for: MoCo's (He et al. 2020, published code) in place of SimCLR's 0.08, which
loses what small pictures show."""
AFFINE = {"name": "affine"}
SMALLEST, LARGEST = 16, 224
"""Bounds of the default side of a view, in pixels: a ResNet halves 16 three times; 224 is ImageNet's custom."""


@register("image", formerly={"fit": "crop", "range": "type"})
class ImageKind:
    """Still images, kept as squares of uint8. `--range`, `--fit`, `--pages` and `--tiles` are `--kind.range` and so on.

    Args:
        size: side of a view in pixels; none given: the data's own, between 16 and 224.
        first_size: side of a view in the first epoch, from which it grows to `size`, reached after four fifths of the run;
            none given: `size` throughout. Small views cost less, and early training needs no more (Tan and Le 2021,
            "EfficientNetV2", on progressive learning; by how much is ours).
        eval_size: side in pixels at which images are judged after training; none given: `size`. Somewhat more than that
            helps, as crops show things enlarged (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
        range: of values of more than 8 bits, those that become black and white: `0,4095`, or such a pair for each channel,
            one after the other; `1%,99%` of the values of the set, for each channel; `type`, what the type can hold; none
            given: measured over the set, for each channel, and the windows of DICOM files.
        fit: what becomes of pictures that are not square: `crop`, their central square; `pad`, all of it, with black beside;
            `stretch`, all of it, squashed; none given: crop, but stretch where that would lose half of the median picture.
        pages: of a file with several (TIFF, GIF): the `first`; `all`, each a sample; `channels`, the channels of one. Slices
            of a volume (DICOM, NIfTI) are samples, unless `channels` is given.
        tiles: side in pixels of the squares that large pictures are cut into, each a sample; none given: no tiles.
        channels: whether arrays have their channels first or last; none given: told from their shape.
    """

    name, noun, nouns, raw = "image", "image", "images", "pixels"
    suffixes, volumes = SUFFIXES, medical.SUFFIXES
    invariances = NATURAL
    reading = ("range", "fit", "pages", "tiles", "channels")
    version = 4  # raise it whenever `to_pixels` gives other pixels than before
    method, policy, encoder_name = "simclr", "simclr", "resnet18"

    def __init__(
        self,
        *,
        size: Annotated[int, Range(4)] | None = None,
        first_size: Annotated[int, Range(4)] | None = None,
        eval_size: Annotated[int, Range(4)] | None = None,
        range: str | None = None,
        fit: Fit | None = None,
        pages: Literal["first", "all", "channels"] | None = None,
        tiles: Annotated[int, Range(8)] | None = None,
        channels: Literal["first", "last"] | None = None,
    ) -> None:
        self.size, self.first_size, self.eval_size = size, first_size, eval_size
        self.range, self.fit, self.pages, self.tiles, self.channels = range, fit, pages, tiles, channels
        values.check(range)
        if tiles and pages == "all":
            raise UserError("pages 'all' and tiles: give one of them, and cut the pages of the other by other means")

    def open(self, source: bytes | Path) -> Opened:
        """Does what `open_image` says."""
        return open_image(source)

    def native(self, raw: Raw) -> tuple[int, int]:
        """Returns (H, W), without decoding."""
        return native_size(raw)

    def cuts(self, paths: Sequence[str]) -> str:
        """Returns what a sample is of a file, `tile`, `page` or `slice`; "" where each file is one."""
        named = tuple(medical.SUFFIXES)
        found = sum(path.lower().endswith(named) or medical.is_dicom(Path(path)) for path in paths)
        volumes = self.pages in (None, "all") and STRAYS * found > len(paths) - found
        if self.tiles and volumes:
            raise UserError(f"tiles of {self.tiles} pixels: slices of volumes cannot be cut: leave --tiles out")
        return "tile" if self.tiles else "slice" if volumes else "page" if self.pages == "all" else ""

    def parts(self, raw: Raw) -> int:
        """Counts the samples in a file."""
        if self.tiles:
            down, across = self._tiles(raw)
            return len(down) * len(across)
        raw = self._paged(raw)
        return raw.pages if isinstance(raw, Stored) and (self.pages == "all" or raw.noun == "slice") else 1

    def part(self, raw: Raw, number: int, decoded: Callable[[], np.ndarray[Any, Any]]) -> Raw:
        """Returns a page or slice of a file, or a tile of what `decoded` makes of it."""
        if not self.tiles:
            several = self.parts(raw) > 1
            return self._paged(raw).page(number) if several else raw
        down, across = self._tiles(raw)
        top, left = down[number // len(across)], across[number % len(across)]
        side = slice(top, top + self.tiles), slice(left, left + self.tiles)
        height, width = (min(self.tiles, length) for length in native_size(raw))
        pixels = self._asked(raw)
        about = pixels if isinstance(pixels, Stored) else Stored(
            height, width, channels_of(raw), "uint8", lambda pages, least: decoded(), lambda least: 0, colour=True
        )  # fmt: skip
        return replace(about, height=height, width=width, load=lambda pages, least: decoded()[side], weight=lambda least: 0)

    def _tiles(self, raw: Raw) -> tuple[list[int], list[int]]:
        """Where tiles begin, from above and from the left: evenly, so that they overlap a little and nothing is left out."""
        assert self.tiles is not None
        ends = [length - self.tiles for length in native_size(raw)]
        counts = [1 if end <= 0 else -(-end // self.tiles) + 1 for end in ends]
        down, across = (np.linspace(0, max(0, e), n).astype(int).tolist() for e, n in zip(ends, counts, strict=True))
        return down, across

    def _paged(self, raw: Raw) -> Raw:
        """With planes as pages, where all pages are asked for."""
        return planes_as_pages(raw) if isinstance(raw, Stored) and self.pages == "all" else raw

    def whole(self, raw: Raw) -> np.ndarray[Any, Any]:
        """Decodes a picture, to be cut."""
        return whole(self._asked(raw))

    def whole_weight(self, raw: Raw) -> int:
        """Estimates the bytes that this takes."""
        return whole_weight(self._asked(raw))

    def _asked(self, raw: Raw) -> Raw:
        """With its pages as channels, where that is asked for."""
        return raw.stacked() if self.pages == "channels" and isinstance(raw, Stored) else raw

    def survey(self, reader: Reader, name: str, channels: int | None, *, judged: bool = False) -> Form:
        """Finds channels, native size, range of values and canonical size from images spread over the split."""
        look = _Look(reader)
        with session(reader):
            for index in np.unique(np.linspace(0, len(reader) - 1, min(len(reader), _SAMPLED)).astype(int)).tolist():
                try:
                    look.at(self._asked(reader.read(index)))
                except Exception as error:  # decoders raise anything on broken data; the check counts them
                    look.reason = look.reason or f"{reader.path(index)}: {in_a_line(error)}"
        if not look.sizes:
            raise UserError(f"{name}: none of its images can be read ({look.reason}); check that these are image files")
        own = _wanted(reader.channels, channels) or channels or look.channels or 3
        fit = self.fit or ("stretch" if look.lost >= WIDE else "crop")
        native = look.native
        alike = look.alike and native[0] == native[1]
        side, seen_at = _canonical_size(native, alike, self.size, fit), self.eval_size or self.size
        as_it_is = alike and native[0] in (side, seen_at)
        finely = judged and seen_at is not None and not as_it_is
        side = native[0] if as_it_is else seen_at if finely and seen_at else side
        spread = look.values.range(self.range)
        text = values.WINDOW if look.windows and self.range is None else spread
        said = [
            *look.tell_pages(self.pages),
            *look.tell_values(text, self.range, len(reader)),
            *look.tell_fit(fit, self.fit),
            *_tell_channels(reader.channels or look.channels, own),
        ]
        deep_values = look.values.count > 0 or look.windows > 0
        how = f" {fit} {text} {self.pages}" if look.oblong or deep_values or self.pages else ""
        how += " finely" if finely else ""
        fields = {self.name: ("uint16" if finely else "uint8", (own, side, side))}
        form = Form(fields, own, side, native, fit=fit, how=how, said=tuple(said), finely=finely)
        shown = {"crop": "central square", "pad": "padded", "stretch": "squashed"}[fit] if look.oblong else "resized"
        shown = "original" if alike and native[0] == side and not deep_values else shown
        return replace(form, values=text if deep_values else "", shown=shown)

    def like(self, reader: Reader, form: Form, name: str, channels: int | None) -> None:
        """Checks the channels of an array."""
        own = _wanted(reader.channels, channels)
        if own is not None and own != form.channels:
            raise UserError(f"{name}: test has {counted(own, 'channels')} and train {form.channels}: give both alike")

    def ready(self, reader: Reader, form: Form) -> dict[str, np.ndarray[Any, Any]] | None:
        """Returns arrays of the right size."""
        held = reader.held
        if held is None or held.shape[1:] != (form.size, form.size, form.channels):
            return None
        return {self.name: np.ascontiguousarray(values.as_bytes(held, form.values).transpose(0, 3, 1, 2))}

    def decode(self, raw: Raw, form: Form) -> dict[str, np.ndarray[Any, Any]]:
        """Does what `to_pixels` says, when there is room for it."""
        raw = self._asked(raw)
        with decoding_room.hold(weight(raw, form.size, finely=form.finely)):
            return {self.name: to_pixels(raw, form.channels, form.size, form.fit, form.values, finely=form.finely)}

    def resolved(self, form: Form) -> Choice:
        """Returns this kind with the side of a view, the fit and the range of values."""
        size = self.size or max(SMALLEST, min(LARGEST, form.size))
        found = {"size": size, "first_size": self.first_size, "eval_size": self.eval_size}
        return Choice(self.name, {**found, **self._reading, "fit": form.fit, "range": form.values or self.range})

    @property
    def _reading(self) -> dict[str, Any]:
        """The options that say what a sample is made of."""
        return {name: getattr(self, name) for name in self.reading}

    def view_size(self, at: Progress) -> int:
        """Returns `first_size` at the beginning, linearly to `size` after four fifths of the run, in whole pixels."""
        assert self.size is not None
        first = self.first_size or self.size
        return first + round((self.size - first) * min(1.0, at.fraction / 0.8))

    def usual(self, views: Choice, form: Form, invariances: frozenset[str]) -> tuple[str, Mapping[str, Any]] | None:
        """Moves and bends grey pictures that may not be mirrored, crops small ones less, changes colours by half."""
        policy = registry.get("views", views.name).make
        pair = getattr(policy, "distorts_whole", False) and views.options.get("views", 2) == 2
        if pair and form.channels == 1 and "mirror" not in invariances:
            return "shifted, turned and sheared, as grey pictures that may not be mirrored bear little else", AFFINE
        scale, strength = views.options.get("scale"), views.options.get("strength", 0.0)
        given: dict[str, Any] = {}
        if isinstance(scale, tuple | list) and scale[0] < USUAL_CROP:
            given["scale"] = (USUAL_CROP, 1.0)
        if strength > MILD_COLOURS:
            given["strength"] = MILD_COLOURS
        return (f"crops of {USUAL_CROP:.0%} of the picture at least, and half of the jitter", given) if given else None

    def milder(self, views: Choice) -> tuple[str, dict[str, str]] | None:
        """Advises crops of half of the picture at least, where they may show less; else weaker colours."""
        scale, strength = views.options.get("scale"), views.options.get("strength", 0.0)
        if isinstance(scale, tuple | list) and scale[0] < MILD_CROP:
            return "crops that keep what the picture shows, however small it is", {"scale": f"{MILD_CROP:g},1"}
        if strength > MILD_COLOURS:
            return "weaker changes of colour and brightness", {"strength": f"{MILD_COLOURS:g}"}
        return None

    def allowed(self, invariances: frozenset[str], form: Form) -> frozenset[str]:
        """Allows colour only where there are three channels."""
        return invariances - ({"colour"} if form.channels != 3 else set())

    def fitted(self, choice: Choice, form: Form) -> Choice:
        """Chooses a ResNet's stem."""
        from unlabeled.encoders.image import with_stem

        assert self.size is not None
        return with_stem(choice, form.channels, self.size)

    def encoder(self, choice: Choice, channels: int, sample: Fields | None) -> Encoder:
        """Normalises by the sample's mean and standard deviation of each channel."""
        from unlabeled.encoders.image import build_encoder, price

        assert self.size is not None
        mean = std = torch.zeros(channels)
        if sample is not None:
            pixels = sample[self.name].float().div_(255)
            mean, std = pixels.mean((0, 2, 3)), pixels.std((0, 2, 3))
        encoder = build_encoder(choice, channels, self.size, mean, std, self.eval_size)
        encoder.notes += [] if sample is None else price(choice, channels, self.size)
        encoder.front.kind = Choice(self.name, {**encoder.front.kind.options, **self._reading})
        return encoder

    def describe(self, form: Form) -> str:
        """Returns `640×480, 3 channels`."""
        return f"{form.native[0]}×{form.native[1]}, {counted(form.channels, 'channels')}"

    def views(self) -> str:
        """Returns `24 px`, or `16 to 24 px`."""
        grows = f"{self.first_size} to " if self.first_size not in (None, self.size) else ""
        return f"{grows}{self.size} px"

    def pictures(self, x: Fields, form: Form) -> Tensor:
        """Returns the images themselves."""
        return x[self.name]

    def shown(self, view: Tensor, form: Form) -> Tensor:
        """Returns the values in [0, 1] as bytes."""
        return (view * 255).round().to(torch.uint8)

    def features(self, x: Fields, form: Form) -> Tensor:
        """Returns the pixels, (B, C * S * S) in [0, 1]."""
        return x[self.name].flatten(1).float().div_(255)


def _wanted(own: int | None, wanted: int | None) -> int | None:
    """An array's own channels, or those that are wanted if grey and colour can become one another."""
    return wanted if own in (1, 3) and wanted in (1, 3) else own


def _canonical_size(native: tuple[int, int], alike: bool, image_size: int | None, fit: Fit) -> int:
    """Native where all are one small square; otherwise an eighth more than the view's share, or 256, never enlarged."""
    if alike and native[0] <= max(64, image_size or 0):
        return native[0]
    own: int = {"crop": min(native), "stretch": round((native[0] * native[1]) ** 0.5), "pad": max(native)}[fit]
    return max(1, min(own, 256 if image_size is None else round(image_size * 8 / 7)))


def _tell_channels(there: int, taken: int) -> list[str]:
    """Says that pictures become grey or get colours, where what is asked of is an encoder of the other."""
    if there == taken or not there:
        return []
    said = {1: "made grey", 3: "made colour, alike in each channel"}.get(taken, f"read as {taken}")
    return [f"Images have {counted(there, 'channels')}, and the encoder takes {taken}: they are {said}"]


class _Look:
    """What is seen of some samples of a split.

    Attributes:
        sizes: (H, W) of each.
        channels: the most of any.
        values: of those of more than 8 bits.
        windows: how many say themselves what is black and white.
        reason: why the first of those that are bad is.
    """

    def __init__(self, reader: Reader) -> None:
        self.sizes: list[tuple[int, int]] = []
        self.channels, self.values, self.windows, self.reason = 0, values.Values(), 0, ""
        self._pages: list[int] = []
        self._notes: Counter[str] = Counter()
        self._noun, self._known, self._held = "page", reader.channels, reader.held
        if self._held is not None and self._held.dtype not in (np.uint8, np.bool_):
            self.values.add(self._held)

    def at(self, raw: Raw) -> None:
        """Looks at one."""
        self.sizes.append(native_size(raw))
        if isinstance(raw, Stored):
            self.windows += raw.window is not None
            if raw.pages > len(raw.at) and raw.at == (0,):
                self._pages.append(raw.pages)
                self._noun = raw.noun
            if raw.said:
                self._notes[raw.said] += 1
        deep_values = deep(raw) if self._held is None else None
        if deep_values is not None:
            self.values.add(deep_values)
        if self._known is None and self.channels != 3:  # may leave it decoded at a reduced size
            self.channels = max(self.channels, native_channels(raw))

    @property
    def native(self) -> tuple[int, int]:
        """Medians of height and width."""
        return int(np.median([h for h, _ in self.sizes])), int(np.median([w for _, w in self.sizes]))

    @property
    def alike(self) -> bool:
        """Whether all are of one size."""
        return len(set(self.sizes)) == 1

    @property
    def oblong(self) -> bool:
        """Whether one is not square."""
        return any(height != width for height, width in self.sizes)

    @property
    def lost(self) -> float:
        """Share of the median picture outside its central square, in [0, 1)."""
        return float(np.median([1 - min(size) / max(size) for size in self.sizes]))

    def tell_pages(self, asked: str | None) -> list[str]:
        """Says what is read of files with several pages, and what the tags of TIFF files leave open."""
        said = [f"{note} ({count:,} of the {len(self.sizes):,} looked at)" for note, count in self._notes.items()]
        if self._pages and asked != "channels":
            said.append(
                f"{len(self._pages):,} of the {counted(len(self.sizes), 'files')} looked at have several "
                f"{self._noun}s, up to {max(self._pages):,}, of which the first is read; --pages all makes each a sample, "
                "--pages channels the "
                "channels of one"
            )
        return said

    def tell_values(self, text: str, asked: str | None, n: int) -> list[str]:
        """Says which range becomes black and white."""
        if self.windows and text == values.WINDOW:
            return [
                f"{self.windows:,} of the {counted(len(self.sizes), 'files')} looked at declare a window, which "
                "becomes black to white"
            ]
        if not self.values.count:
            said = f"Values are bytes, 0 black and 255 white: the range {asked} is for numbers of more bits"
            return [said] if asked and "," in asked and not self.windows else []
        pairs = values.pairs(text)
        if pairs is None or (asked and not asked.endswith("%")):
            return []
        listed = [f"{low:,g} to {high:,g}" for low, high in pairs.tolist()]
        if len(listed) > 1:
            listed = [f"{pair} in channel {i}" for i, pair in enumerate(listed[:3], 1)] + ["..."] * (len(listed) > 3)
        said = f"Values are {' and '.join(sorted(self.values.types))}, and the range that becomes black and white is "
        said += f"{', '.join(listed)}, as measured over {self.values.count:,} of {counted(n, 'images')}"
        return [said + ("" if asked else "; --range LOW,HIGH or --range 1%,99% sets another")]

    def tell_fit(self, fit: str, asked: str | None) -> list[str]:
        """Says what becomes of pictures that are not square."""
        height, width = self.native
        if asked or not self.oblong:
            return []
        if fit == "stretch":
            return [
                f"Images are far from square ({height}×{width}): each is squashed to one, whole; --fit pad keeps its shape, "
                "--fit crop its central square"
            ]
        lost = f", and views show nothing of {self.lost:.0%} of the median image" * (self.lost >= 0.005)
        return [
            f"Not all images are square: only the central square is used{lost}; --fit pad or --fit stretch uses all of them"
        ]
