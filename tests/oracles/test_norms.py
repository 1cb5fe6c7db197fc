"""Batch norms in few passes: the equations in NumPy, PyTorch's own networks, and only where they are meant to be."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

from unlabeled.compute import norms, openmp
from unlabeled.compute.norms import Norm, NormRelu, in_few_passes

KINDS = {torch.float32: 2e-6, torch.bfloat16: 4e-3}
"""What rounding may do."""

pytestmark = pytest.mark.skipif(not openmp.available(), reason="torch brings no libgomp here")


def _maps(shape: tuple[int, ...], kind: torch.dtype, seed: int) -> torch.Tensor:
    made = 3 + 2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made.to(kind).contiguous(memory_format=torch.channels_last)


def _near(one: torch.Tensor, other: Any, tolerance: float) -> None:
    expected = torch.as_tensor(other).double()
    assert (one.double() - expected).norm() <= tolerance * expected.norm() + 1e-12


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(6, 16, 8, 8), (3, 5, 3, 7), (2, 600, 1, 2), (1, 2, 1, 2), (64, 3, 2, 2)])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_equations(kind: torch.dtype, shape: tuple[int, ...], relu: bool, added: bool, threads: int) -> None:
    """Algorithm 1 of Ioffe and Szegedy (2015) and its gradients in §3, in float64."""
    norm = (NormRelu if relu else Norm)(shape[1], eps=1e-3, momentum=0.3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x, other, g = (_maps(shape, kind, seed) for seed in range(3))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        inputs = [x.requires_grad_(), other.requires_grad_()] if added else [x.requires_grad_()]
        y = norm(*inputs)
        y.backward(g)
    finally:
        torch.set_num_threads(before)

    v, o, d = (each.detach().double().numpy().transpose(0, 2, 3, 1).reshape(-1, shape[1]) for each in (x, other, g))
    gamma, beta = (each.detach().double().numpy() for each in (norm.weight, norm.bias))
    n, mean, variance = len(v), v.mean(0), v.var(0)
    sigma = np.sqrt(variance + 1e-3)
    normal = (v - mean) / sigma
    expected = gamma * normal + beta + (o if added else 0)
    d = d * (expected > 0) if relu else d
    expected = np.maximum(expected, 0) if relu else expected
    of_normal = d * gamma
    of_variance = (of_normal * (v - mean)).sum(0) * -0.5 / sigma**3
    of_mean = -of_normal.sum(0) / sigma
    of_x = of_normal / sigma + of_variance * 2 * (v - mean) / n + of_mean / n

    def rows(maps: torch.Tensor) -> torch.Tensor:
        return maps.permute(0, 2, 3, 1).reshape(-1, shape[1])

    tolerance = KINDS[kind]
    assert y.dtype == kind
    assert x.grad is not None
    _near(rows(y.detach()), expected, tolerance)
    _near(norm.running_mean, 0.3 * mean, 1e-6)
    _near(norm.running_var, 0.7 + 0.3 * variance * n / (n - 1), 1e-6)
    assert norm.num_batches_tracked == 1
    scale = np.abs(of_normal / sigma).max()  # of two values, the gradient is all but nothing
    assert np.abs(rows(x.grad).double().numpy() - of_x).max() <= 4 * tolerance * scale
    _near(norm.weight.grad, (d * normal).sum(0), 1e-5)
    _near(norm.bias.grad, d.sum(0), 1e-5)
    if added:
        assert other.grad is not None
        _near(rows(other.grad), d, tolerance)


def test_what_is_far_from_0_loses_no_digits() -> None:
    x = (1000 + torch.randn(8, 4, 16, 16)).contiguous(memory_format=torch.channels_last)
    norm = Norm(4)
    _near(norm(x).detach(), nn.BatchNorm2d(4).double()(x.double()).detach(), 1e-4)


def test_what_is_not_finite_stays_so() -> None:
    x = _maps((4, 3, 4, 4), torch.bfloat16, 0)
    x[0, 1, 0, 0] = float("nan")
    y = NormRelu(3)(x)
    assert y[:, 1].isnan().all()
    assert y[:, [0, 2]].isfinite().all()


NETWORKS: dict[str, Any] = {
    "resnet18": lambda: timm.create_model(
        "resnet18", num_classes=0, channels=(16, 32, 64, 128), stem_type="deep", stem_width=8
    ),
    "resnet50": lambda: timm.create_model("resnet50", num_classes=0, channels=(8, 16, 32, 64)),
    "seresnet50": lambda: timm.create_model("seresnet50", num_classes=0, channels=(8, 16, 32, 64)),
    "resnet9": lambda: timm.create_model("resnet9", width=8),
    "sequence": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.GELU(), nn.Flatten()
    ),
}


def _network(name: str) -> nn.Module:
    from unlabeled.encoders import build_encoder as _registers  # noqa: F401 - resnet9

    torch.manual_seed(0)
    made: nn.Module = NETWORKS[name]().to(memory_format=torch.channels_last)
    return made


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("half", [False, True])
def test_a_network_learns_the_same_with_it(name: str, half: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    apply = norms._Normalised.apply
    monkeypatch.setattr(norms._Normalised, "apply", lambda *given: seen.append(given[-1]) or apply(*given))
    plain, other = _network(name), _network(name)
    in_few_passes(other)
    in_few_passes(other)  # once is enough
    count = sum(isinstance(part, nn.BatchNorm2d) for part in plain.modules())
    relus = [part for part in other.modules() if isinstance(part, nn.ReLU)]
    x = torch.randn(8, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y, z = plain(x), other(x)
    assert len(seen) == count
    if name != "seresnet50":  # whose blocks are left as they are, but for their norms
        assert not relus
        assert sum(seen) == {"resnet18": 19, "resnet50": 49, "resnet9": 9, "sequence": 1}[name]
    _near(z.detach(), y.detach(), 0.05 if half else 1e-4)
    y.float().square().mean().backward()
    z.float().square().mean().backward()
    one, two = (torch.cat([p.grad.flatten() for p in network.parameters()]) for network in (plain, other))
    _near(two, one, 0.2 if half else 1e-3)
    for (key, mine), theirs in zip(other.state_dict().items(), plain.state_dict().values(), strict=True):
        if key.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked"):
            _near(mine, theirs, 0.05 if half else 1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_names_of_weights_copies_and_evaluation_are_as_before(name: str) -> None:
    plain, other = _network(name), _network(name)
    in_few_passes(other)
    assert list(plain.state_dict()) == list(other.state_dict())
    copied = copy.deepcopy(other)
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        copied(x)  # its statistics move
        assert torch.equal(plain.eval()(x), other.eval()(x))
        assert not torch.equal(copied.eval()(x), other(x))


def test_elsewhere_it_is_pytorchs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other layouts and types, and one value a channel."""
    monkeypatch.setattr(norms._Normalised, "apply", lambda *given: pytest.fail("not here"))
    for x in (torch.randn(4, 3, 8, 8), torch.randn(4, 3, 8, 8, dtype=torch.float64)):
        norm, plain = NormRelu(3).to(x.dtype), nn.BatchNorm2d(3).to(x.dtype)
        assert torch.equal(norm(x, x), torch.relu(plain(x) + x))
        assert torch.equal(norm.running_mean, plain.running_mean)
    with pytest.raises(ValueError, match="more than 1 value"):
        Norm(3)(torch.randn(1, 3, 1, 1))
    with pytest.raises(RuntimeError, match="3"):
        Norm(3)(_maps((2, 4, 2, 2), torch.float32, 0))


def test_without_running_statistics_none_are_written() -> None:
    norm, x = NormRelu(3), _maps((4, 3, 4, 4), torch.float32, 0)
    norm.track_running_stats = False
    y = norm(x)
    assert norm.num_batches_tracked == 0
    assert torch.equal(norm.running_mean, torch.zeros(3))
    assert torch.equal(y, NormRelu(3)(x))


def test_what_has_several_places_stays_as_it_is() -> None:
    norm, relu, pool = nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(1)
    twice = nn.Sequential(nn.Sequential(norm, relu), nn.Sequential(norm, nn.GELU()))
    pooled = nn.Sequential(pool, nn.BatchNorm2d(4), pool, relu)
    for network in (twice, pooled):
        before = copy.deepcopy(network).eval()
        in_few_passes(network)
        x = torch.randn(2, 4, 3, 3)
        assert torch.equal(network.eval()(x), before(x))
    assert type(norm) is nn.BatchNorm2d
    assert type(pooled[1]) is Norm
    assert type(pooled[3]) is nn.ReLU


def test_the_same_bits_each_time() -> None:
    found = []
    for _ in range(2):
        network = _network("resnet18")
        in_few_passes(network)
        x = torch.randn(16, 3, 32, 32, generator=torch.Generator().manual_seed(1))
        network(x).square().mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert torch.equal(*found)
