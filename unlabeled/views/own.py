"""Views of a user's own: a policy, or a function of one sample."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields, seed_of
from unlabeled.errors import UserError
from unlabeled.own import own
from unlabeled.views.view import Views

FULL = {torch.uint8: 255, torch.int16: 32768}
"""What 1 is in integers, as for encoders."""


class Policy:
    """A user's `(fields, generator) -> (views, targets)`, whose form is checked.

    Args:
        function: it.
        name: what it is called.
    """

    def __init__(self, function: Callable[..., Any], name: str, sees: tuple[str, ...]) -> None:
        self.function, self.name, self.sees = function, name, sees

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        found = self.function(fields, generator)
        pair = isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], Mapping)
        if not pair or not all(isinstance(view, Tensor) for view in found[0]):
            raise UserError(
                f"the views {self.name!r} give {type(found).__name__}, and must give a list of views (B, ...) and a mapping "
                "of targets (B,), which may be empty"
            )
        return list(found[0]), dict(found[1])


class TwiceEach:
    """Two views of each sample, by a function of one: tensor (C, H, W) of uint8 -> tensor, as torchvision's transforms are.
    Its draws of PyTorch's global generator are the step's, and no one else's.

    Args:
        function: of one sample.
        name: what it is called.
        kind: of the samples, which is the field that it sees.
    """

    def __init__(self, function: Callable[[Tensor], Any], name: str, kind: str) -> None:
        self.function, self.name, self.sees = function, name, (kind,)

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        x = fields[self.sees[0]]
        drawn = int(torch.randint(2**62, (), generator=generator))
        with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(seed_of(drawn))
            return [self._of_each(x), self._of_each(x)], {}

    def _of_each(self, x: Tensor) -> Tensor:
        made = [self.function(one) for one in x]
        wrong = next((one for one in made if not isinstance(one, Tensor) or one.shape != made[0].shape), None)
        if wrong is not None:
            what = f"a tensor of shape {tuple(wrong.shape)}" if isinstance(wrong, Tensor) else type(wrong).__name__
            raise UserError(
                f"the views {self.name!r} make {what} of one sample, and must make tensors that are all of one shape, "
                "uint8 or floats in [0, 1]"
            )
        views = torch.stack(made)
        return views.float() / FULL[views.dtype] if views.dtype in FULL else views.float()


def name_views(thing: Any) -> str:
    """Returns the name of a policy: of a class of policies `(shape, *, option=default)`, of a policy `(fields, generator) ->
    (views, targets)`, or of a function of one sample.

    Raises:
        UserError: something that cannot be called.
    """
    if isinstance(thing, str):
        return thing
    if not callable(thing):
        raise UserError(f"views is a {type(thing).__name__}: give a name, or something to call")
    if isinstance(thing, type):
        return own("views", thing, thing)
    name = getattr(thing, "__name__", type(thing).__name__)

    def of_shape(shape: DataShape) -> Views:
        if _positional(thing) != 2:
            return TwiceEach(thing, name, shape.kind)
        return Policy(thing, name, getattr(thing, "sees", (shape.kind,)))

    return own("views", thing, of_shape)


def _positional(function: Callable[..., Any]) -> int:
    """How many arguments must be given by place; 1 of what does not say, such as modules."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds and p.default is p.empty for p in parameters)
