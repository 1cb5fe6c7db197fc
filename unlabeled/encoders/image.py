"""timm's backbones and our own small one, fitted to small images and to any number of channels."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlabeled.data.kinds.fit import Fit, fitted, resized
from unlabeled.encoders import resnet9 as _registers  # noqa: F401
from unlabeled.encoders.encoder import Encoder, in_range
from unlabeled.encoders.lab import Lab, Lightness
from unlabeled.encoders.own import build_own, is_own
from unlabeled.errors import UnknownNameError, UserError
from unlabeled.parts.patches import SMALL, patch_side
from unlabeled.recipe import WEIGHTS
from unlabeled.registry import Choice, coerce, nearest

WIDTH_OF_RESNET = 64  # channels of the first stage (He et al. 2016, table 1)
VITS = ("vision_transformer", "deit")  # files of timm
STEMS = ("small", "large", "auto")
PAPERS = 224
"""Side in pixels of the images that ResNets were made for (He et al. 2016, §3.4)."""


SMALLER = 0.75  # of the side; ours


class ImageFront(nn.Module):
    """Images (B, C, H, W), uint8 or float in [0, 1], to normalised ones; in evaluation mode made squares of one size before,
    in the way in which files are read.

    Attributes:
        channels: C.
        size: side of the images that the encoder was trained on, in pixels.
        eval_size: side at which it judges images, in pixels.
        tta: 1: the image alone; 2: its mirror image too; 4: both in three quarters of the size too.
    """

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)
    follows_mode = True

    def __init__(self, size: int, eval_size: int, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.kind = Choice("image", {"size": size, "eval_size": eval_size})
        self.channels, self.size, self.eval_size, self.tta = len(mean), size, eval_size, 1
        self.register_buffer("mean", mean.float().view(-1, 1, 1))
        self.register_buffer("std", std.float().clamp_min(1e-3).view(-1, 1, 1))

    @property
    def fit(self) -> Fit:
        """What becomes of images that are not square, as its kind says; where that says nothing, they are squashed."""
        return self.kind.options.get("fit") or "stretch"

    def forward(self, x: Tensor) -> Tensor:
        """Maps (B, C, H, W) to (B, C, H, W); in evaluation mode to (B, C, eval_size, eval_size).

        Raises:
            UserError: not four dimensions, another number of channels, or, in evaluation mode, values of another range.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise UserError(
                f"this encoder takes images of shape (B, {self.channels}, H, W), and got {tuple(x.shape)}: "
                "convert them, or train an encoder on such images"
            )
        x = in_range(x, torch.uint8, 255, 0.0, "images", check=not self.training)
        as_it_is = self.training or x.shape[-2:] == (self.eval_size, self.eval_size)
        return ((x if as_it_is else fitted(x, self.eval_size, self.fit)) - self.mean) / self.std

    def others(self, x: Tensor) -> list[Tensor]:
        """Returns the mirror image; and both smaller."""
        others = [x.flip(3)]
        if self.tta == 4:
            small = resized(x, *2 * (smaller(self.eval_size),))
            others += [small, small.flip(3)]
        return others

    def check(self, backbone: nn.Module, views: Sequence[Tensor] = ()) -> None:
        """Checks whether the backbone takes the smaller images, and views (..., C, S, S) of their sides."""
        name, sides = type(backbone).__name__, {x.shape[-1] for x in views if x.ndim >= 4 and x.shape[-3] == self.channels}
        if self.tta == 4:
            small = {smaller(self.eval_size)}
            dimension(backbone, name, self.channels, small, "give --tta 2, or another --kind.eval-size or encoder")
        if sides:
            dimension(backbone, name, self.channels, sides, "give larger --views, a larger --image-size, or another encoder")


def build_encoder(
    choice: Choice, channels: int, size: int, mean: Tensor, std: Tensor, eval_size: int | None = None
) -> Encoder:
    """Builds the untrained backbone that `choice` names, of timm's catalogue (with our `resnet9` in it), without its
    classifier.

    Options: `width`, for ResNets, is the number of channels of the first stage (64 in the paper); `stem`, likewise, is
    `large` for the paper's (a 7×7 convolution of stride 2 and max-pool), `small` for one 3×3 convolution of stride 1 without
    max-pool (SimCLR, appendix B.9), `auto` for what `stem` chooses; left out, small up to 64 px; `streams` is
    `lab` for two such backbones, one for lightness and one for colour (`unlabeled.encoders.lab`), or `lightness` for one
    that sees lightness alone; all others go to timm.

    Args:
        choice: name and options.
        channels: of the images.
        size: side of the images in pixels; up to 64, a ViT's patches shrink so that there are 8×8 of them.
        mean: (C,), of the training images in [0, 1].
        std: (C,), likewise.
        eval_size: side at which images are judged after training; None: `size`.

    Raises:
        UserError: an unknown name or option, or images of a size that the network cannot take.
    """
    streams = choice.options.get("streams")
    if is_own(choice.name):
        blanks = [torch.zeros(1, channels, side, side) for side in {size, eval_size or size}]
        return Encoder(ImageFront(size, eval_size or size, mean, std), *build_own(choice, channels, blanks))
    if streams in (None, "none"):
        backbone, dim, notes = _build(choice, channels, size, eval_size or size)
        return Encoder(ImageFront(size, eval_size or size, mean, std), backbone, dim, notes)
    if streams not in ("lab", "lightness"):
        raise UserError(f"encoder option streams is {streams!r}, and must be 'lab', 'lightness' or 'none'")
    if channels != 3:
        raise UserError(
            f"encoder option streams {streams!r} needs images of 3 channels (RGB), and these have {channels}: "
            "give images in colour, or --encoder.streams none with a method that needs no colours"
        )
    lightness, half, notes = _build(choice, 1, size, eval_size or size)
    front = ImageFront(size, eval_size or size, torch.zeros(3), torch.ones(3))  # streams normalise in their own colour space
    if streams == "lightness":
        return Encoder(front, Lightness(lightness), half, [*notes, "one stream: it sees the lightness L, and no colours"])
    colour, other, _ = _build(choice, 2, size, eval_size or size)
    notes = [*notes, "two streams: one of the lightness L, one of the colours a and b"]
    return Encoder(front, Lab(lightness, colour), half + other, notes)


def _build(choice: Choice, channels: int, size: int, eval_size: int) -> tuple[Any, int, list[str]]:
    """One backbone, the length of its representation, and what was changed in it."""
    options, notes = timm_options(choice, size), []
    resnet, width = _family(choice.name) == "resnet", _width(choice)
    if _family(choice.name) in VITS and size <= SMALL and "patch_size" not in choice.options:
        notes.append(f"small images ({size} px): patches of {options['patch_size']} px")
    backbone = _create(choice.name, options, channels)
    small = resnet and stem(choice, channels, size) == "small"
    if resnet:
        _set_stem(backbone, small, channels, width)
    if small:
        notes.append("the stem is one 3×3 convolution of stride 1, without max-pool")
    if _family(choice.name) == "resnet9":
        if size > SMALL:
            notes.append(f"made for images up to {SMALL} px: at {size} px it sees only a small part of them at once")
    elif size <= SMALL and not resnet and not notes and "patch_size" not in choice.options:
        notes.append(f"small images ({size} px), but its stem stays as it is for large ones: a ResNet may learn more")
    for part in backbone.modules():
        if type(part) is nn.Conv2d and _halves(part):
            part.register_forward_pre_hook(_never_one_pixel)
    return backbone, dimension(backbone, choice.name, channels, {size, eval_size}), notes


def _set_stem(backbone: Any, small: bool, channels: int, width: int) -> None:
    """Replaces a ResNet's stem in place, where timm makes another."""
    if not small and width == WIDTH_OF_RESNET:
        return
    kernel, stride = (3, 1) if small else (7, 2)
    backbone.conv1 = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
    if small:
        backbone.maxpool = nn.Identity()


def stem(choice: Choice, channels: int, size: int) -> str:
    """Returns a ResNet's stem, `small` or `large`, for images of that side.

    The small one keeps all that small images show, at some 15 times the work. `auto` takes it as long as an image is no more
    work with it than one of 224 px with the large one, which the network was made for: up to 56 px. Where nothing is said,
    as of encoders of earlier versions, it is the small one up to 64 px.

    Args:
        choice: name and options.
        channels: of the images.
        size: side of the images in pixels.

    Raises:
        UserError: an unknown name, another word, or an encoder that has none.
    """
    asked = choice.options.get("stem", _usual_stem(size))
    if asked not in STEMS:
        raise UserError(f"encoder option stem is {asked!r}, and must be one of {', '.join(STEMS)}")
    if asked != "auto":
        return str(asked)
    return "small" if work(choice, "small", channels, size) <= work(choice, "large", channels, PAPERS) else "large"


def with_stem(choice: Choice, channels: int, size: int) -> Choice:
    """Returns an encoder with its stem chosen, where it is a ResNet that leaves it open; see `stem`."""
    if _family(choice.name) != "resnet" or choice.options.get("stem", "auto") != "auto":
        return choice
    given = {name: value for name, value in choice.options.items() if name != "stem"}
    chosen = stem(Choice(choice.name, {**given, "stem": "auto"}), channels, size)
    said = "stem" in choice.options or chosen != _usual_stem(size)
    return Choice(choice.name, {**given, "stem": chosen} if said else given)


def _usual_stem(size: int) -> str:
    return "small" if size <= SMALL else "large"


def price(choice: Choice, channels: int, size: int) -> list[str]:
    """Says what a ResNet's stem costs beside the other, in a line; none of other encoders."""
    if _family(choice.name) != "resnet":
        return []
    small, large = (work(choice, each, channels, size) for each in ("small", "large"))
    if not small or not large:
        return []
    if stem(choice, channels, size) == "small":
        return [f"small stem at {size} px: {small / large:.0f} times the work of the large one (--encoder.stem large)"]
    times = f"{small / large:.0f} times the work"
    return [f"large stem at {size} px: the small one, which keeps more, is {times} (--encoder.stem small)"]


def work(choice: Choice, stem: str, channels: int, size: int) -> int:
    """Counts the multiply-adds of a ResNet's convolutions for one image of that side, without computing them; 0 where it
    does not take such."""
    options = {k: v for k, v in choice.options.items() if k not in ("stem", "streams")}
    return _work(choice.name, tuple(sorted(options.items())), stem, channels, size)


@cache
def _work(name: str, options: tuple[tuple[str, Any], ...], stem: str, channels: int, size: int) -> int:
    choice, counted = Choice(name, dict(options)), 0

    def count(conv: Any, inputs: Any, output: Tensor) -> None:
        nonlocal counted
        counted += output.numel() * conv.weight[0].numel()

    with torch.device("meta"), torch.random.fork_rng(devices=[]), torch.no_grad():
        backbone = _create(name, timm_options(choice, size), channels).eval()
        _set_stem(backbone, stem == "small", channels, _width(choice))
        for part in backbone.modules():
            if isinstance(part, nn.Conv2d):
                part.register_forward_hook(count)
        try:
            backbone(torch.zeros(1, channels, size, size))
        except (AssertionError, RuntimeError, ValueError):
            return 0
    return counted


def timm_options(choice: Choice, size: int) -> dict[str, Any]:
    """Returns what `timm.create_model` is asked for, beside `num_classes=0` and `in_chans`, for the backbone that `choice`
    names.

    A ResNet's `conv1` and `maxpool` are then replaced where `build_encoder` says so.

    Args:
        choice: name and options.
        size: side of the images in pixels.

    Raises:
        UserError: an unknown name, or a width that cannot be.
    """
    left_out = ("width", "stem", "streams", WEIGHTS)  # weights of an earlier version's run come with its encoder
    options = {k: v for k, v in choice.options.items() if k not in left_out}
    family, width = _family(choice.name), _width(choice)
    if family == "resnet":
        options.setdefault("zero_init_last", False)  # an untrained encoder is a baseline: its blocks must not be identities
        if width != WIDTH_OF_RESNET:
            options |= {
                "channels": tuple(width * 2**i for i in range(4)),
                "stem_type": "deep",
                "stem_width": max(1, width // 2),
            }
    if family == "resnet9":
        options["width"] = width
    if family in VITS:
        options = {"img_size": size, "dynamic_img_size": True, "dynamic_img_pad": True} | options
        if size <= SMALL:
            options.setdefault("patch_size", patch_side(size))
    return options


def _family(name: str) -> str:
    return "own" if is_own(name) else _of_timm(name)


@cache
def _of_timm(name: str) -> str:
    known = timm.list_models()
    if name not in known:
        raise UnknownNameError(f"unknown encoder {name!r}{nearest(name, known)}; any network of timm will do")
    module: str = timm.models.model_entrypoint(name).__module__
    return module.rpartition(".")[2]


def _width(choice: Choice) -> int:
    if "stem" in choice.options and _family(choice.name) != "resnet":
        raise UserError(f"encoder {choice.name!r} has no option 'stem': only ResNets have; leave it out")
    width = coerce(choice.options.get("width", WIDTH_OF_RESNET), int, "encoder option width")
    if width < 2 or width % 2:
        raise UserError(f"encoder option width is {width}, and must be an even number of channels from 2 on")
    if "width" in choice.options and _family(choice.name) not in ("resnet", "resnet9"):
        raise UserError(f"encoder {choice.name!r} has no option 'width': only ResNets have; choose another name of timm")
    return int(width)


def _create(name: str, options: dict[str, Any], channels: int) -> Any:
    if isinstance(options.get("norm_layer"), str):
        options = options | {"norm_layer": _norm(options["norm_layer"])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return timm.create_model(name, pretrained=False, num_classes=0, in_chans=channels, **options)
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            strange = [o for o in options if f"'{o}'" in str(error)]
            if not strange:
                raise UserError(f"encoder {name!r} cannot be built with {options}: {error}") from error
            known = inspect.signature(type(timm.create_model(name)).__init__).parameters
            near = nearest(strange[0], {"width", "stem", "streams", *known})
            raise UserError(f"encoder {name!r} has no option {strange[0]!r}{near}; timm describes its options") from error


def _norm(name: str) -> Any:
    """The class of a norm by timm's name for it, as its ResNets take a class alone.

    Raises:
        UserError: an unknown name.
    """
    layers: Any = timm.layers
    try:
        return layers.get_norm_layer(name)
    except KeyError as error:
        raise UserError(
            f"encoder option norm_layer is {name!r}, and timm knows no such norm: give batchnorm2d, groupnorm1 or "
            "another of its names"
        ) from error


def _halves(conv: nn.Conv2d) -> bool:
    """Whether it is strided, and its zeros stand evenly around the map."""
    kernel = conv.kernel_size
    return min(conv.stride) > 1 and all(k % 2 for k in kernel) and conv.padding == tuple(k // 2 for k in kernel)


def _never_one_pixel(conv: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A map of 1×1 with zeros around it: the same output, as a strided convolution pads it with zeros anyway. In bfloat16 on
    processors, the gradient of its weights is not written where only padding meets them (PyTorch 2.15 with its oneDNN)."""
    return tuple(F.pad(x, (0, 1, 0, 1)) if x.shape[-2:] == (1, 1) else x for x in inputs)


def dimension(
    backbone: nn.Module,
    name: str,
    channels: int,
    sizes: set[int],
    remedy: str = "give a larger --image-size, or another encoder",
) -> int:
    """Returns the length of the representation, found with one blank image of each size that the network will see.

    Raises:
        UserError: the network does not take images of such a size.
    """
    training, device = backbone.training, next(backbone.parameters()).device
    backbone.eval()
    for size in sizes:
        try:
            with torch.no_grad():
                h = backbone(torch.zeros(1, channels, size, size, device=device))
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"encoder {name!r} does not take images of {size} px ({reason}): {remedy}") from error
    backbone.train(training)
    return int(h.shape[1])


def smaller(side: int) -> int:
    """Returns the side of an image in the smaller of two sizes, in pixels."""
    return round(SMALLER * side)
