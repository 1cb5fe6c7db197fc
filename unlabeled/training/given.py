"""Methods, encoders and views that are given as they are, in place of their names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from unlabeled.encoders.own import AS_GIVEN, name_encoder
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.own import own
from unlabeled.registry import entries_of
from unlabeled.views.own import name_views


def named(**parts: Any) -> dict[str, str]:
    """Returns the fields of a recipe that say what was given: names in place of things; `start`, too, where a module brings
    the weights to begin with.

    Args:
        parts: method, encoder and views, each a name, a thing, or None for what was not given.

    Raises:
        UserError: something that cannot be one.
    """
    by: dict[str, Callable[[Any], str]] = {"method": name_method, "encoder": name_encoder, "views": name_views}
    fields = {part: by[part](thing) for part, thing in parts.items() if thing is not None}
    return fields | ({"start": AS_GIVEN} if isinstance(parts.get("encoder"), nn.Module) else {})


def name_method(thing: Any) -> str:
    """Returns the name of a method: of a class of such, which asks of a run what the class above it does.

    Raises:
        UserError: it is none.
    """
    if isinstance(thing, str):
        return thing
    if not isinstance(thing, type) or not issubclass(thing, Method):
        said = getattr(thing, "__name__", type(thing).__name__)
        raise UserError(
            f"method is {said!r}: give a name, or a class that inherits from unlabeled.methods.base.Method, Comparison or a "
            "method"
        )
    above = [entry for base in thing.__mro__[1:] for entry in entries_of(base)]
    fields = ("recipe", "encoders", "measured", "formerly", "follows")
    return own("methods", thing, thing, {name: getattr(above[0], name) for name in fields} if above else None)
