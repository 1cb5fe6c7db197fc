"""LARS against You et al. 2017, algorithm 1, in loops; the two groups."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from unlabeled import registry
from unlabeled.optim import groups
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
    optimizer = registry.build("optim", Choice("lars", options), groups(layer))
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
        optimizer = registry.build("optim", Choice("lars", {"lr": 0.5, "weight_decay": 0, "trust": 0.001}), groups(layer))
        layer.weight.grad = size * torch.randn(8, 8)
        optimizer.step()
        moved = (layer.weight.detach() - before).norm() / before.norm()
        assert float(moved) == pytest.approx(0.5 * 0.001, rel=1e-3)


@pytest.mark.parametrize("name", registry.names("optim"))
def test_vectors_are_not_decayed_and_kernels_are(name: str) -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(1.0)
    optimizer = registry.build("optim", Choice(name, {"lr": 0.1, "weight_decay": 0.5}), groups(net))
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
        return net, registry.build("optim", Choice(name), groups(net))

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
    held = {id(p) for group in groups(net) for p in group["params"]}
    assert held == {id(p) for p in net[0].parameters()}
