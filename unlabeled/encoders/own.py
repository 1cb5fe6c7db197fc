"""Backbones of a user's own: a class or a function that makes one, by name, or a module as it is."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import timm
import torch
from torch import Tensor, nn

from unlabeled import registry
from unlabeled.errors import UserError
from unlabeled.own import own
from unlabeled.registry import Choice

AS_GIVEN = "as given"
"""Stands where a recipe says what weights an encoder begins with: those of the module that was given."""


class Redrawn:
    """Makes copies of a module with weights drawn anew: what the module was given with is `held`.

    Args:
        module: as the user built it.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = copy.deepcopy(module)
        self.held = {name: value.clone() for name, value in self.module.state_dict().items()}

    def __call__(self) -> nn.Module:
        made = copy.deepcopy(self.module)
        for part in made.modules():
            if callable(draw := _reset(part)):
                draw()
        return made

    @property
    def notes(self) -> list[str]:
        """Names what a copy keeps, as nothing tells how it is drawn."""
        kept = [
            f"{at}.{name}".strip(".")
            for at, part in self.module.named_modules()
            for name, _ in part.named_parameters(recurse=False)
            if _reset(part) is None
        ]
        more = f", and {len(kept) - 3:,} more" if len(kept) > 3 else ""
        said = f"{', '.join(kept[:3])}{more}: not drawn anew in the untrained encoder, as its module has no reset_parameters"
        return [said] if kept else []


def _reset(part: nn.Module) -> Any:
    return getattr(part, "reset_parameters", None) or getattr(part, "_reset_parameters", None)


def name_encoder(thing: Any) -> str:
    """Returns the name of an encoder: of a `nn.Module`, or of a class or function that makes one.

    Raises:
        UserError: something else, or it has the name of one of timm's networks.
    """
    if isinstance(thing, str):
        return thing
    if not isinstance(thing, nn.Module) and not callable(thing):
        raise UserError(f"encoder is a {type(thing).__name__}: give a name, a torch.nn.Module, or a class of such")
    name = getattr(thing, "__name__", type(thing).__name__)
    make = Redrawn(thing) if isinstance(thing, nn.Module) else thing
    return own("encoders", thing, make, taken=name in timm.list_models())


def weights_given(name: str) -> dict[str, Tensor]:
    """Returns the weights that the module of that name was given with.

    Raises:
        UserError: no module of that name was given.
    """
    make: Any = registry.get("encoders", name).make
    if not isinstance(make, Redrawn):
        raise UserError(f"the run begins with the weights of the module {name!r}: give that, and not its class")
    return make.held


def is_own(name: str) -> bool:
    """Tells whether an encoder is one that somebody registered or gave, and none of timm's."""
    return name in registry.names("encoders") and name not in timm.list_models()


def build_own(choice: Choice, channels: int, blanks: list[Tensor]) -> tuple[nn.Module, int, list[str]]:
    """Builds a backbone; its constructor gets the options, and `channels` if it has such an argument.

    Args:
        choice: name and options.
        channels: of a sample.
        blanks: (1, ...) one of each shape that it will see, in evaluation mode.

    Returns:
        The network, the length of its representation, and what a user should know.

    Raises:
        UserError: it cannot be built so, is no module, or does not map samples (B, ...) to features (B, dim).
    """
    make, name = registry.get("encoders", choice.name).make, choice.name
    options = dict(choice.options)
    if not isinstance(make, Redrawn) and "channels" in inspect.signature(make).parameters:
        options.setdefault("channels", channels)
    try:
        backbone = make(**options)
    except TypeError as error:
        raise UserError(f"encoder {name!r} cannot be built with {options or 'no options'}: {error}") from error
    if not isinstance(backbone, nn.Module):
        raise UserError(f"encoder {name!r} gives {type(backbone).__name__}, and must give a torch.nn.Module")
    dims = {_dim(backbone, name, blank) for blank in blanks}
    said = getattr(backbone, "dim", None)
    if len(dims) > 1 or said not in (None, *dims):
        told = f", and says dim = {said}" if said is not None else ""
        raise UserError(f"encoder {name!r} gives {' and '.join(map(str, sorted(dims)))} features{told}: give one length")
    return backbone, dims.pop(), make.notes if isinstance(make, Redrawn) else []


def _dim(backbone: nn.Module, name: str, blank: Tensor) -> int:
    training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            h = backbone(blank)
    except Exception as error:  # whatever somebody else's network raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise UserError(f"encoder {name!r} does not take samples of shape {tuple(blank.shape)} ({reason})") from error
    backbone.train(training)
    if not isinstance(h, Tensor) or h.ndim != 2:
        found = tuple(h.shape) if isinstance(h, Tensor) else type(h).__name__
        raise UserError(
            f"encoder {name!r} maps samples of shape {tuple(blank.shape)} to {found}, and must give features (B, dim): "
            "take the mean over places, for one, and leave the classifier out"
        )
    return int(h.shape[1])
