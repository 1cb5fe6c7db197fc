"""LARS against You et al. 2017, algorithm 1, in loops; Muon's steps; the two groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled import registry
from unlabeled.optim.optim import groups
from unlabeled.registry import Choice

LR, MOMENTUM, DECAY, TRUST = 0.7, 0.9, 0.05, 0.01


def lars_by_loops(w: np.ndarray, gradients: list[np.ndarray], vector: bool) -> list[np.ndarray]:
    """SimCLR's order: decay, then the local rate, then momentum, then the learning rate."""
    w, velocity, path = w.copy(), np.zeros_like(w), []
    for g in gradients:
        d = g if vector else g + DECAY * w
        norm_w, norm_d = np.sqrt((w * w).sum()), np.sqrt((d * d).sum())
        if not vector and norm_w > 0 and norm_d > 0:
            d = d * TRUST * norm_w / norm_d
        velocity = MOMENTUM * velocity + d
        w = w - LR * velocity
        path.append(w)
    return path


@pytest.mark.parametrize("start", ["random", "zero weights"])
@pytest.mark.parametrize("steps", ["random", "zero gradients", "some"])
def test_lars_is_the_algorithm(start: str, steps: str) -> None:
    numbers = np.random.default_rng(0)
    layer = nn.Linear(3, 4).double()
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.from_numpy(numbers.normal(size=p.shape)) if start == "random" else torch.zeros(p.shape))
    keep = {"random": [1, 1, 1, 1], "zero gradients": [0, 0, 0, 0], "some": [1, 0, 0, 1]}[steps]
    grads = {n: [k * numbers.normal(size=p.shape) for k in keep] for n, p in layer.named_parameters()}
    expected = {n: lars_by_loops(p.detach().numpy(), grads[n], vector=p.ndim == 1) for n, p in layer.named_parameters()}
    options = {"lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY, "trust": TRUST}
    optimizer = registry.build("optim", Choice("lars", options), groups(layer.parameters()))
    for step in range(len(keep)):
        for name, p in layer.named_parameters():
            p.grad = torch.from_numpy(grads[name][step])
        optimizer.step()
        for name, p in layer.named_parameters():
            np.testing.assert_allclose(p.detach().numpy(), expected[name][step], rtol=1e-12, err_msg=f"{name} at {step}")


def test_lars_moves_a_kernel_by_a_share_of_its_norm_whatever_the_gradient() -> None:
    for size in (1e-6, 1.0, 1e6):
        layer = nn.Linear(8, 8, bias=False)
        before = layer.weight.detach().clone()
        optimizer = registry.build(
            "optim", Choice("lars", {"lr": 0.5, "weight_decay": 0, "trust": 0.001}), groups(layer.parameters())
        )
        layer.weight.grad = size * torch.randn(8, 8)
        optimizer.step()
        moved = (layer.weight.detach() - before).norm() / before.norm()
        assert float(moved) == pytest.approx(0.5 * 0.001, rel=1e-3)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_muon_moves_a_kernel_by_the_orthogonal_factor_of_its_gradient(size: float) -> None:
    """The first step is -lr · 0.2 √max(n, m) U Vᵀ of the gradient (n, m) = U Σ Vᵀ; Newton and Schulz's five rounds leave
    singular values between 0.7 and 1.2 (Jordan et al. 2024). Vectors take AdamW's first step, of length lr in each place."""
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 8, 3)
    before, bias = layer.weight.detach().clone(), layer.bias.detach().clone()  # type: ignore[union-attr]
    options = {"lr": 0.5, "momentum": 0.9, "weight_decay": 0, "nesterov": False}
    optimizer = registry.build("optim", Choice("muon", options), groups(layer.parameters()))
    gradient = np.random.default_rng(0).normal(size=(8, 36))
    layer.weight.grad = torch.from_numpy(size * gradient).float().view(8, 4, 3, 3)
    layer.bias.grad = torch.full((8,), size)  # type: ignore[union-attr]
    optimizer.step()
    moved = (before - layer.weight.detach()).flatten(1).numpy() / (0.5 * 0.2 * 36**0.5)
    u, _, v = np.linalg.svd(gradient, full_matrices=False)
    inside = u.T @ moved @ v.T
    assert np.abs(inside - np.diag(np.diag(inside))).max() < 0.1
    assert 0.65 < np.diag(inside).min() <= np.diag(inside).max() < 1.25
    torch.testing.assert_close(layer.bias.detach(), bias - 0.5, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", registry.names("optim"))
def test_vectors_are_not_decayed_and_kernels_are(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
    optimizer = registry.build("optim", Choice(name, {"lr": 0.1, "weight_decay": 0.5}), groups(net.parameters()))
    for p in net.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for key, p in net.named_parameters():
        assert bool((p < 1).all()) == (p.ndim > 1), key


@pytest.mark.parametrize("name", registry.names("optim"))
def test_the_state_is_saved(name: str) -> None:
    def train(net: nn.Linear, optimizer: torch.optim.Optimizer, steps: range) -> None:
        for step in steps:
            for p in net.parameters():
                p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(step))
            optimizer.step()

    def fresh() -> tuple[nn.Linear, torch.optim.Optimizer]:
        torch.manual_seed(0)
        net = nn.Linear(3, 2)
        return net, registry.build("optim", Choice(name), groups(net.parameters()))

    whole, of_whole = fresh()
    train(whole, of_whole, range(6))
    first, of_first = fresh()
    train(first, of_first, range(3))
    second, of_second = fresh()
    second.load_state_dict(first.state_dict())
    of_second.load_state_dict(of_first.state_dict())
    train(second, of_second, range(3, 6))
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_frozen_parameters_are_in_no_group() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False))
    held = {id(p) for group in groups(net.parameters()) for p in group["params"]}
    assert held == {id(p) for p in net[0].parameters()}
