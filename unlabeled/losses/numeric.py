"""What all losses share: the precision they compute in, what they refuse, and the reduction of their terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor

Reduction = Literal["mean", "sum", "none"]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def full_precision(loss: Callable[_P, _R]) -> Callable[_P, _R]:
    """Computes in float64 if any argument is float64, else in float32, whatever comes in and whatever autocast says.

    Every float tensor among the arguments, also inside tuples and lists, is converted first; gradients come back in the
    argument's own type.
    """

    @wraps(loss)
    def computed(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        tensors = [t for t in _tensors([*args, *kwargs.values()]) if t.is_floating_point()]
        if not tensors:
            raise ValueError(f"{loss.__name__}: no argument is a tensor of floats")
        dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
        with torch.autocast(tensors[0].device.type, enabled=False):
            return loss(*(_to(a, dtype) for a in args), **{k: _to(a, dtype) for k, a in kwargs.items()})

    return computed


def _tensors(values: Sequence[object]) -> list[Tensor]:
    found: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, tuple | list):
            found += _tensors(value)
    return found


def _to(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(_to(v, dtype) for v in value)
    return value


def reduce(terms: Tensor, reduction: Reduction, of: Tensor | float | None = None) -> Tensor:
    """Returns the terms of a loss, their sum, or their sum divided by `of` (default: how many they are; 0 of none is 0)."""
    if reduction == "none":
        return terms
    total = terms.sum()
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / (max(1, terms.numel()) if of is None else of)
    raise ValueError(f"reduction {reduction!r}: give 'mean', 'sum' or 'none'")


def unit(x: Tensor) -> Tensor:
    """Brings vectors (..., D) to length 1. A zero vector stays zero, and its gradient stays finite."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.where(length > 0, 1)


def check_rows(name: str, **tensors: Tensor) -> None:
    """Refuses tensors that are not all (B, D) with the same B of at least 1 and the same D."""
    first, *others = tensors.items()
    for key, tensor in tensors.items():
        if tensor.ndim != 2 or len(tensor) == 0:
            raise ValueError(f"{name}: {key} has shape {tuple(tensor.shape)}; give (B, D) with B of at least 1")
    for key, tensor in others:
        if tensor.shape != first[1].shape:
            raise ValueError(
                f"{name}: {first[0]} has shape {tuple(first[1].shape)} and {key} {tuple(tensor.shape)}; give equal shapes"
            )


def check_labels(name: str, z: Tensor, labels: Tensor) -> None:
    """Refuses labels that are not one integer for each row of z."""
    check_rows(name, z=z)
    if labels.shape != z.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"{name}: labels are {labels.dtype} of shape {tuple(labels.shape)}; give {len(z)} integers, one a row of z"
        )


def check_indices(name: str, count: int, **values: Tensor) -> None:
    """Refuses integers that do not count among `count` rows."""
    for key, value in values.items():
        if value.is_floating_point() or ((value < 0) | (value >= count)).any():
            raise ValueError(
                f"{name}: {key} is {value.dtype}, not all in [0, {count}); give integers that count among {count} rows"
            )


def check_positive(name: str, **values: float | Tensor) -> None:
    """Refuses temperatures that are zero, negative, or not one number."""
    for key, value in values.items():
        if (isinstance(value, Tensor) and value.numel() != 1) or not value > 0:
            raise ValueError(f"{name}: {key} is {value}; give a number above 0")
