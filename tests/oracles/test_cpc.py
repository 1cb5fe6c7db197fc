"""CPC: its objective in loops, what its negatives are, and that it learns from sound what comes next."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Progress
from unlabeled.encoders.sound import CPCNet
from unlabeled.methods.cpc import CPC

AT = Progress(3, 10, 0)


class Network(nn.Module):
    """An encoder that is nothing but its network."""

    def __init__(self, backbone: CPCNet) -> None:
        super().__init__()
        self.backbone = backbone

    def local(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        last, maps = self.backbone.forward_intermediates(x)
        return self.backbone.forward_head(last), maps


def method(samples: int = 96, width: int = 8, context: int = 6, **options: Any) -> CPC:
    torch.manual_seed(0)
    encoder: Any = Network(CPCNet(width=width, context=context, strides=(3, 2)))
    return CPC(encoder, DataShape(9, 1, samples), **options)


def sounds(*lengths: int, samples: int = 96) -> Tensor:
    """Sines of different frequencies, (B, 1, samples), padded with zeros."""
    t, generator = torch.arange(samples), torch.Generator().manual_seed(0)
    rows = [torch.sin((0.1 + torch.rand(1, generator=generator)) * t + i).where(t < n, 0) for i, n in enumerate(lengths)]
    return torch.stack(rows)[:, None]


def batch(x: Tensor) -> Batch:
    return Batch([x], torch.arange(len(x)))


def test_the_loss_is_the_papers() -> None:
    """Eq. 4, the mean over all pairs of frames of a recording that are 1 to 3 apart."""
    model, x = method(steps=3, negatives=5), sounds(96, 31, 6, 50)
    z, c = (m.mT.detach().double().numpy() for m in model.encoder.local(x)[1])
    w = model.ahead.weight.detach().double().numpy().reshape(3, 8, 6)
    lengths = [16, 6, 1, 9]  # frames of 6 samples
    drawn = model.draw(torch.tensor(lengths), 16, AT).tolist()
    losses, hits = [], []
    for k in range(1, 4):
        of_step = []
        for b, length in enumerate(lengths):
            for t in range(length - k):
                own = b * 16 + t + k
                f = math.exp(z[b, t + k] @ w[k - 1] @ c[b, t])
                others = [math.exp(z[n // 16, n % 16] @ w[k - 1] @ c[b, t]) for n in drawn if n != own]
                losses.append(-math.log(f / (f + sum(others))))
                of_step.append(f > max(others))
        hits.append(np.mean(of_step))
    loss = model(batch(x), AT)
    assert loss.total.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert loss.terms["accuracy_next"].item() == pytest.approx(hits[0])
    assert loss.terms["accuracy"].item() == pytest.approx(np.mean(hits))


def test_untrained_it_guesses() -> None:
    loss = method(negatives=64)(batch(sounds(*[96] * 32)), AT)
    assert loss.total.item() == pytest.approx(math.log(65), abs=0.5)
    assert loss.terms["accuracy"].item() < 0.15


def test_negatives_are_frames_of_all_recordings_and_never_padding() -> None:
    model, lengths = method(negatives=6000), torch.tensor([16, 1, 4])
    drawn = model.draw(lengths, 16, AT)
    recording, frame = drawn // 16, drawn % 16
    assert (frame < lengths[recording]).all()
    assert len(drawn.unique()) == 16 + 1 + 4
    assert (torch.bincount(recording) - 2000).abs().max() < 5 * 2000**0.5


def test_the_step_alone_decides_the_negatives() -> None:
    model, lengths = method(negatives=50), torch.tensor([16, 9])
    torch.manual_seed(1)
    first = model.draw(lengths, 16, AT)
    torch.manual_seed(2)
    assert torch.equal(model.draw(lengths, 16, AT), first)
    assert not torch.equal(model.draw(lengths, 16, Progress(4, 10, 0)), first)


def test_padding_does_not_matter() -> None:
    model, x = method(), sounds(60, 31, 48)
    longer = torch.cat([x, torch.zeros(3, 1, 30)], 2)
    assert model(batch(longer), AT).total.item() == pytest.approx(model(batch(x), AT).total.item(), rel=1e-5)


def test_everything_is_trained() -> None:
    model = method()
    model(batch(sounds(96, 96, 50)), AT).total.backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())


def test_of_recordings_of_one_frame_nothing_is_learned_and_nothing_breaks() -> None:
    model = method(samples=6)
    loss = model(batch(sounds(6, 3, samples=6)), AT)
    loss.total.backward()
    assert loss.total.item() == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_steps_are_no_more_than_the_frames_of_a_view_allow() -> None:
    assert method(steps=40).ahead.weight.shape == (15 * 8, 6)
    assert method(steps=12).ahead.weight.shape == (12 * 8, 6)


def test_it_learns_what_comes_next() -> None:
    """A sine is known by what was heard of it."""
    model, x = method(width=48, context=32, negatives=64, steps=4), sounds(*[96] * 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0)
    accuracies = []
    for step in range(80):
        loss = model(batch(x), Progress(step, 80, 0))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        accuracies.append(loss.terms["accuracy"].item())
        assert not any(term.requires_grad for term in loss.terms.values())
    assert np.mean(accuracies[:3]) < 0.1
    assert np.mean(accuracies[-10:]) > 0.5
