"""InfoNCE for the future against loops over the equation, closed forms and invariances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.losses.prediction import Ahead, info_nce_ahead

B, L, D, C, K, N = 3, 7, 4, 5, 3, 6
LENGTH = torch.tensor([7, 4, 1])


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Latents, context, weights, lengths, and negatives: four of these sequences (one twice), two of others."""
    z, origin = normal(B, L, D), torch.tensor([2, L + 3, 2, L + 1, -1, 99])
    negatives = torch.cat([z.flatten(0, 1)[origin[:4]], normal(2, D, seed=3)])
    return z, normal(B, L, C, seed=1), normal(K, D, C, seed=2), LENGTH, negatives, origin


def by_loops(
    z: np.ndarray, c: np.ndarray, w: np.ndarray, length: np.ndarray, negatives: np.ndarray, origin: np.ndarray
) -> tuple[list[float], list[int], list[int]]:
    """Van den Oord et al. 2018, eq. 3 and 4, for every pair of places in a sequence."""
    losses, hits, pairs = [0.0] * len(w), [0] * len(w), [0] * len(w)
    for k in range(1, len(w) + 1):
        for b in range(len(z)):
            for t in range(length[b] - k):
                f = math.exp(z[b, t + k] @ w[k - 1] @ c[b, t])
                others = [
                    math.exp(n @ w[k - 1] @ c[b, t])
                    for n, o in zip(negatives, origin, strict=True)
                    if o != b * z.shape[1] + t + k
                ]
                losses[k - 1] -= math.log(f / (f + sum(others)))
                hits[k - 1] += f > max(others)
                pairs[k - 1] += 1
    return losses, hits, pairs


def test_it_is_the_equation() -> None:
    values = inputs()
    ahead = info_nce_ahead(*values)
    losses, hits, pairs = by_loops(*(v.numpy() for v in values))
    torch.testing.assert_close(ahead.losses, torch.tensor(losses, dtype=torch.float64))
    assert ahead.hits.tolist() == hits
    assert ahead.pairs.tolist() == pairs == [9, 7, 5]
    assert 0 < sum(hits) < sum(pairs)


def test_without_weights_it_is_the_logarithm_of_the_candidates() -> None:
    z, c, w, length, negatives, origin = inputs()
    ahead = info_nce_ahead(z, c, 0 * w, length, negatives, torch.full_like(origin, -1))
    torch.testing.assert_close(ahead.losses / ahead.pairs, torch.full((K,), math.log(1 + N), dtype=torch.float64))
    assert ahead.hits.tolist() == [0] * K


def test_random_scores_give_about_the_logarithm_of_the_candidates() -> None:
    """For normal scores of deviation s it is above by s² / 2 and below by the gain of the mean of exponentials."""
    z, c, w = normal(64, 40, 16), normal(64, 40, 8, seed=1), 0.02 * normal(2, 16, 8, seed=2)
    negatives = normal(256, 16, seed=3)
    ahead = info_nce_ahead(z, c, w, torch.full((64,), 40), negatives, torch.full((256,), -1))
    assert (ahead.losses / ahead.pairs).tolist() == pytest.approx([math.log(257)] * 2, abs=0.1)
    assert (ahead.hits / ahead.pairs).tolist() == pytest.approx([1 / 257] * 2, abs=0.006)


def test_a_perfect_prediction_costs_nothing() -> None:
    z = 20 * torch.eye(6, dtype=torch.float64)[None]  # (1, 6, 6)
    c = torch.roll(z, -1, 1)  # knows the next frame
    ahead = info_nce_ahead(z, c, torch.eye(6, dtype=torch.float64)[None], torch.tensor([6]), z[0], torch.arange(6))
    assert float(ahead.losses) < 1e-9
    assert ahead.hits.tolist() == ahead.pairs.tolist() == [5]


def test_what_is_padding_does_not_matter() -> None:
    z, c, w, length, negatives, origin = inputs()
    ahead = info_nce_ahead(z, c, w, length, negatives, origin)
    noisy = [x.clone() for x in (z, c)]
    for x in noisy:
        x[1, 4:], x[2, 1:] = 100, -100
    for a, b in zip(ahead, info_nce_ahead(*noisy, w, length, negatives, origin), strict=True):
        assert torch.equal(a, b)
    longer = [torch.cat([x, torch.zeros(B, 5, x.shape[2])], 1) for x in (z, c)]
    moved = torch.where((origin >= 0) & (origin < B * L), origin // L * (L + 5) + origin % L, -1)
    for a, b in zip(ahead, info_nce_ahead(*longer, w, length, negatives, moved), strict=True):
        torch.testing.assert_close(a, b)


def test_parts_of_a_batch_add_up() -> None:
    """As processes do: each knows by its origin which negatives are its own."""
    z, c, w, length, negatives, origin = inputs()
    whole = info_nce_ahead(z, c, w, length, negatives, origin)
    parts = [info_nce_ahead(z[s], c[s], w, length[s], negatives, origin - s.start * L) for s in (slice(0, 1), slice(1, 3))]
    for name in Ahead._fields:
        torch.testing.assert_close(sum(getattr(p, name) for p in parts), getattr(whole, name))


def test_gradients_in_float64() -> None:
    z, c, w, length, negatives, origin = inputs()
    free = [x.requires_grad_() for x in (z, c, w, negatives.detach())]
    assert torch.autograd.gradcheck(lambda a, b, e, n: info_nce_ahead(a, b, e, length, n, origin).losses, free)


def test_steps_beyond_every_sequence_have_no_pair() -> None:
    z, c, w, _, negatives, origin = inputs()
    ahead = info_nce_ahead(z[:, :2], c[:, :2], w, torch.tensor([2, 2, 1]), negatives, origin)
    assert ahead.pairs.tolist() == [2, 0, 0]
    assert ahead.losses[1:].tolist() == [0, 0]


def test_only_itself_as_a_negative_is_none_and_its_gradient_finite() -> None:
    z, c, w, _, _, _ = inputs()
    z.requires_grad_()
    ahead = info_nce_ahead(z[:1, :2], c[:1, :2], w[:1], torch.tensor([2]), z[0, 1:2], torch.tensor([1]))
    assert ahead.losses.tolist() == [0]
    assert torch.autograd.grad(ahead.losses.sum(), z)[0].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_it_computes_in_float32(dtype: torch.dtype) -> None:
    values = inputs()
    halves = [v.to(dtype) if v.is_floating_point() else v for v in values]
    exact = info_nce_ahead(*(v.float() if v.is_floating_point() else v for v in halves))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(info_nce_ahead(*halves).losses, exact.losses)


@pytest.mark.parametrize("which", range(6))
def test_wrong_shapes_are_refused(which: int) -> None:
    values = list(inputs())
    values[which] = values[which][:-1]
    if which == 2:
        values[which] = values[which][:, :-1]
    with pytest.raises(ValueError, match="info_nce_ahead: "):
        info_nce_ahead(*values)
