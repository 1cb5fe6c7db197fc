"""Projectors and predictors: the small networks between the encoder and the objective."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from torch import nn

Projector = Literal["mlp", "linear", "none"]


def mlp(*dims: int, norm: bool = True) -> nn.Sequential:
    """(B, dims[0]) -> (B, dims[-1]): linear layers with batch norm (if `norm`) and ReLU between, none after the last."""
    layers: list[nn.Module] = []
    for i, (wide, narrow) in enumerate(pairwise(dims)):
        last = i == len(dims) - 2
        layers.append(nn.Linear(wide, narrow, bias=last or not norm))
        if not last:
            layers += [nn.BatchNorm1d(narrow), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def projector(kind: Projector, encoded: int, hidden: int, dim: int, *, norm: bool = True) -> nn.Module:
    """g: h (B, encoded) -> z (B, dim): nothing, one linear layer, or one hidden layer (SimCLR, §4.2)."""
    if kind == "none":
        return nn.Identity()
    return nn.Linear(encoded, dim) if kind == "linear" else mlp(encoded, hidden, dim, norm=norm)
