"""Convolutions as matrix products: the convolution's own outputs and gradients, and only where they are meant to be."""

from __future__ import annotations

import copy
from itertools import product
from typing import Any

import pytest
import torch
from torch import nn

from unlabeled.compute import convolutions
from unlabeled.compute.convolutions import by_products

LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("size", [(7, 9), (3, 5)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize(
    ("way", "kernel", "padding"),
    [
        *product(
            (convolutions._Whole, convolutions._Patches, convolutions._Weights),
            ((1, 1), (3, 3), (3, 5)),
            ((0, 0), (1, 1), (2, 1), (3, 6)),
        ),
        (convolutions._Points, (1, 1), (0, 0)),
    ],
)
def test_each_way_is_a_convolution_with_its_gradients(way: Any, kernel: Any, padding: Any, stride: Any, size: Any) -> None:
    torch.manual_seed(0)
    for layout in LAYOUTS:
        x = torch.randn(3, 4, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
        weight = torch.randn(5, 4, *kernel, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_()
        y = torch.conv2d(x, weight, None, stride, padding)
        g = torch.randn_like(y)
        expected = torch.autograd.grad(y, (x, weight), g)
        z = way.apply(x, weight, stride, padding)
        torch.testing.assert_close(z, y)
        for one, two in zip(torch.autograd.grad(z, (x, weight), g), expected, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9)


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1, bias=False),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),  # 32×32 places: too many
        nn.Conv2d(64, 128, 1, 2, bias=False),
        nn.Conv2d(128, 128, 3, 2, 1, bias=False),  # 8×8
        nn.ReLU(),
        nn.Conv2d(128, 64, 3, padding=1, bias=False),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),  # too few channels for so many places
        nn.Conv2d(64, 96, 3, 2, 1, bias=False),  # 4×4
        nn.Conv2d(96, 32, 1, bias=False),
        nn.Conv2d(32, 64, 1, bias=False),  # too few channels
        nn.Conv2d(64, 64, 3, padding=1, groups=2, bias=False),
        nn.Conv2d(64, 64, 3, padding=2, dilation=2, bias=False),
        nn.Conv2d(64, 64, 3, padding="same", bias=False),
        nn.Conv2d(64, 64, 3, 2, 1, bias=False),  # 2×2
        nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.Conv2d(64, 8, 3, padding=1),
    ).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("half", [False, True])
def test_a_network_learns_the_same_with_it(half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("_Whole", "_Patches", "_Weights", "_Points"):
        way = getattr(convolutions, name)
        monkeypatch.setattr(way, "apply", lambda *given, name=name, apply=way.apply: calls.append(name) or apply(*given))
    plain, other = _network(), _network()
    by_products(other)
    x = torch.randn(6, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y, z = plain(x), other(x)
    assert calls == ["_Points", "_Patches", "_Weights", "_Patches", "_Points", "_Patches", "_Whole"]
    assert (y - z).norm() / y.norm() < (0.02 if half else 1e-5)
    y.float().square().mean().backward()
    z.float().square().mean().backward()
    for one, two in zip(plain.parameters(), other.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert (one.grad - two.grad).norm() / one.grad.norm() < (0.05 if half else 1e-5)


def test_names_of_weights_copies_and_evaluation_are_as_before() -> None:
    plain, other = _network(), _network()
    by_products(other)
    assert list(plain.state_dict()) == list(other.state_dict())
    copied = copy.deepcopy(other)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(plain(x), other(x))
        copied[3].weight.zero_()
        assert torch.equal(plain(x), other(x))
        assert not torch.equal(copied(x), other(x))


def test_what_needs_no_gradient_gets_none() -> None:
    network = _network()
    by_products(network)
    network[3].weight.requires_grad_(False)
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert network[3].weight.grad is None
    assert network[1].weight.grad is not None
    for kernel, side in ((3, 2), (3, 4), (3, 8), (1, 4)):
        first = nn.Conv2d(128, 128, kernel, padding=kernel // 2, bias=False)
        by_products(first)
        first(torch.randn(2, 128, side, side)).sum().backward()
        assert first.weight.grad is not None


def test_no_image_at_all() -> None:
    for kernel, side in ((1, 16), (3, 8), (3, 4), (3, 2)):
        conv = nn.Conv2d(128, 128, kernel, padding=kernel // 2, bias=False)
        by_products(conv)
        conv(torch.randn(0, 128, side, side)).sum().backward()
        assert conv.weight.grad is not None
        assert not conv.weight.grad.any()
