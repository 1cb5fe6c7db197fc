"""Gradients of convolutions' weights as matrix products: the convolution's own, and used only where they are meant to be."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unlabeled import products
from unlabeled.products import by_products, weight_gradient


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (3, 5)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_it_is_the_gradient_of_a_convolution(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], layout: torch.memory_format
) -> None:
    x = torch.randn(3, 4, 7, 9, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(5, 4, *kernel, dtype=torch.float64, requires_grad=True)
    y = torch.conv2d(x, weight, None, stride, padding)
    g = torch.randn_like(y)
    y.backward(g)
    torch.testing.assert_close(weight_gradient(x, g, kernel, stride, padding), weight.grad)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1, bias=False),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),  # 16×16 places: too many
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(64, 96, 3, 2, 1, bias=False),
        nn.Conv2d(96, 64, 1, bias=False),
        nn.Conv2d(64, 64, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(64, 64, 3, padding="same", bias=False),
        nn.Conv2d(64, 8, 3, padding=1),
    ).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("half", [False, True])
def test_a_network_learns_the_same_with_it(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def counted(*given: Any) -> Tensor:
        calls.append(given[1].shape)
        return weight_gradient(*given)

    monkeypatch.setattr(products, "weight_gradient", counted)
    plain, other = _network(), _network()
    by_products(other)
    x = torch.randn(6, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y, z = plain(x), other(x)
    assert torch.equal(y, z)
    y.float().square().mean().backward()
    z.float().square().mean().backward()
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        error = (one.grad - two.grad).norm() / one.grad.norm()
        assert error < (0.01 if half else 1e-5)
    assert calls == [(6, 64, 4, 4), (6, 96, 4, 4), (6, 64, 8, 8)]  # backwards, the three that are plain, wide and small


def test_names_of_weights_copies_and_evaluation_are_as_before() -> None:
    plain, other = _network(), _network()
    by_products(other)
    assert list(plain.state_dict()) == list(other.state_dict())
    copied = copy.deepcopy(other)
    with torch.no_grad():
        copied[3].weight.zero_()
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(plain(x), other(x))
    assert not torch.equal(copied(x), other(x))
    with torch.no_grad():
        assert torch.equal(plain(x), other(x))


def test_what_needs_no_gradient_gets_none() -> None:
    network = _network()
    by_products(network)
    network[3].weight.requires_grad_(False)
    network(torch.randn(2, 3, 16, 16)).sum().backward()
    assert network[3].weight.grad is None
    assert network[1].weight.grad is not None
