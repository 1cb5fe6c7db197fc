"""Gradients of convolutions of few channels: those of float64, whichever way they are computed."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from command import ONE, images, ok
from torch import Tensor, nn

from unlabeled import UserError
from unlabeled.compute.gradients import check_gradients, without_strides, wrong
from unlabeled.encoders.image import build_encoder
from unlabeled.registry import Choice
from unlabeled.training import step


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (3, 1), (4, 1), (7, 1), (12, 1), (8, 2)])
@pytest.mark.parametrize("stride", [2, (1, 2), (3, 2)])
def test_strided_convolutions_of_one_place_and_few_channels(channels: int, groups: int, stride: Any, layout: Any) -> None:
    """On a processor with AVX2 alone, oneDNN's own gradient of them is wrong or ends the process."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(channels, 6, 1, stride, groups=groups))
    right = copy.deepcopy(network).double()
    without_strides(network)
    assert network[0].stride == (1, 1)
    network.to(memory_format=layout)
    x = torch.randn(16, channels, 8, 9)
    y, z = network(x.contiguous(memory_format=layout)), right(x.double())
    torch.testing.assert_close(y.double(), z, rtol=1e-4, atol=1e-5)
    g = torch.randn_like(z)
    (y * g).sum().backward()
    (z * g).sum().backward()
    for mine, theirs in zip(network.parameters(), right.parameters(), strict=True):
        torch.testing.assert_close(mine.grad.double(), theirs.grad, rtol=1e-4, atol=1e-4)


def test_only_they_lose_their_strides() -> None:
    convs = [
        nn.Conv2d(16, 4, 1, 2),
        nn.Conv2d(4, 4, 3, 2),
        nn.Conv2d(4, 4, 1, 2, padding=1),
        nn.Conv1d(4, 4, 1, 2),
        nn.Conv3d(4, 4, 1, 2, padding="valid"),
    ]
    for conv in convs:
        without_strides(conv)
    assert [max(conv.stride) for conv in convs] == [2, 2, 2, 1, 1]
    x = torch.arange(20.0).view(1, 4, 5)
    without_strides(convs[3])  # a second time changes nothing
    torch.testing.assert_close(convs[3](x), torch.conv1d(x, convs[3].weight, convs[3].bias, 2))


def test_a_narrow_encoder_has_none_left() -> None:
    made = build_encoder(Choice("resnet18", {"width": 4}), 3, 32, torch.zeros(3), torch.ones(3))
    points = [conv for conv in made.modules() if isinstance(conv, nn.Conv2d) and conv.kernel_size == (1, 1)]
    assert {conv.in_channels for conv in points if conv.stride == (2, 2)} == {16}  # the last of its three shortcuts


class Off(nn.Conv2d):
    """A convolution whose gradient is off by a hundredth while oneDNN is used, or always."""

    always = False

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y = super()._conv_forward(x, weight, bias)
        off = x.dtype == torch.float32 and (self.always or torch.backends.mkldnn.enabled)  # type: ignore[attr-defined]
        return y + (0.01 * (y - y.detach()) if off else 0)


@pytest.fixture
def enabled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", True)


@pytest.mark.usefixtures("enabled")
def test_a_wrong_gradient_is_found_and_computed_without_onednn(capsys: pytest.CaptureFixture[str]) -> None:
    check_gradients(nn.Sequential(nn.Conv2d(3, 8, 3, 2), Off(16, 8, 3), Off(4, 8, 3, groups=2)))
    assert torch.backends.mkldnn.enabled  # type: ignore[attr-defined]
    assert not wrong(nn.Conv2d(3, 8, 3, 2).to(memory_format=torch.channels_last))
    network = nn.Sequential(nn.Conv2d(3, 8, 3, 2), Off(4, 8, 3))
    check_gradients(network)
    assert not torch.backends.mkldnn.enabled  # type: ignore[attr-defined]
    said = "oneDNN gives a wrong gradient on this processor, of a convolution whose weights are (8, 4, 3, 3): it is left out"
    assert said in capsys.readouterr().out
    assert not wrong(network[1])


@pytest.mark.usefixtures("enabled")
def test_one_that_nothing_helps_is_refused() -> None:
    conv = Off(3, 5, 1)
    conv.always = True
    with pytest.raises(
        UserError, match=r"gives a wrong gradient .* weights are \(5, 3, 1, 1\): nothing right would be learned"
    ):
        check_gradients(conv)


def kinds(tried: list[nn.Module]) -> list[set[int]]:
    """Channels that enter the convolutions of few, of each network that was tried."""
    convs = [[m for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels < 16] for network in tried]
    return [{conv.in_channels for conv in each} for each in convs]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The networks that a training tries."""
    found: list[nn.Module] = []
    monkeypatch.setattr(step, "check_gradients", lambda network: found.append(network) or check_gradients(network))
    return found


def test_a_training_tries_its_encoder_and_what_the_method_adds(tmp_path: Any, tried: list[nn.Module]) -> None:
    """A decoder of 5 channels and a critic; none of the encoder's convolutions has 5."""
    x, y = images(32)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y)
    own = ("--method", "context-encoder", "--method.width", "5")
    ok("pretrain", tmp_path / "x.npz", *own, *ONE, "--out", tmp_path / "run")
    (channels,) = kinds(tried)
    assert {3, 5} <= channels


def test_fine_tuning_tries_its_encoder(tmp_path: Any, tried: list[nn.Module]) -> None:
    x, y = images(48)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y)
    ok("pretrain", tmp_path / "x.npz", *ONE, "--method", "random", "--out", tmp_path / "run")
    assert not tried, "a method that learns nothing has no gradient"
    ok("evaluate", tmp_path / "run", "--protocol", "finetune:steps=1,epochs=1", "--against", "none", "--draws", "1")
    assert kinds(tried)
    assert 3 in kinds(tried)[0]
