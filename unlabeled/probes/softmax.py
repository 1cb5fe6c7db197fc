"""Multinomial logistic regression by stochastic gradient descent, for sets that L-BFGS takes too long for."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

EPOCHS, BATCH, MOMENTUM = 60, 256, 0.9
SAMPLED = 4096
"""Samples by which the largest curvature is estimated."""


def minimise(
    rows: Callable[[Tensor], Tensor], y: Tensor, classes: int, dim: int, *, C: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Minimises Σ log-loss + |W|² / (2C) over weights W and biases, as scikit-learn's LogisticRegression does.

    Nesterov's momentum and half a cosine to zero (Loshchilov and Hutter 2017, "SGDR"). The learning rate follows from the
    data, so that nothing needs to be tuned: 1 / L with L the largest curvature that a batch can have, about half of the
    largest eigenvalue of the features' second moments plus their trace over the batch size (the Hessian of the log-loss in
    the logits is at most 1/2; Böhning 1992), plus that of the regularisation.

    Args:
        rows: gives the features (B, dim) of the samples at positions (B,) int64, on the device of y.
        y: (N,) int64 in [0, classes).
        classes: K.
        dim: D.
        C: weight of the summed log-loss against half the squared weights, > 0.
        seed: of the order of the samples: the same seed, the same weights.

    Returns:
        Weights (K, D) and biases (K,), float32 on the device of y.
    """
    n, generator = len(y), torch.Generator().manual_seed(seed)
    batch = min(BATCH, n)
    decay = 1 / (C * n)
    weight, bias = torch.zeros(classes, dim, device=y.device), torch.zeros(classes, device=y.device)
    moved, moved_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    largest = 0.5 * _curvature(rows(torch.randperm(n, generator=generator)[:SAMPLED]), batch) + decay
    steps = EPOCHS * (n // batch)
    for step in range(steps):
        if step % (n // batch) == 0:
            order = torch.randperm(n, generator=generator)
        taken = order[step % (n // batch) * batch :][:batch]
        x = rows(taken)
        error = F.linear(x, weight, bias).softmax(dim=1)  # (B, K)
        error[torch.arange(batch, device=y.device), y[taken.to(y.device)]] -= 1
        lr = 0.5 * (1 + math.cos(math.pi * step / steps)) / largest
        gradient, gradient_bias = error.T @ x / batch + decay * weight, error.mean(dim=0)
        moved, moved_bias = MOMENTUM * moved + gradient, MOMENTUM * moved_bias + gradient_bias
        weight -= lr * (gradient + MOMENTUM * moved)
        bias -= lr * (gradient_bias + MOMENTUM * moved_bias)
    return weight, bias


def _curvature(x: Tensor, batch: int) -> float:
    """The largest eigenvalue of the second moments of x (M, D), with a 1 beside the features for the bias, by power
    iteration; plus their trace over the batch size, by which that of a small batch may exceed it."""
    x = F.pad(x, (0, 1), value=1.0)
    v = x.mean(dim=0)
    value = 1.0
    for _ in range(30):
        v = x.T @ (x @ v) / len(x)
        value = float(v.norm())
        v = v / max(value, 1e-12)
    return value + float(x.square().sum(dim=1).mean()) / batch
