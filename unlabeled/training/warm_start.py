"""Weights to begin with: another run's, a file's, or timm's own pretrained ones (`--from`)."""

from __future__ import annotations

import json
import shlex
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import timm
import torch
from timm.layers.patch_embed import resample_patch_embed
from timm.models import adapt_input_conv
from torch import Tensor, nn

from unlabeled.encoders import Encoder, Lab, Lightness
from unlabeled.encoders.image import timm_options
from unlabeled.encoders.own import AS_GIVEN, weights_given
from unlabeled.errors import UserError
from unlabeled.probes.subject import weights
from unlabeled.registry import Choice
from unlabeled.run import RECIPE, Run, load
from unlabeled.words import counted

TIMM = "timm"
SHOWN = 3
"""Differences that are named."""

State = dict[str, Tensor]


@dataclass(frozen=True)
class Origin:
    """Where an encoder's weights come from.

    Attributes:
        named: what the user said.
        fingerprint: of the encoder as it begins: the same for the same weights.
        fitted: what was changed to fit, in words.
    """

    named: str
    fingerprint: str
    fitted: list[str]

    @property
    def note(self) -> str:
        """For the run's first lines."""
        whose = "the weights that its module has" if self.named == AS_GIVEN else self.named
        return "; ".join([f"warm start from {whose} ({self.fingerprint})", *self.fitted])


def begin_from(encoder: Encoder, choice: Choice, named: str) -> Origin:
    """Gives an untrained encoder the weights of another, in place; its first convolution is fitted to other channels and
    kernels as timm does it: channels summed or repeated, kernels resampled by the pseudo-inverse of a resize.

    Args:
        encoder: untrained.
        choice: its name and options.
        named: a run's folder, a `.safetensors` file that a run or timm wrote, or `timm`.

    Raises:
        UserError: nothing there, or the weights of another network; it says where they differ.
    """
    fitted: list[str] = []
    statistics: State = {}
    if named == AS_GIVEN:
        own = weights_given(choice.name)
    elif named == TIMM:
        own, statistics, fitted = _of_timm(encoder, choice)
    elif Path(named).is_file() and not _described(Path(named)):
        own = _bare(Path(named))
    else:
        there = load(named)
        ours, theirs = encoder.front.kind.name, there.front.kind.name
        if ours != theirs:
            raise UserError(f"--from {named}: an encoder of data of kind {theirs}, and these are {ours}: leave it out")
        own = there.backbone.state_dict()
        statistics = dict(there.front.state_dict())
    wanted = encoder.backbone.state_dict()
    first = _first_convolution(encoder.backbone)
    if first in own and own[first].shape != wanted[first].shape and own[first].ndim == 4:
        own, said = _fitted(own, first, wanted[first])
        fitted += said
    _check(own, wanted, named, choice)
    encoder.backbone.load_state_dict(own)
    held = encoder.front.state_dict()
    if statistics and all(held[name].shape == value.shape for name, value in statistics.items()):
        encoder.front.load_state_dict(statistics)
    origin = Origin(named, weights(encoder), fitted)
    encoder.notes.append(origin.note)
    return origin


def _of_timm(encoder: Encoder, choice: Choice) -> tuple[State, State, list[str]]:
    """timm's weights, by its own loader and cache; the mean and deviation that they were trained with; and what timm changed
    to fit, in words."""
    if isinstance(encoder.backbone, Lab | Lightness):
        streams = "two streams (--encoder.streams lab)" if isinstance(encoder.backbone, Lab) else "lightness alone"
        raise UserError(f"--from timm: timm has no network of {streams}: leave one of both out")
    options = timm_options(choice, encoder.front.size)
    if "width" in choice.options and "channels" in options:
        width = choice.options["width"]
        raise UserError(f"--from timm: timm has no weights of {choice.name!r} of width {width}: leave --encoder.width out")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = timm.create_model(
                choice.name, pretrained=True, num_classes=0, in_chans=encoder.front.channels, **options
            )  # fmt: skip
    except Exception as error:  # no network, no such weights, shapes that differ: whatever timm and the hub raise
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"--from timm: the weights of {choice.name!r} with {options or 'no options'} cannot be had ({reason}): give a "
            "network and options that timm has weights of, and a connection to its hub once, or --from FILE.safetensors"
        ) from error
    about: Any = made.pretrained_cfg
    channels, usual = encoder.front.channels, _usual_input(choice.name)
    values = {name: torch.tensor(about[name]).view(-1, 1, 1) for name in ("mean", "std") if about.get(name)}
    if channels != 3:
        values = {name: value.mean(0, keepdim=True).expand(channels, 1, 1).clone() for name, value in values.items()}
    fitted = [f"its first convolution fitted from 3 to {counted(channels, 'channels')}"] if channels != 3 else []
    for what, name in (("patches", "patch_size"), ("positions, of images", "img_size")):
        if options.get(name, usual.get(name)) != usual.get(name):
            fitted.append(f"its {what} resampled from {usual[name]} to {options[name]} px")
    return made.state_dict(), values, fitted


def _usual_input(name: str) -> dict[str, int]:
    """Sides of image and patch of a network of timm as it was trained, where it is one of patches."""
    embed = getattr(timm.create_model(name, num_classes=0), "patch_embed", None)
    if embed is None or not hasattr(embed, "img_size"):
        return {}
    return {"img_size": embed.img_size[0], "patch_size": embed.patch_size[0]}


def _described(path: Path) -> bool:
    """Whether a run wrote the file, with what is needed to build the encoder."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            made = json.loads((file.metadata() or {}).get("unlabeled", "{}"))
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"--from {str(path)!r}: no safetensors file, or a damaged one ({type(error).__name__}): give a run's folder, a "
            ".safetensors file, or timm"
        ) from error
    return "channels" in made and "timm" not in made


def _bare(path: Path) -> State:
    """The weights of a network alone, without its classifier."""
    tensors = safetensors.torch.load_file(path)
    heads = ("fc.", "head.", "classifier.", "head_dist.")
    return {name.removeprefix("backbone."): value for name, value in tensors.items() if not name.startswith(heads)}


def _first_convolution(backbone: nn.Module) -> str:
    """Name of the weights that see the sample itself."""
    return next((f"{name}.weight" for name, part in backbone.named_modules() if isinstance(part, nn.Conv2d)), "")


def _fitted(own: Mapping[str, Tensor], first: str, wanted: Tensor) -> tuple[State, list[str]]:
    """The first convolution with the channels and the kernel that are wanted."""
    weight, said = own[first], []
    if weight.shape[1] != wanted.shape[1] and weight.shape[1] == 3:
        weight = adapt_input_conv(wanted.shape[1], weight)
        said.append(f"its first convolution fitted from 3 to {counted(wanted.shape[1], 'channels')}")
    if weight.shape[2:] != wanted.shape[2:] and weight.shape[:2] == wanted.shape[:2]:
        height, width = wanted.shape[2:]
        said.append(f"its first convolution resampled from {'×'.join(map(str, weight.shape[2:]))} to {height}×{width}")
        weight = resample_patch_embed(weight, [height, width])
    return {**own, first: weight}, said


def _check(own: Mapping[str, Tensor], wanted: Mapping[str, Tensor], named: str, choice: Choice) -> None:
    def shape(value: Tensor) -> str:
        return "×".join(map(str, value.shape)) or "one number"

    apart = [f"{name} is {shape(own[name])} there and {shape(wanted[name])} here" for name in wanted
             if name in own and own[name].shape != wanted[name].shape]  # fmt: skip
    apart += [f"{name} is missing there" for name in wanted if name not in own]
    apart += [f"{name} is missing here" for name in own if name not in wanted]
    if apart:
        more = f", and {len(apart) - SHOWN:,} more" if len(apart) > SHOWN else ""
        raise UserError(
            f"--from {named}: its network is not {_spelled(choice)}: {'; '.join(apart[:SHOWN])}{more}; "
            f"{_remedy(named, choice, apart)}, or leave --from out"
        )


def _remedy(named: str, choice: Choice, apart: list[str]) -> str:
    """What to give to have the network that was trained; a run says it itself."""
    if named != TIMM and (Path(named) / RECIPE).is_file():
        with suppress(UserError):  # its method may be a plug-in's, which is not needed here
            theirs = _spelled(Run.open(named).recipe.encoder)
            if theirs == _spelled(choice):
                return "the run's has these options on samples of another size or other channels: give such data"
            return f"the run's is {theirs}: give these options"
    if "conv1.weight is missing there" in apart:
        return "a ResNet's first layers are others for small images: give --encoder.stem large, which is timm's own"
    return "give the encoder that it was trained with"


def _spelled(choice: Choice) -> str:
    """The encoder as options of the command line."""
    options = (f" --encoder.{name.replace('_', '-')} {shlex.quote(str(v))}" for name, v in choice.options.items())
    return f"--encoder {choice.name}{''.join(options)}"
