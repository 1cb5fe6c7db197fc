"""FixMatch's two views: one weakly augmented, whose prediction is believed, and one strongly, which has to agree with it.

The operations of the strong one are PIL's, on pictures of bytes: uint8 (B, C, S, S) and a magnitude (B,) -> uint8 likewise.
Sums are of whole numbers and products are rounded one by one, so that the bits of a picture depend on no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views import ops
from unlabeled.views.resample import CROP
from unlabeled.views.view import Parameters, View, check_number, of, one_thread, pieces, to_device

WHITE, BITS = 255, 8
GREY = 0.5

LUMA = (19595, 38470, 7471)
"""`ops.LUMA` in parts of 65,536, as PIL has it."""


# ---- values ------------------------------------------------------------------------------------------------------------


def identity(x: Tensor, magnitude: Tensor) -> Tensor:
    """Returns the picture as it is."""
    return x


def brightness(x: Tensor, share: Tensor) -> Tensor:
    """Keeps `share` of the picture, the rest black."""
    return _blend(x, torch.zeros_like(x), share)


def color(x: Tensor, share: Tensor) -> Tensor:
    """Keeps `share` of the picture, the rest of it without colours."""
    return _blend(x, _luma(x), share)


def contrast(x: Tensor, share: Tensor) -> Tensor:
    """Keeps `share` of the picture, the rest its mean luma."""
    return _blend(x, _mean(_luma(x), 2, 3), share)


def sharpness(x: Tensor, share: Tensor) -> Tensor:
    """Keeps `share` of the picture, the rest of it smoothed by (1 1 1, 1 5 1, 1 1 1) / 13, but for its outermost pixels."""
    smooth = x.int()
    rows = smooth[:, :, :-2] + smooth[:, :, 1:-1] + smooth[:, :, 2:]
    total = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * smooth[:, :, 1:-1, 1:-1]
    smooth[:, :, 1:-1, 1:-1] = (2 * total + 13) // 26
    return _blend(x, smooth, share)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keeps the first `bits` of each value, of which the fraction is ignored."""
    lost = (BITS - bits.clamp(max=BITS).floor()).to(torch.uint8).view(-1, 1, 1, 1)
    return x >> lost << lost


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Inverts the values at or above `threshold` times 256."""
    return torch.where(x >= (WHITE + 1) * threshold.view(-1, 1, 1, 1), WHITE - x, x)


def autocontrast(x: Tensor, magnitude: Tensor) -> Tensor:
    """Stretches each channel to between 0 and 255; one of a single value stays."""
    planes = x.flatten(2).int()
    low, high = planes.aminmax(dim=2, keepdim=True)
    stretched = (planes - low) * WHITE // (high - low).clamp_(min=1)
    return torch.where(high > low, stretched, planes).to(torch.uint8).view_as(x)


def equalize(x: Tensor, magnitude: Tensor) -> Tensor:
    """Spreads the values of each channel evenly; one with fewer than 255 pixels below its highest value stays."""
    planes = x.flatten(2).long()
    counts = planes.new_zeros(*x.shape[:2], WHITE + 1).scatter_add_(2, planes, torch.ones_like(planes))
    highest = counts.gather(2, planes.amax(2, keepdim=True))
    step = (planes.shape[2] - highest) // WHITE
    spread = (counts.cumsum(2) - counts + step // 2) // step.clamp(min=1)
    table = torch.where(step > 0, spread, torch.arange(WHITE + 1, device=x.device)).clamp_(max=WHITE)
    return table.to(torch.uint8).gather(2, planes).view_as(x)


def _blend(x: Tensor, other: Tensor, share: Tensor) -> Tensor:
    """`share` (B,) of x and the rest of `other`, cut to whole levels; more than all of x is clipped."""
    base = other.float()
    return ((x - base) * share.view(-1, 1, 1, 1) + base).clamp_(0, WHITE).to(torch.uint8)


def _luma(x: Tensor) -> Tensor:
    """(B, 1, S, S) int32; the mean of the channels where they are not three."""
    if x.shape[1] != 3:
        return _mean(x, 1)
    red, green, blue = (x[:, i : i + 1].int() * weight for i, weight in enumerate(LUMA))
    return (red + green + blue + 2**15) >> 16


def _mean(x: Tensor, *axes: int) -> Tensor:
    """Rounded, int64, of axes that stay with one place."""
    total = x.sum(axes, keepdim=True)
    count = x.shape[1:].numel() // total.shape[1:].numel()
    return (2 * total + count) // (2 * count)


# ---- places ------------------------------------------------------------------------------------------------------------


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Rotates counter-clockwise about the middle."""
    angle = torch.deg2rad(degrees).view(-1, 1, 1)
    across, down, half = *_middles(x), x.shape[3] / 2
    cos, sin, across, down = torch.cos(angle), torch.sin(angle), across - half, down - half
    return _nearest(x, cos * across - sin * down + half, sin * across + cos * down + half)


def shear_x(x: Tensor, rate: Tensor) -> Tensor:
    """Moves row y to the left by `rate` y."""
    across, down = _middles(x)
    return _nearest(x, across + rate.view(-1, 1, 1) * down, down)


def shear_y(x: Tensor, rate: Tensor) -> Tensor:
    """Moves column x up by `rate` x."""
    across, down = _middles(x)
    return _nearest(x, across, down + rate.view(-1, 1, 1) * across)


def translate_x(x: Tensor, share: Tensor) -> Tensor:
    """Moves to the left by `share` of the side."""
    across, down = _middles(x)
    return _nearest(x, across + share.view(-1, 1, 1) * x.shape[3], down)


def translate_y(x: Tensor, share: Tensor) -> Tensor:
    """Moves up by `share` of the side."""
    across, down = _middles(x)
    return _nearest(x, across, down + share.view(-1, 1, 1) * x.shape[3])


def _middles(x: Tensor) -> tuple[Tensor, Tensor]:
    """Of columns (1, 1, S) and of rows (1, S, 1), in pixels."""
    middles = torch.arange(0.5, x.shape[3], device=x.device)
    return middles.view(1, 1, -1), middles.view(1, -1, 1)


def _nearest(x: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """The pixels within which the positions (B, S, S) lie; outside is black."""
    side = x.shape[3]
    inside = (across >= 0) & (across < side) & (down >= 0) & (down < side)
    return _pick(x, down.floor().clamp_(0, side - 1), across.floor().clamp_(0, side - 1)) * inside.unsqueeze(1)


def _pick(x: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """out[b, c, i, j] = x[b, c, row[b, i, j], column[b, i, j]]."""
    place = (row * x.shape[3] + column).long().flatten(1).unsqueeze(1)
    return x.flatten(2).gather(2, place.expand(-1, x.shape[1], -1)).view_as(x)


def shifted(x: Tensor, mirror: Tensor, shift: Tensor) -> Tensor:
    """Mirrors left-right where `mirror` (B,) is 1, then moves by `shift` (B, 2) whole pixels up and to the left; what lies
    outside is reflected, without the outermost pixel. No shift may be as long as the side, unless that is 1 and the shift 0.
    """
    last = x.shape[3] - 1
    place = torch.arange(last + 1, device=x.device) + shift.unsqueeze(2)  # (B, 2, S)
    row, column = (last - (last - place.abs()).abs()).unbind(1)
    column = torch.where(mirror.view(-1, 1) > 0, last - column, column)
    return _pick(x, row.unsqueeze(2), column.unsqueeze(1))


# ---- the policy --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of table 12.

    Attributes:
        apply: to pictures, with magnitudes.
        low: the least magnitude.
        high: the greatest.
        changes: what it changes, which must not matter: places and sharpness, which never do in these amounts; intensity;
            the balance of channels, each of which is judged by itself; colour.
    """

    apply: Callable[[Tensor, Tensor], Tensor]
    low: float = 0.0
    high: float = 0.0
    changes: Literal["little", "intensity", "balance", "colour"] = "little"

    def fits(self, shape: DataShape) -> bool:
        """Tells whether the data's invariances and channels allow it."""
        colour = "colour" in shape.invariances
        intensity = colour or "intensity" in shape.invariances
        return {
            "little": True,
            "intensity": intensity,
            "balance": colour or (intensity and shape.channels == 1),
            "colour": colour and shape.channels == 3,
        }[self.changes]


OPERATIONS = {
    "autocontrast": Operation(autocontrast, changes="balance"),
    "brightness": Operation(brightness, 0.05, 0.95, "intensity"),
    "color": Operation(color, 0.05, 0.95, "colour"),
    "contrast": Operation(contrast, 0.05, 0.95, "intensity"),
    "equalize": Operation(equalize, changes="balance"),
    "identity": Operation(identity),
    "posterize": Operation(posterize, 4, 9, "intensity"),  # 4 to 8 bits, alike
    "rotate": Operation(rotate, -30, 30),
    "sharpness": Operation(sharpness, 0.05, 0.95),
    "shear_x": Operation(shear_x, -0.3, 0.3),
    "shear_y": Operation(shear_y, -0.3, 0.3),
    "solarize": Operation(solarize, 0, 1, "intensity"),
    "translate_x": Operation(translate_x, -0.3, 0.3),
    "translate_y": Operation(translate_y, -0.3, 0.3),
}
"""RandAugment's, and the ranges from which their magnitudes are drawn (table 12)."""


@dataclass(frozen=True, slots=True)
class RandAugment:
    """`n` operations on a picture, each any of the pool alike with a magnitude from its range (Cubuk et al. 2020, with the
    random magnitudes of FixMatch's appendix).

    Attributes:
        pool: operations by name.
        n: how many, drawn with replacement.
    """

    pool: Mapping[str, Operation]
    n: int

    @classmethod
    def within(cls, shape: DataShape, n: int) -> RandAugment:
        """Returns that of the operations which the data's invariances and channels allow.

        Raises:
            UserError: n out of range.
        """
        if int(check_number("n", n, 0, 16, "it is the number of operations")) != n:
            raise UserError(f"n {n!r} is not a whole number; give one")
        return cls({name: operation for name, operation in OPERATIONS.items() if operation.fits(shape)}, int(n))

    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        """Draws parameters of `count` pictures, on the CPU: "operation" (count, n) int64, places in the pool; "magnitude"
        (count, n)."""
        layers = torch.rand(self.n, 2, count, generator=generator)
        operation = (layers[:, 0].T * len(self.pool)).long()
        low, high = (torch.tensor([getattr(o, end) for o in self.pool.values()])[operation] for end in ("low", "high"))
        return {"operation": operation, "magnitude": low + (high - low) * layers[:, 1].T}

    def apply(self, x: Tensor, drawn: Parameters) -> Tensor:
        """Maps x, uint8 (B, C, S, S), on any device, likewise; what was drawn is on the CPU."""
        for operation, magnitude in zip(drawn["operation"].unbind(1), drawn["magnitude"].unbind(1), strict=True):
            x = self._layer(x, operation, magnitude)
        return x

    def _layer(self, x: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
        """One operation on each picture, (B,) places in the pool and magnitudes on the CPU: those of the same at once."""
        order = operation.argsort(stable=True)
        counts = operation.bincount(minlength=len(self.pool)).tolist()
        moved = to_device({"order": order.float(), "magnitude": magnitude[order]}, x.device)
        rows, magnitudes = torch.split(moved["order"].long(), counts), torch.split(moved["magnitude"], counts)
        out = torch.empty_like(x)
        for each, mine, strengths in zip(self.pool.values(), rows, magnitudes, strict=True):
            if len(mine):
                out[mine] = each.apply(x[mine], strengths)
        return out


@register("weak-strong")
class WeakStrong:
    """A weak view and a strong one (FixMatch, Sohn et al. 2020, section 2.3): `[weak, strong]`.

    Weak: mirrored with probability 0.5 and moved by up to 12.5% of the side, by whole pixels; the border is filled by
    reflection, which is the published code's choice. Strong: another such view, drawn by itself, as in the published code;
    then `n` operations, each any of `OPERATIONS` alike with a magnitude from its range; then a grey square.

    The published code differs from the paper, which is followed: it applies each operation with probability 0.5; magnitudes
    are nine levels, none the greatest; posterize leaves 1 to 4 bits; the shares of brightness, color, contrast and
    sharpness are 0.28 to 1.72; translations are up to 9 pixels. For the rest, operations are as PIL's are by default: they
    take the nearest pixel, shears leave the upper left corner in place, and what comes from outside is black. (In the
    published code it turns grey, but for a later autocontrast, equalize, posterize or solarize.)

    Mirror and operations on values are left out where the data does not allow them: brightness, contrast, posterize and
    solarize need `colour` or `intensity`; autocontrast and equalize, which change channels one by one, `colour`, or
    `intensity` and a single channel; color needs `colour` and three channels. The others are drawn the more often.

    Pictures of another size than the views are resized first, whole.
    """

    def __init__(
        self, shape: DataShape, *, mirror: float = 0.5, translate: float = 0.125, n: int = 2, cutout: float = 0.5
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its invariances switch off what would change the meaning of a picture.
            mirror: probability of a left-right reflection, where the data allows it (section 2.3).
            translate: largest shift either way, down and right independently, as a fraction of the side (section 2.3).
            n: operations of the strong view, drawn with replacement; 2 in the published code (`ra` and `rac`).
            cutout: side of the strong view's grey square, whose middle is anywhere, as a fraction of the side; the
                published code's is 16 of CIFAR-10's 32 pixels, DeVries & Taylor 2017's too. 0 is none.

        Raises:
            UserError: a value out of range.
        """
        mirror = check_number("mirror", mirror, 0.0, 1.0, "it is a probability")
        self.size, self.mirror = shape.size, mirror if "mirror" in shape.invariances else 0.0
        self.translate = check_number("translate", translate, 0.0, 0.5, "it is a fraction of the side, reflected once")
        self.random = RandAugment.within(shape, n)
        self.cutout = check_number("cutout", cutout, 0.0, 1.0, "it is a fraction of the side")

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> weak and strong, float32 (B, C, size, size) in [0, 1]; no targets."""
        pictures = self.resized(fields["image"])
        drawn = self.draw(len(pictures), generator)
        weak, strong = (torch.empty(pictures.shape, device=pictures.device) for _ in range(2))
        for piece in pieces(pictures, self.size):
            self.apply(pictures[piece], of(drawn, piece), weak[piece], strong[piece])
        return [weak, strong], {}

    def resized(self, x: Tensor) -> Tensor:
        """Resizes uint8 (B, C, S, S) -> uint8 (B, C, size, size), antialiased."""
        if x.shape[3] == self.size:
            return x
        whole, none = torch.full((len(x),), float(x.shape[3]), device=x.device), torch.zeros(len(x), device=x.device)
        crop = {name: values for axis in CROP for name, values in zip(axis, (none, whole, none), strict=True)}
        return View(self.size).apply(x, crop).mul_(WHITE).round_().to(torch.uint8)

    @one_thread()
    def draw(self, count: int, generator: torch.Generator) -> Parameters:
        """Draws parameters of `count` samples, on the CPU: "mirror" (count, 2) and "shift" (count, 2, 2), of weak and
        strong; "hole" (count, 2); "operation" (count, n) int64, places in the pool; "magnitude" (count, n).

        The same numbers are taken from the generator whatever is switched off; `n` only adds some at the end.
        """
        u = torch.rand(count, 8, generator=generator)
        most = int(self.translate * self.size)
        return {
            "mirror": (u[:, :2] < self.mirror).float(),
            "shift": (u[:, 2:6] * (2 * most + 1)).floor().view(-1, 2, 2) - most,
            "hole": (u[:, 6:] * self.size).floor() - self._hole // 2,
            **self.random.draw(count, generator),
        }

    @one_thread()
    def apply(self, x: Tensor, drawn: Parameters, weak: Tensor, strong: Tensor) -> None:
        """Writes the views of x, uint8 (B, C, size, size), to `weak` and `strong`; what was drawn is on the CPU.

        A processor does it by one thread: the pictures of one operation are too few to be shared.
        """
        moved = to_device({name: drawn[name] for name in ("mirror", "shift", "hole")}, x.device)
        first, second = (shifted(x, moved["mirror"][:, view], moved["shift"][:, view]) for view in range(2))
        torch.div(first, WHITE, out=weak)
        torch.div(self.random.apply(second, drawn), WHITE, out=strong)
        if self._hole:
            (top, left), side = moved["hole"].unbind(1), torch.full((len(x),), float(self._hole), device=x.device)
            strong.copy_(ops.cutout(strong, top, left, side, side, GREY))

    @property
    def _hole(self) -> int:
        return round(self.cutout * self.size)
