"""The tiled path against the plain one: values, gradients, left-out columns, and the memory that it is for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from unlabeled import losses
from unlabeled.losses import tiles

from .loss_cases import normal

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 3, 2, 2])


def plain_nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    z, n = F.normalize(torch.cat([z1, z2]), dim=1), len(z1)
    logits = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    return F.cross_entropy(logits, torch.arange(2 * n).roll(n))


def plain_info_nce(q: Tensor, k: Tensor, temperature: float) -> Tensor:
    return F.cross_entropy(F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / temperature, torch.arange(len(q)))


def plain_supervised(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    z = F.normalize(z, dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(float("-inf"))
    mates = (labels[:, None] == labels[None]).fill_diagonal_(False)
    logs = logits.log_softmax(1).masked_fill(~mates, 0).sum(1)[mates.any(1)]
    return -(logs / mates.sum(1)[mates.any(1)]).mean()


def agree(
    found: Callable[[Tensor, Tensor], Tensor], expected: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, rel: float
) -> None:
    x, y = (t.detach().clone().requires_grad_() for t in (a, b))
    value, target = found(x, y), expected(x, y)
    assert float(value.detach()) == pytest.approx(float(target.detach()), rel=rel)
    slopes = [torch.autograd.grad(v, (x, y), materialize_grads=True) for v in (value, target)]
    for one, other in zip(*slopes, strict=True):
        assert float((one - other).norm()) <= 3 * rel * float(other.norm()) + 1e-12


def each(temperature: float, labels: Tensor) -> list[tuple[Callable[[Tensor, Tensor], Tensor], ...]]:
    """The three losses that work through tiles, each beside its plain form."""
    return [
        (lambda x, y: losses.nt_xent(x, y, temperature), lambda x, y: plain_nt_xent(x, y, temperature)),
        (lambda x, y: losses.info_nce(x, y, None, temperature), lambda x, y: plain_info_nce(x, y, temperature)),
        (
            lambda x, y: losses.supervised_contrastive(x, labels, temperature),
            lambda x, y: plain_supervised(x, labels, temperature),
        ),
    ]


@pytest.mark.parametrize("temperature", [0.05, 0.5])
@pytest.mark.parametrize("budget", [1, 5, 37, 1 << 24])
def test_any_tile_gives_the_plain_value_and_gradient(
    budget: int, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tiles, "BUDGET", budget)
    for found, expected in each(temperature, LABELS):
        agree(found, expected, normal(9, 4), normal(9, 4, seed=1), 1e-11)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_float32_is_within_a_millionth(temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "BUDGET", 1 << 12)
    a = normal(300, 64, dtype=torch.float32)
    b = a + normal(300, 64, seed=1, dtype=torch.float32)
    for found, expected in each(temperature, torch.arange(300) % 20):
        agree(found, expected, a, b, 1e-6)


@settings(max_examples=60, deadline=None)
@given(
    b=st.integers(1, 7),
    m=st.integers(1, 9),
    budget=st.integers(1, 70),
    left_out=st.integers(0, 3),
    scale=st.sampled_from([0.1, 1.0, 100.0]),
    seed=st.integers(0, 10**6),
)
def test_log_sum_exp_is_its_definition(b: int, m: int, budget: int, left_out: int, scale: float, seed: int) -> None:
    q, k = normal(b, 3, seed=seed).requires_grad_(), normal(m, 3, seed=seed + 1).requires_grad_()
    generator = torch.Generator().manual_seed(seed)
    out = [torch.randint(0, m, (b,), generator=generator) for _ in range(left_out)]
    allowed = torch.ones(b, m, dtype=torch.bool)
    for column in out:
        allowed[torch.arange(b), column] = False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiles, "BUDGET", budget)
        found = tiles.log_sum_exp(q, k, scale, out)
        some = allowed.any(1)
        assert (found[~some] == float("-inf")).all()
        slopes = torch.autograd.grad(torch.where(some, found, 0).sum(), (q, k))
    logits = scale * q @ k.T
    expected = torch.where(some, logits.masked_fill(~allowed, -1e300).logsumexp(1), 0)
    torch.testing.assert_close(found[some], expected[some])
    torch.testing.assert_close(slopes, torch.autograd.grad(expected.sum(), (q, k)))


def test_gradcheck_of_the_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = normal(4, 3).requires_grad_(), normal(6, 3, seed=1).requires_grad_()
    for budget in (4, 1 << 24):
        monkeypatch.setattr(tiles, "BUDGET", budget)
        assert torch.autograd.gradcheck(lambda q, k: tiles.log_sum_exp(q, k, 2.0, [torch.tensor([0, 5, 5, 2])]), (q, k))


def test_second_derivatives_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = normal(3, 2).requires_grad_(), normal(4, 2, seed=1).requires_grad_()
    out = [torch.tensor([0, 3, 2])]
    for budget in (4, 1 << 24):
        monkeypatch.setattr(tiles, "BUDGET", budget)
        assert torch.autograd.gradgradcheck(lambda q, k: tiles.log_sum_exp(q, k, 2.0, out), (q, k))


@pytest.mark.parametrize("budget", [4, 1 << 24])
@pytest.mark.parametrize("which", range(4))
def test_a_temperature_can_be_learned(which: int, budget: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "BUDGET", budget)
    x, y, t = normal(9, 4).requires_grad_(), normal(9, 4, seed=1).requires_grad_(), torch.tensor(0.3, dtype=torch.float64)
    found: Callable[[Tensor, Tensor, Tensor], Tensor] = [
        lambda x, y, t: losses.nt_xent(x, y, t),
        lambda x, y, t: losses.info_nce(x, y, None, t),
        lambda x, y, t: losses.supervised_contrastive(x, LABELS, t),
        lambda x, y, t: losses.debiased_nt_xent(x, y, t, 0.3),
    ][which]
    assert torch.autograd.gradcheck(found, (x, y, t.requires_grad_()))
    torch.testing.assert_close(found(x, y, t), found(x, y, 0.3))  # type: ignore[arg-type]


def test_no_large_matrix_is_ever_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor that is made, forward and backward, is looked at."""
    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            result = func(*args, **(kwargs or {}))
            for t in result if isinstance(result, tuple | list) else [result]:
                largest = max(largest, t.numel() if isinstance(t, Tensor) else 0)
            return result

    monkeypatch.setattr(tiles, "BUDGET", 1 << 10)
    n = 256
    a, b = (normal(n, 8, seed=s).requires_grad_() for s in range(2))
    names = torch.arange(n) % 7
    for loss in (
        lambda: losses.nt_xent(a, b),
        lambda: losses.info_nce(a, b),
        lambda: losses.info_nce(a, b, a, exclude=torch.arange(n)),
        lambda: losses.debiased_nt_xent(a, b),
        lambda: losses.n_pair(a, b),
        lambda: losses.supervised_contrastive(a, names),
    ):
        largest = 0
        with Watch():
            loss().backward()
        assert 1 << 10 <= largest <= 2 * n * 8
