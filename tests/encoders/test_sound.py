"""The network of CPC against loops over its equations; padding changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.encoders.sound import CPCNet, build_encoder, mean_and_deviation, strides_for, valid_length
from unlabeled.errors import UserError
from unlabeled.registry import Choice

Array = np.ndarray


def small(strides: tuple[int, ...] = (3, 2), seed: int = 0) -> CPCNet:
    torch.manual_seed(seed)
    return CPCNet(width=6, context=5, strides=strides).double()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolved(x: Array, weight: Array, bias: Array, gain: Array, shift: Array, stride: int) -> Array:
    """(T, C) to (L, D): a filter of 2 · stride at every stride, a norm over channels, a ReLU; no padding."""
    frames = []
    for start in range(0, len(x) - 2 * stride + 1, stride):
        y = np.array([float((w.reshape(2 * stride, -1) * x[start : start + 2 * stride]).sum()) for w in weight]) + bias
        y = (y - y.mean()) / np.sqrt(((y - y.mean()) ** 2).mean() + 1e-5) * gain + shift
        frames.append(np.maximum(y, 0))
    return np.array(frames)


def recurrent(z: Array, wi: Array, wh: Array, bi: Array, bh: Array) -> Array:
    """The GRU of Cho et al. 2014, in the form that PyTorch documents: gates r, u, and the new state."""
    c, states = np.zeros(wh.shape[1]), []
    for frame in z:
        (ri, ui, ni), (rh, uh, nh) = np.split(wi @ frame + bi, 3), np.split(wh @ c + bh, 3)
        r, u = 1 / (1 + np.exp(-(ri + rh))), 1 / (1 + np.exp(-(ui + uh)))
        c = (1 - u) * np.tanh(ni + r * nh) + u * c
        states.append(c)
    return np.array(states)


@pytest.mark.parametrize(("strides", "samples"), [((3, 2), 24), ((3, 2), 25), ((2,), 7), ((5, 4, 2), 90)])
def test_it_is_the_equations(strides: tuple[int, ...], samples: int) -> None:
    net, x = small(strides), noise(1, 1, samples)
    hop, span = int(np.prod(strides)), 1
    for stride in strides[::-1]:
        span = (span - 1) * stride + 2 * stride  # of a convolution whose filter has two strides
    before = (span - hop) // 2
    frames = int(np.ceil(samples / hop))
    signal = np.zeros((before + frames * hop + span, 1))
    signal[before : before + samples, 0] = x[0, 0]
    maps: list[Array] = []
    for frame in range(frames):
        y = signal[frame * hop : frame * hop + span]
        for part in net.convolutions:
            weights = (p.detach().numpy() for p in (part.linear.weight, part.linear.bias, part.norm.weight, part.norm.bias))
            y = convolved(y, *weights, part.stride)
        assert len(y) == 1
        maps.append(y[0])
    c = recurrent(np.array(maps), *(p.detach().numpy() for p in net.gru.parameters()))
    last, (z, context) = net.forward_intermediates(x)
    assert (net.hop, net.span) == (hop, span)
    np.testing.assert_allclose(z[0].detach().numpy().T, maps, atol=1e-10)
    np.testing.assert_allclose(context[0].detach().numpy().T, c, atol=1e-10)
    assert torch.equal(last, context)
    np.testing.assert_allclose(net(x)[0].detach().numpy(), np.concatenate([c.mean(0), c.std(0)]), atol=1e-6)


def test_the_papers_sizes() -> None:
    net = CPCNet(width=512, context=256, strides=(5, 4, 2, 2, 2))
    assert (net.hop, net.span) == (160, 465)  # section 3.1: a feature vector for every 10 ms at 16 kHz
    z, c = net.forward_intermediates(torch.randn(2, 1, 20480))[1]
    assert z.shape == (2, 512, 128)
    assert c.shape == (2, 256, 128)
    assert net(torch.randn(2, 1, 3200)).shape == (2, 512)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000])
def test_a_frame_is_10_ms_at_any_rate(rate: int) -> None:
    assert CPCNet(width=4, context=4, strides=strides_for(rate)).hop / rate == pytest.approx(0.01, rel=0.03)


@pytest.mark.parametrize("samples", [1, 5, 6, 7, 40, 64])
@pytest.mark.parametrize("zeros", [1, 5, 6, 100])
def test_zeros_at_the_end_change_nothing(samples: int, zeros: int) -> None:
    net, x = small(), noise(3, 1, samples)
    padded = torch.cat([x, torch.zeros(3, 1, zeros)], 2)
    torch.testing.assert_close(net(padded), net(x), rtol=0, atol=1e-12)
    for long, short in zip(net.forward_intermediates(padded)[1], net.forward_intermediates(x)[1], strict=True):
        torch.testing.assert_close(long[:, :, : short.shape[2]], short, rtol=0, atol=1e-12)
        assert not long[:, :, short.shape[2] :].any()


def test_others_in_the_batch_change_nothing() -> None:
    net = small()
    alone = [noise(1, 1, length, seed=length) for length in (60, 7, 33)]
    together = torch.cat([torch.cat([x, torch.zeros(1, 1, 60 - x.shape[2])], 2) for x in alone])
    torch.testing.assert_close(net(together), torch.cat([net(x) for x in alone]), rtol=0, atol=1e-12)


def test_the_context_has_not_heard_what_comes_later() -> None:
    net, x = small(), noise(1, 1, 60).requires_grad_()
    z, c = net.forward_intermediates(x)[1]
    for maps, heard in ((z, range(4 * 6 - 4, 4 * 6 - 4 + net.span)), (c, range(4 * 6 - 4 + net.span))):
        slope = torch.autograd.grad(maps[0, :, 4].sum(), x, retain_graph=True)[0][0, 0]
        assert set(slope.nonzero().flatten().tolist()) <= set(heard)
        assert slope[heard[-1]] != 0


@pytest.mark.parametrize("samples", [1, 50])
def test_silence_is_finite(samples: int) -> None:
    net, x = small(), torch.zeros(2, 1, samples, dtype=torch.float64).requires_grad_()
    h = net(x)
    h.square().sum().backward()
    assert h.isfinite().all()
    assert h[0].any()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    torch.testing.assert_close(h, net(torch.zeros(2, 1, 7, dtype=torch.float64)))


def test_valid_length() -> None:
    x = torch.tensor([[[0.0, 1, 0, 0], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 2]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    assert valid_length(x).tolist() == [2, 4, 0]
    assert valid_length(x.short()).tolist() == [2, 4, 0]


def test_mean_and_deviation() -> None:
    x, length = noise(3, 4, 9), torch.tensor([9, 1, 4])
    expected = [[*row[:, :n].mean(1), *row[:, :n].std(1)] for row, n in zip(x.numpy(), length.tolist(), strict=True)]
    torch.testing.assert_close(mean_and_deviation(x, length), torch.tensor(expected), rtol=1e-6, atol=1.1e-4)
    beyond = x.clone()
    beyond[1, :, 1:], beyond[2, :, 4:] = torch.nan, torch.inf
    assert torch.equal(mean_and_deviation(beyond, length), mean_and_deviation(x, length))
    assert not mean_and_deviation(x, torch.zeros(3, dtype=torch.int64)).isnan().any()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (
            torch.ones(1, 1, 800, dtype=torch.int32),
            "the recordings are int32, whose range nobody knows: give int16, or",
        ),
        (
            torch.linspace(-20000, 20000, 800).view(1, 1, 800),
            "hold floats from -2e+04 to 2e.04, and this encoder takes",
        ),
    ],
)
def test_recordings_of_another_range_are_refused(x: torch.Tensor, said: str) -> None:
    encoder = build_encoder(Choice("cpc", {"width": 8, "context": 8}), Choice("sound", {"rate": 8000, "seconds": 0.1}), None)
    with pytest.raises(UserError, match=said.replace("+", r"\+")):
        encoder.eval()(x)
