"""Small methods and embeddings for the oracles: what they compute is compared with loops over the paper's equations."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders import build_encoder
from unlabeled.methods.base import Comparison
from unlabeled.registry import Choice, build

RESNET = Choice("resnet10t", {"width": 4})
VIT = Choice("vit_tiny_patch16_224", {"embed_dim": 32, "depth": 1, "num_heads": 2, "patch_size": 4})
SHAPE = DataShape(64, 3, 16)


def make(name: str, encoder: Choice = RESNET, **options: object) -> Comparison:
    """The method on a small encoder, in training mode."""
    torch.manual_seed(0)
    built = build_encoder(encoder, 3, 16, torch.zeros(3), torch.ones(3))
    method: Comparison = build("methods", Choice(name, options), built, SHAPE)
    return method.train()


def embedded(method: Comparison, *names: str, n: int = 6) -> dict[str, Tensor]:
    """Random representations (n, D) by name, as leaves."""
    draw = torch.Generator().manual_seed(1)
    return {name: torch.randn(n, method.encoder.dim, generator=draw).requires_grad_() for name in names}


def images(*sizes: int, n: int = 6, seed: int = 2) -> Batch:
    """Random views of those sizes."""
    draw = torch.Generator().manual_seed(seed)
    return Batch([torch.rand(n, 3, s, s, generator=draw) for s in sizes], torch.arange(n))


def at(step: int = 0, total: int = 10, epoch: int = 0) -> Progress:
    """Progress."""
    return Progress(step, total, epoch)


def array(x: Tensor) -> np.ndarray:
    """As NumPy computes it: float64."""
    return x.detach().double().numpy()


def total(method: Comparison, given: dict[str, Tensor], when: Progress | None = None) -> float:
    """The loss as a number."""
    return float(method.compare(given, when or at()).total.detach())


def learn(method: Comparison, batch: Batch, when: Progress, lr: float = 0.1) -> None:
    """One step of plain SGD as the loop takes it."""
    loss = method(batch, when)
    method.zero_grad(set_to_none=True)
    loss.total.backward()
    with torch.no_grad():
        method.observe(loss, when)
        for p in method.parameters():
            if p.grad is not None:
                p -= lr * p.grad
        method.after_step(when)
