"""Projectors, predictors and prototypes: the small networks between the encoder and the objective."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from unlabeled.losses import cosine

Projector = Literal["mlp", "linear", "none"]

End = Literal["bias", "plain", "norm"]
"""What follows the last matrix of an MLP: a bias, nothing, or a batch norm without scale and shift."""


def mlp(*dims: int, norm: bool = True, end: End = "bias") -> nn.Sequential:
    """Builds (B, dims[0]) -> (B, dims[-1]): linear layers with batch norm (if `norm`) and ReLU between, `end` after the
    last."""
    layers: list[nn.Module] = []
    for i, (wide, narrow) in enumerate(pairwise(dims)):
        last = i == len(dims) - 2
        layers.append(nn.Linear(wide, narrow, bias=end == "bias" if last else not norm))
        if not last:
            layers += [nn.BatchNorm1d(narrow), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, *[nn.BatchNorm1d(dims[-1], affine=False)] * (end == "norm"))


def projector(kind: Projector, encoded: int, hidden: int, dim: int, *, norm: bool = True) -> nn.Module:
    """Builds g: h (B, encoded) -> z (B, dim): nothing, one linear layer, or one hidden layer (SimCLR, §4.2)."""
    if kind == "none":
        return nn.Identity()
    return nn.Linear(encoded, dim) if kind == "linear" else mlp(encoded, hidden, dim, norm=norm)


class Shared(nn.Module):
    """Into the space that wholes and parts share: one hidden layer beside a linear shortcut (Hjelm et al.
    2019, appendix)."""

    def __init__(self, encoded: int, hidden: int, dim: int, *, norm: bool) -> None:
        super().__init__()
        self.hidden, self.shortcut = mlp(encoded, hidden, dim, norm=False), nn.Linear(encoded, dim)
        self.norm = nn.LayerNorm(dim) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps (..., encoded) -> (..., dim); on (B, L, encoded) these are 1×1 convolutions."""
        result: Tensor = self.norm(self.hidden(x) + self.shortcut(x))
        return result


class LinearClassifier(nn.Sequential):
    """h (B, encoded) -> logits (B, classes): one linear layer.

    Args:
        encoded: length of h.
        classes: number of classes.
        scaled: whether a batch norm without weights brings h to one scale before, as He et al. 2022 ("Masked Autoencoders",
            appendix A) have it, and the layer begins at zero: for fine-tuning, where the length of h depends on the method.
    """

    def __init__(self, encoded: int, classes: int, *, scaled: bool = False) -> None:
        layer = nn.Linear(encoded, classes)
        if scaled:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        super().__init__(*([nn.BatchNorm1d(encoded, affine=False)] if scaled else []), layer)
        self.encoded, self.classes, self.scaled = encoded, classes, scaled


class PrototypeHead(nn.Module):
    """h (..., encoded) -> z (..., bottleneck), and the cosines of z with K prototypes (..., K) (DINO, Caron et al. 2021).

    Three linear layers with batch norm (if `norm`) and GELU between; length 1; then a linear layer whose rows have length 1,
    which is weight normalisation (Salimans & Kingma 2016) with its gain fixed at 1. Weights start with a deviation of
    1/√fan-in (0.022 for 2048, where the published code has 0.02 for any width), biases at 0; prototypes with that of a
    `Linear`'s weight, 1/√(3 bottleneck), as in the published code: their length, which the output does not show, decides how
    fast an optimiser turns them.

    Args:
        encoded: length of h.
        hidden: width of the two hidden layers.
        bottleneck: length of z.
        prototypes: K.
        norm: whether there is batch norm.
    """

    def __init__(self, encoded: int, hidden: int, bottleneck: int, prototypes: int, *, norm: bool = False) -> None:
        super().__init__()
        linear = [nn.Linear(wide, narrow) for wide, narrow in pairwise((encoded, hidden, hidden, bottleneck))]
        for layer in linear:
            nn.init.trunc_normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
        between = [nn.Sequential(nn.BatchNorm1d(hidden), nn.GELU()) if norm else nn.GELU() for _ in range(2)]
        self.mlp = nn.Sequential(linear[0], between[0], linear[1], between[1], linear[2])
        self.prototypes = nn.Parameter(torch.randn(prototypes, bottleneck) * (3 * bottleneck) ** -0.5)

    def forward(self, h: Tensor, gate: float = 1.0) -> tuple[Tensor, Tensor]:
        """Returns z as it comes, and the cosines in float32; `gate` multiplies the gradient of the prototypes."""
        z = self.mlp(h.flatten(0, -2)).unflatten(0, h.shape[:-1])  # (..., bottleneck)
        held = self.prototypes.detach()  # (K, bottleneck)
        return z, cosine(z, held + gate * (self.prototypes - held))
