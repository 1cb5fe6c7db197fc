"""Optimisers by name: SGD, AdamW, Muon, LARS; and the two groups of parameters that they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from timm.optim.muon import Muon
from torch import Tensor, nn
from torch.optim import Optimizer

from unlabeled.registry import Decay, Positive, Share, register

Groups = list[dict[str, Any]]


def groups(parameters: Iterable[nn.Parameter]) -> Groups:
    """Sorts the trainable ones into groups: matrices and kernels, and vectors (biases, norms), flagged `vector`.

    Vectors get no weight decay and, under LARS, no adaptation (BYOL, §3.3; SimCLR's published code).
    """
    trainable = [p for p in parameters if p.requires_grad]
    made: Groups = [
        {"params": [p for p in trainable if p.ndim > 1], "vector": False},
        {"params": [p for p in trainable if p.ndim <= 1], "vector": True},
    ]
    return [group for group in made if group["params"]]


def _decayed(parameters: Groups, weight_decay: float) -> Groups:
    return [{**g, "weight_decay": 0.0 if g["vector"] else weight_decay} for g in parameters]


@register("sgd")
def sgd(
    parameters: Groups, *, lr: Positive = 0.06, momentum: Share = 0.9, weight_decay: Decay = 5e-4, nesterov: bool = True
) -> Optimizer:
    """Builds SGD with Nesterov momentum.

    Args:
        lr: learning rate for a batch of 256 (ours, for small images: twice the 0.03 of MoCo v1, §3.3, and of its CIFAR-10
            demonstration).
        momentum: 0.9 (MoCo v1, §3.3).
        weight_decay: L2, for matrices and kernels only (5e-4, MoCo's CIFAR-10 demonstration).
        nesterov: look ahead (Sutskever et al. 2013).
    """
    return torch.optim.SGD(_decayed(parameters, weight_decay), lr=lr, momentum=momentum, nesterov=nesterov and momentum > 0)


@register("adamw")
def adamw(
    parameters: Groups, *, lr: Positive = 1e-3, weight_decay: Decay = 0.05, beta1: Share = 0.9, beta2: Share = 0.999
) -> Optimizer:
    """Builds AdamW (Loshchilov and Hutter 2019).

    Args:
        lr: learning rate for a batch of 256 (1e-3, the paper's and PyTorch's).
        weight_decay: decoupled, for matrices and kernels only (0.05, as usual for ViT; DeiT, table 9).
        beta1: of the mean (Kingma and Ba 2015).
        beta2: of the square (Kingma and Ba 2015).
    """
    return torch.optim.AdamW(_decayed(parameters, weight_decay), lr=lr, betas=(beta1, beta2))


@register("muon")
def muon(
    parameters: Groups, *, lr: Positive = 1e-3, momentum: Share = 0.95, weight_decay: Decay = 0.05, nesterov: bool = True
) -> Optimizer:
    """Builds Muon (Jordan et al. 2024): momentum made orthogonal, for matrices and kernels; NAdamW or AdamW for vectors.

    A kernel (D, C, H, W) is the matrix (D, C H W). Updates are scaled to the root mean square of AdamW's (Liu et al. 2025,
    "Muon is Scalable for LLM Training"), so that one learning rate serves both.

    Args:
        lr: learning rate for a batch of 256 (1e-3, AdamW's: Liu et al. 2025).
        momentum: 0.95 (Jordan et al. 2024).
        weight_decay: decoupled, for matrices and kernels only (0.05, as AdamW's here).
        nesterov: look ahead (Jordan et al. 2024).
    """
    made = [{**group, "use_fallback": group["vector"]} for group in _decayed(parameters, weight_decay)]
    return Muon(made, lr=lr, momentum=momentum, nesterov=nesterov)


@register("lars")
def lars(
    parameters: Groups,
    *,
    lr: Positive = 0.3,
    momentum: Share = 0.9,
    weight_decay: Decay = 1e-6,
    trust: Positive = 1e-3,
    vector_factor: Positive = 1.0,
) -> Optimizer:
    """Builds LARS (You et al. 2017, algorithm 1).

    Vectors (biases, norms) are not adapted, so that their learning rate is one of plain gradients, which the scale of a loss
    changes.

    Args:
        lr: learning rate for a batch of 256 (0.3, SimCLR, §2.3).
        momentum: 0.9 (SimCLR's published code).
        weight_decay: L2, for matrices and kernels only (1e-6, SimCLR, §2.3).
        trust: coefficient η of the layer-wise rate (0.001, You et al. 2017, §4).
        vector_factor: learning rate of vectors, as a multiple of `lr` (1, SimCLR's published code).
    """
    made = [{**g, "factor": vector_factor if g["vector"] else 1.0} for g in _decayed(parameters, weight_decay)]
    return LARS(made, lr=lr, momentum=momentum, trust=trust)


class LARS(Optimizer):
    """Layer-wise adaptive rate scaling: each kernel moves by a fixed share of its own norm.

    For a weight w with gradient g, in a group whose `vector` is false:
        d = g + β w;   d = d · η‖w‖ / ‖d‖ (only if both norms are positive);   v = m v + d;   w = w - lr · v.
    (As in SimCLR's published optimiser: the norm is that of the decayed gradient, and momentum comes after the scaling.)
    Groups whose `vector` is true skip the scaling.
    """

    def __init__(self, params: Iterable[Any], lr: float, momentum: float = 0.9, trust: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": 0.0, "vector": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; `closure` re-evaluates the loss, as in every torch optimiser."""
        with torch.enable_grad():
            value = closure() if closure else None
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    self._move(w, group)
        return value

    def _move(self, w: Tensor, group: dict[str, Any]) -> None:
        d = w.grad.add(w, alpha=group["weight_decay"]) if w.grad is not None else torch.zeros_like(w)
        if not group["vector"]:
            norm_w, norm_d = w.norm(), d.norm()
            rate = torch.where((norm_w > 0) & (norm_d > 0), group["trust"] * norm_w / norm_d, torch.ones_like(norm_w))
            d.mul_(rate)
        velocity = self.state[w].setdefault("velocity", torch.zeros_like(w))
        velocity.mul_(group["momentum"]).add_(d)
        w.add_(velocity, alpha=-group["lr"])
