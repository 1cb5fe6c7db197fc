"""One random view: the distribution of its parameters, how they are drawn, how they are applied."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.recipe import TURNS
from unlabeled.views import ops
from unlabeled.views.resample import CROP, blur_kernels, blur_radius, blur_taps, crop_boxes, crop_taps, separable

Parameters = dict[str, Tensor]
"""What was drawn for a batch, or planned from it: name -> (B,) or (B, ...), on the images' device."""

RATIO = (3 / 4, 4 / 3)
"""Aspect ratios of random resized crops (Szegedy et al. 2014, section 6), used by every paper here."""

_PROPOSALS = 10
_CACHED = 2**20


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets the calling thread alone compute what torch computes within. A few numbers need no others, and those that torch
    wakes go on waiting busily for milliseconds, beside the threads that make views."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Views(Protocol):
    """What every policy is: the same state of `generator` gives the same views, bit by bit, on the same device."""

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Samples, on any device -> views, each (B, ...) there, such as float32 (B, C, size, size) in [0, 1]; and targets.

        `generator` is the CPU's: parameters are drawn there and moved.
        """
        ...


@dataclass(frozen=True, slots=True)
class View:
    """The distribution of one view. As constructed it only resizes. Probabilities are in [0, 1].

    Order: crop, mirror, flip and blur at once; colours at once; the one clamp; quarter turn; solarise; cut-out.

    Attributes:
        size: side of the view in pixels.
        scale: area of the crop, as fractions of the picture.
        ratio: width / height of the crop.
        pad: the crop is moved by up to this fraction of the side, also beyond the border, where the picture is black.
        mirror: probability of a left-right reflection.
        flip: probability of a top-bottom reflection.
        turn: probability of a turn by 90, 180 or 270 degrees.
        jitter: probability that the next four change at all.
        brightness: a factor from [max(0, 1 - b), 1 + b].
        contrast: a factor likewise.
        saturation: a factor likewise.
        hue: turns from [-hue, hue].
        grey: probability of losing the colour.
        blur: probability of a Gaussian blur.
        sigma: standard deviations of the blur, in pixels.
        solarise: probability that values of 0.5 and more are inverted.
        cutout: side of a black square at a random place, as a fraction of the side; 0 is none.
    """

    size: int
    scale: tuple[float, float] = (1.0, 1.0)
    ratio: tuple[float, float] = (1.0, 1.0)
    pad: float = 0.0
    mirror: float = 0.0
    flip: float = 0.0
    turn: float = 0.0
    jitter: float = 1.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    sigma: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0
    cutout: float = 0.0

    def within(self, shape: DataShape) -> View:
        """Returns this view with its values checked, less what the data's invariances or number of channels do not allow.

        Mirror and colours are dropped silently, since every paper has them; `flip` and `turn` are there only if asked for.

        Raises:
            UserError: a value out of range; `flip` or `turn` asked for without the invariance.
        """
        for name in ("mirror", "flip", "turn", "jitter", "grey", "blur", "solarise"):
            check_number(name, getattr(self, name), 0.0, 1.0, "it is a probability")
        for name in ("pad", "cutout"):
            check_number(name, getattr(self, name), 0.0, 1.0, "it is a fraction of the side")
        for name in ("brightness", "contrast", "saturation"):
            check_number(name, getattr(self, name), 0.0, math.inf, "it is the half-width of a range of factors")
        check_number("hue", self.hue, 0.0, 0.5, "it is in turns of the colour circle")
        scale = check_range("scale", self.scale, 1e-4, 1.0, "it is the crop's area as fractions of the picture")
        sigma = check_range("sigma", self.sigma, 0.0, math.inf, "it is in pixels")
        for option, invariance in TURNS.items():
            if getattr(self, option) > 0 and invariance not in shape.invariances:
                raise UserError(
                    f"{option} {getattr(self, option)} would change the meaning of this data: it does not declare the "
                    f"invariance {invariance!r}; leave {option} at 0, or declare it: --invariances "
                    f"{','.join(sorted(shape.invariances | {invariance}))}"
                )
        colour = "colour" in shape.invariances
        allowed: dict[str, bool] = {
            "mirror": "mirror" in shape.invariances,
            **dict.fromkeys(("brightness", "contrast", "solarise"), colour or "intensity" in shape.invariances),
            **dict.fromkeys(("saturation", "hue", "grey"), colour and shape.channels == 3),
        }
        off: dict[str, Any] = {name: 0.0 for name, may in allowed.items() if not may}
        return replace(self, scale=scale, sigma=sigma, **off)

    @property
    def colours(self) -> bool:
        """Whether anything is left of the colour operations."""
        return self.jitter * max(self.brightness, self.contrast, self.saturation, self.hue) > 0 or self.grey > 0

    @one_thread()
    def draw(self, count: int, side: int, generator: torch.Generator) -> Parameters:
        """Draws parameters of `count` samples from pictures of `side` pixels, on the CPU.

        The same numbers are taken from the generator whatever is switched off, so that switching an operation off leaves
        the others as they were.
        """
        u = torch.rand(18, count, generator=generator)
        proposals = torch.rand(2, _PROPOSALS, count, generator=generator)
        top, left, height, width = crop_boxes(self.scale, self.ratio, side, u[0], u[1], proposals)
        moved = ((u[2:4] * 2 - 1) * self.pad * side).round()
        drawn = {"top": top + moved[0], "left": left + moved[1], "height": height, "width": width}
        drawn["mirror"] = (u[4] < self.mirror).float()
        drawn["flip"] = (u[5] < self.flip).float()
        if self.turn > 0:
            drawn["turns"] = torch.where(u[6] < self.turn, 1 + (u[6] / self.turn * 3).floor().clamp(max=2), 0.0)
        if self.colours:
            jittered = u[7] < self.jitter
            for row, name in enumerate(("brightness", "contrast", "saturation"), 8):
                half = getattr(self, name)
                low, high = max(0.0, 1 - half), 1 + half
                drawn[name] = torch.where(jittered, low + (high - low) * u[row], 1.0)
            drawn["hue"] = torch.where(jittered, (2 * u[11] - 1) * self.hue, 0.0)
            drawn["saturation"] = torch.where(u[12] < self.grey, 0.0, drawn["saturation"])
        if self.blur > 0:
            low, high = self.sigma
            drawn["sigma"] = torch.where(u[13] < self.blur, low + (high - low) * u[14], 0.0)
        if self.solarise > 0:
            drawn["threshold"] = torch.where(u[15] < self.solarise, 0.5, 2.0)
        if self.cutout > 0:
            hole = round(self.cutout * self.size)
            drawn["hole_top"] = (u[16] * self.size).floor() - hole // 2
            drawn["hole_left"] = (u[17] * self.size).floor() - hole // 2
            drawn["hole"] = torch.full((count,), float(hole))
        return drawn

    @one_thread()
    def plan(self, drawn: Parameters, side: int, channels: int) -> Parameters:
        """Works out what `apply` needs of what was drawn, for a whole batch of pictures with so many pixels and channels:
        the crop if there is one, and the colours' matrices; on the device of `drawn`."""
        planned: Parameters = {
            name: drawn[name] for name in ("turns", "threshold", "hole_top", "hole_left", "hole") if name in drawn
        }
        plain = (self.scale, self.ratio) == ((1.0, 1.0), (1.0, 1.0)) and not (self.pad or self.mirror or self.flip)
        if not plain or self.size != side or "sigma" in drawn:
            planned |= {name: drawn[name] for axis in CROP for name in axis}
        if "sigma" in drawn:
            planned["sigma"], planned["kernel"] = drawn["sigma"], blur_kernels(drawn["sigma"], blur_radius(self.size))
        if self.colours:
            hues = (drawn["saturation"], drawn["hue"]) if self.saturation or self.hue or self.grey else ()
            planned["matrix"], planned["lift"] = ops.colour_matrix(channels, drawn["brightness"], drawn["contrast"], *hues)
        return planned

    def apply(self, x: Tensor, planned: Parameters, out: Tensor | None = None) -> Tensor:
        """Maps x (B, C, S, S), uint8 or float32 in [0, 1] -> (B, C, size, size) float32 in [0, 1] there, in `out` if
        given."""
        if x.device.type != "cpu":
            return self.finish(self.resample(x, planned), planned, out)
        out = torch.empty(*x.shape[:2], self.size, self.size, device=x.device) if out is None else out
        resampled = "top" in planned
        if resampled:
            from unlabeled.views import compiled

            compiled.view(x, planned, out)
        for piece in pieces(x, self.size):
            mine = of(planned, piece)
            if resampled:
                self._last(out[piece], mine)
            else:
                self.finish(self.resample(x[piece], mine), mine, out[piece])
        return out

    def resample(self, x: Tensor, planned: Parameters) -> Tensor:
        """Crops, mirrors, flips and blurs a whole batch, pass after pass; x as for `apply`."""
        if x.dtype == torch.uint8:
            x = x.float().div_(255)
        if "top" not in planned:
            return x
        rows, columns = (
            [crop_taps(planned[start], planned[length], x.shape[3], self.size, planned[reverse])]
            for start, length, reverse in CROP
        )
        if "kernel" in planned:
            gauss = blur_taps(planned["kernel"], self.size)
            rows, columns = [*rows, gauss], [*columns, gauss]
        return separable(x, rows, columns)

    def finish(self, x: Tensor, planned: Parameters, out: Tensor | None = None) -> Tensor:
        """Does what follows the resampling: colours, clamp, turn, solarise, cut-out. x (B, C, size, size) float32."""
        if "matrix" in planned:
            x = ops.recolour(x, planned["matrix"], planned["lift"])
        return self._last(torch.clamp(x, 0.0, 1.0, out=out), planned)

    def _last(self, x: Tensor, planned: Parameters) -> Tensor:
        """In place: turn, solarise, cut-out."""
        if "turns" in planned:
            x.copy_(ops.quarter_turns(x, planned["turns"]))
        if "threshold" in planned:
            ops.solarise(x, planned["threshold"], out=x)
        if "hole" in planned:
            x.copy_(ops.cutout(x, planned["hole_top"], planned["hole_left"], planned["hole"], planned["hole"]))
        return x


def draw_views(views: list[View], x: Tensor, generator: torch.Generator) -> list[Tensor]:
    """Draws all parameters, then makes the views. x uint8 (B, C, S, S)."""
    c, side = x.shape[1], x.shape[3]
    planned = [view.plan(to_device(view.draw(len(x), side, generator), x.device), side, c) for view in views]
    outs = [torch.empty(len(x), c, view.size, view.size, device=x.device) for view in views]
    if x.device.type != "cpu":
        x = x.float().div_(255)  # once for all views
    for view, parameters, out in zip(views, planned, outs, strict=True):
        view.apply(x, parameters, out)
    return outs


def of(parameters: Parameters, piece: slice) -> Parameters:
    """Takes those of some samples."""
    return {name: values[piece] for name, values in parameters.items()}


def pieces(x: Tensor, size: int) -> list[slice]:
    """Slices of a batch, small enough for a processor's caches; the whole batch where x is not on a CPU."""
    step = max(1, _CACHED // (x.shape[1] * max(x.shape[3], size) ** 2)) if x.device.type == "cpu" else max(1, len(x))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def to_device(drawn: Parameters, device: torch.device) -> Parameters:
    """Moves drawn parameters without waiting for the device."""
    if device.type == "cpu":
        return drawn
    table = torch.cat([values.flatten() for values in drawn.values()])
    table = (table.pin_memory() if device.type == "cuda" else table).to(device, non_blocking=True)
    parts = torch.split(table, [values.numel() for values in drawn.values()])
    return {name: part.view(values.shape) for (name, values), part in zip(drawn.items(), parts, strict=True)}


def check_number(name: str, value: object, low: float, high: float, meaning: str) -> float:
    """Raises UserError unless `value` is a number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        most = f"between {low:g} and {high:g}" if high < math.inf else f"at least {low:g}"
        raise UserError(f"{name} {value!r} is not possible: {meaning}; give a number {most}")
    return float(value)


def check_range(name: str, value: object, low: float, high: float, meaning: str) -> tuple[float, float]:
    """Raises UserError unless `value` is two numbers, ascending, in [low, high]."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise UserError(f"{name} {value!r} is not a range: {meaning}; give two numbers, the smallest and the largest")
    first, last = (check_number(name, v, low, high, meaning) for v in value)
    if first > last:
        raise UserError(f"{name} {value!r} is upside down: {meaning}; write ({last:g}, {first:g})")
    return first, last
