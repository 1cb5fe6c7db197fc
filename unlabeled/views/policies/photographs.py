"""The papers' policies, each found by its name: `unlabeled views DATA --policy NAME` draws what it makes."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.errors import UserError
from unlabeled.registry import register
from unlabeled.views.view import RATIO, View, check_number, draw_views

BLUR_FROM = 64
"""Smallest side that is blurred unless asked: SimCLR leaves blur out on CIFAR-10's 32 pixels (appendix B.9)."""

_JITTER = 0.8


class Composition:
    """Views that are drawn independently, each from its own `View`."""

    distorts_whole: ClassVar[bool] = False
    """Whether each view is of a whole picture and of the same size, so that another way to distort one may stand there."""

    def __init__(self, *views: View) -> None:
        self.parts = list(views)

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """`image` uint8 (B, C, S, S) -> one float32 (B, C, size, size) in [0, 1] per view; no targets."""
        x = fields["image"]
        return draw_views(self.parts, x, generator), {}


@register("simclr", says="Two views from one distribution: small random crops, mirror, strong colour jitter, grey, blur.")
@register(
    "moco-v1", scale=(0.2, 1.0), strength=0.5, jitter=1.0, hue=0.8, blur=0.0,
    says="Two views from one distribution: random crops, mirror, colour jitter always, grey; no blur (He et al. 2020).",
)  # fmt: skip
@register(
    "instance", views=1, scale=(0.2, 1.0), strength=0.5, jitter=1.0, hue=0.8, blur=0.0,
    says="One view as `moco-v1` draws it, for instance discrimination with a memory bank (Wu et al. 2018).",
)  # fmt: skip
@register(
    "moco-v2", scale=(0.2, 1.0), strength=0.5,
    says="Two views from one distribution: larger crops and half of SimCLR's jitter, grey, blur (Chen et al. 2020).",
)  # fmt: skip
@register(
    "multi-patch", views=20, scale=(0.25, 0.25), strength=0.5, hue=0.4, blur=0.1, solarise=0.1,
    says="Twenty views of a quarter of each image, for EMP-SSL (Tong et al. 2023).",
)  # fmt: skip
class Distorted(Composition):
    """Two views, or another number, from one distribution: random resized crop, mirror, colour jitter, grey, blur.

    - `simclr` (Chen et al. 2020, appendix A): crops of 8 to 100% of the area, jitter with probability 0.8 and 0.8 s, 0.8 s,
      0.8 s, 0.2 s, grey 0.2, blur 0.5 with sigma 0.1 to 2. Its appendix B.9 takes s = 0.5 and no blur for CIFAR-10.
    - `moco-v1` (He et al. 2020, section 3.3, "Technical details", after Wu et al. 2018): crops, jitter, grey and mirror; the
      numbers are those of the published code: crops from 20% of the area, jitter always with 0.4, 0.4, 0.4, 0.4, grey 0.2.
    - `instance` (Wu et al. 2018): one such view, for instance discrimination with a memory bank.
    - `moco-v2` (Chen, Fan et al. 2020, section 3): adds SimCLR's blur and colour distortion, with the published code's
      numbers: crops from 20%, jitter with probability 0.8 and 0.4, 0.4, 0.4, 0.1 (SimCLR's at s = 0.5), grey 0.2.
    - `multi-patch` (Tong et al. 2023, EMP-SSL, published code): 20 patches of 25% of the area, jitter with probability 0.8
      and 0.4, 0.4, 0.4, 0.2, grey 0.2, blur 0.1, solarisation 0.1. There they are square.
    """

    distorts_whole = True

    def __init__(
        self,
        shape: DataShape,
        *,
        views: int = 2,
        scale: tuple[float, float] = (0.08, 1.0),
        mirror: float = 0.5,
        flip: float = 0.0,
        turn: float = 0.0,
        strength: float = 1.0,
        jitter: float = _JITTER,
        brightness: float = 0.8,
        contrast: float = 0.8,
        saturation: float = 0.8,
        hue: float = 0.2,
        grey: float = 0.2,
        blur: float | None = None,
        sigma: tuple[float, float] = (0.1, 2.0),
        solarise: float = 0.0,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its invariances switch off what would change the meaning of a picture.
            views: number of views of each picture.
            scale: least and largest area of the crop, as fractions of the picture.
            mirror: probability of a left-right reflection, where the data allows it.
            flip: probability of a top-bottom reflection; needs the invariance "flip".
            turn: probability of a turn by 90, 180 or 270 degrees; needs the invariance "rotation".
            strength: multiplies brightness, contrast, saturation and hue; SimCLR's s.
            jitter: probability that brightness, contrast, saturation and hue change at all.
            brightness: times strength: half-width of the range of factors about 1.
            contrast: times strength: likewise.
            saturation: times strength: likewise.
            hue: times strength: largest rotation of the colours either way, in turns.
            grey: probability of losing the colour.
            blur: probability of a Gaussian blur; none given: 0.5, and 0 for views under 64 pixels.
            sigma: least and largest standard deviation of the blur, in pixels.
            solarise: probability that the bright half of the values is inverted.

        Raises:
            UserError: a value out of range, or not allowed by the data's invariances.
        """
        check_number("views", views, 1, 64, "it is the number of views")
        s = check_number("strength", strength, 0.0, 2.5, "it multiplies the colour jitter")
        check_number("hue", hue, 0.0, 0.5 / max(s, 1e-3), "times strength it is in turns of the colour circle")
        blur = _blur(blur, 0.5, shape)
        view = View(
            shape.size, scale, RATIO, mirror=mirror, flip=flip, turn=turn, jitter=jitter,
            brightness=s * brightness, contrast=s * contrast, saturation=s * saturation, hue=s * hue,
            grey=grey, blur=blur, sigma=sigma, solarise=solarise,
        ).within(shape)  # fmt: skip
        super().__init__(*[view] * int(views))


@register("byol")
class Byol(Composition):
    """Two views from two distributions that differ in blur and solarisation (Grill et al. 2020, appendix B, table 6).

    Crops of 8 to 100% of the area, mirror 0.5, jitter with probability 0.8 and 0.4, 0.4, 0.2, 0.1, grey 0.2; blur 1.0 and
    0.1 with sigma 0.1 to 2, solarisation 0 and 0.2. Under 64 pixels neither is blurred, as in SimCLR's appendix B.9.
    """

    distorts_whole = True

    def __init__(
        self,
        shape: DataShape,
        *,
        scale: tuple[float, float] = (0.08, 1.0),
        mirror: float = 0.5,
        flip: float = 0.0,
        turn: float = 0.0,
        jitter: float = _JITTER,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.2,
        hue: float = 0.1,
        grey: float = 0.2,
        blur: float | None = None,
        blur_second: float | None = None,
        sigma: tuple[float, float] = (0.1, 2.0),
        solarise: float = 0.0,
        solarise_second: float = 0.2,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its invariances switch off what would change the meaning of a picture.
            scale: least and largest area of the crop, as fractions of the picture.
            mirror: probability of a left-right reflection, where the data allows it.
            flip: probability of a top-bottom reflection; needs the invariance "flip".
            turn: probability of a turn by 90, 180 or 270 degrees; needs the invariance "rotation".
            jitter: probability that brightness, contrast, saturation and hue change at all.
            brightness: half-width of the range of factors about 1.
            contrast: half-width of the range of factors about 1.
            saturation: half-width of the range of factors about 1.
            hue: largest rotation of the colours either way, in turns.
            grey: probability of losing the colour.
            blur: probability that the first view is blurred; none given: 1, and 0 for views under 64 pixels.
            blur_second: probability that the second view is blurred; none given: 0.1, and 0 for views under 64 pixels.
            sigma: least and largest standard deviation of the blur, in pixels.
            solarise: probability that the first view is solarised.
            solarise_second: probability that the second view is solarised.

        Raises:
            UserError: a value out of range, or not allowed by the data's invariances.
        """

        def view(blur: float, solarise: float) -> View:
            return View(
                shape.size, scale, RATIO, mirror=mirror, flip=flip, turn=turn, jitter=jitter, brightness=brightness,
                contrast=contrast, saturation=saturation, hue=hue, grey=grey, blur=blur, sigma=sigma, solarise=solarise,
            ).within(shape)  # fmt: skip

        super().__init__(view(_blur(blur, 1.0, shape), solarise), view(_blur(blur_second, 0.1, shape), solarise_second))


@register("multi-crop")
class MultiCrop(Composition):
    """A few large and several small views (SwAV, Caron et al. 2020, section 3.2): cheap comparisons of parts with wholes.

    Appendix A: 2 crops of 224 with 14 to 100% of the area and 6 of 96 with 5 to 14%, SimCLR's distortion at s = 1, blur 0.5.
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        large: int = 2,
        small: int = 6,
        small_size: int | None = None,
        scale: tuple[float, float] = (0.14, 1.0),
        small_scale: tuple[float, float] = (0.05, 0.14),
        mirror: float = 0.5,
        flip: float = 0.0,
        turn: float = 0.0,
        strength: float = 1.0,
        jitter: float = _JITTER,
        grey: float = 0.2,
        blur: float | None = None,
        sigma: tuple[float, float] = (0.1, 2.0),
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data; its size is that of the large views.
            large: number of large views, at least 1; they come first.
            small: number of small views.
            small_size: side of the small views; none given: 3/7 of the large ones', as 96 is of 224.
            scale: least and largest area of the large crops, as fractions of the picture.
            small_scale: least and largest area of the small crops, likewise.
            mirror: probability of a left-right reflection, where the data allows it.
            flip: probability of a top-bottom reflection; needs the invariance "flip".
            turn: probability of a turn by 90, 180 or 270 degrees; needs the invariance "rotation".
            strength: SimCLR's s: brightness, contrast and saturation change by 0.8 s, hue by 0.2 s.
            jitter: probability that brightness, contrast, saturation and hue change at all.
            grey: probability of losing the colour.
            blur: probability of a Gaussian blur; none given: 0.5, and 0 where the large views are under 64 pixels.
            sigma: least and largest standard deviation of the blur, in pixels.

        Raises:
            UserError: a value out of range, or not allowed by the data's invariances.
        """
        check_number("large", large, 1, 64, "it is the number of large views")
        check_number("small", small, 0, 64, "it is the number of small views")
        if small_size is None:
            small_size = max(1, round(shape.size * 3 / 7))
        check_number("small_size", small_size, 1, shape.size, "it is the side of the small views")
        for name, value in (("large", large), ("small", small), ("small_size", small_size)):
            if value != int(value):
                raise UserError(f"{name} {value!r} is not a whole number; give one")
        s = check_number("strength", strength, 0.0, 2.5, "it multiplies the colour jitter")
        blur = _blur(blur, 0.5, shape)

        def view(size: int, scale: tuple[float, float]) -> View:
            return View(
                size, scale, RATIO, mirror=mirror, flip=flip, turn=turn, jitter=jitter, brightness=0.8 * s, contrast=0.8 * s,
                saturation=0.8 * s, hue=0.2 * s, grey=grey, blur=blur, sigma=sigma,
            ).within(shape)  # fmt: skip

        super().__init__(*[view(shape.size, scale)] * large, *[view(int(small_size), small_scale)] * small)


@register("crop")
class Crop(Composition):
    """One mildly changed view, for training with labels: shifted by an eighth of the side and mirrored.

    Padding 4 of 32 pixels, a random crop and a mirror are those of He et al. 2016, section 4.2 ("CIFAR-10 and Analysis").
    """

    def __init__(
        self,
        shape: DataShape,
        *,
        views: int = 1,
        pad: float = 0.125,
        scale: tuple[float, float] = (1.0, 1.0),
        mirror: float = 0.5,
        flip: float = 0.0,
        turn: float = 0.0,
        cutout: float = 0.0,
    ) -> None:
        """Checks the options against the data.

        Args:
            shape: of the data.
            views: number of views of each picture.
            pad: largest shift either way, as a fraction of the side; what lies outside the picture is black.
            scale: least and largest area of the crop as fractions of the picture; (0.08, 1) with pad 0 is Inception's.
            mirror: probability of a left-right reflection, where the data allows it.
            flip: probability of a top-bottom reflection; needs the invariance "flip".
            turn: probability of a turn by 90, 180 or 270 degrees; needs the invariance "rotation".
            cutout: side of a black square at a random place, as a fraction of the side (DeVries & Taylor 2017: 0.5).

        Raises:
            UserError: a value out of range, or not allowed by the data's invariances.
        """
        check_number("views", views, 1, 64, "it is the number of views")
        ratio = (1.0, 1.0) if scale == (1.0, 1.0) else RATIO
        view = View(shape.size, scale, ratio, pad, mirror=mirror, flip=flip, turn=turn, cutout=cutout).within(shape)
        super().__init__(*[view] * int(views))


def _blur(asked: float | None, paper: float, shape: DataShape) -> float:
    """The probability asked for, or else the paper's, or 0 for small views."""
    return asked if asked is not None else paper if shape.size >= BLUR_FROM else 0.0
