"""Verification and its curve: against scikit-learn, closed forms, and what may and may not be looked at."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.probes.roc import auc, best_threshold, equal_error_rate
from unlabeled.probes.verification import Verification, draw_pairs

scores = st.lists(st.integers(-6, 6), min_size=1, max_size=30).map(lambda v: np.array(v, float))


def clusters(n: int, classes: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise around orthogonal centres: (n, 16), labels (n,)."""
    y = torch.arange(n) % classes
    noise = torch.randn(n, 16, generator=torch.Generator().manual_seed(seed))
    return torch.eye(16)[y] + spread * noise, y


@given(scores, scores)
@settings(max_examples=80, deadline=None)
def test_the_area_is_that_of_scikit_learn(same: np.ndarray, different: np.ndarray) -> None:
    truth = np.r_[np.ones(len(same)), np.zeros(len(different))]
    assert auc(same, different) == pytest.approx(roc_auc_score(truth, np.r_[same, different]))


@given(scores, scores)
@settings(max_examples=80, deadline=None)
def test_the_equal_error_rate_lies_on_scikit_learns_curve(same: np.ndarray, different: np.ndarray) -> None:
    truth = np.r_[np.ones(len(same)), np.zeros(len(different))]
    alarms, hits, _ = roc_curve(truth, np.r_[same, different], drop_intermediate=False)
    found = equal_error_rate(same, different)
    assert 0 <= found <= 1
    low, high = 0.0, 1.0  # the curve rises and the diagonal falls: bisection, with the steps of the curve as straight lines
    for _ in range(60):
        middle = (low + high) / 2
        at = np.interp(middle, *_lengthwise(alarms, hits))
        low, high = (middle, high) if at > 0 else (low, middle)
    assert found == pytest.approx(np.interp(low, _along(alarms, hits), alarms), abs=1e-6)


def _along(alarms: np.ndarray, hits: np.ndarray) -> np.ndarray:
    """How far along the curve each point is, in [0, 1]."""
    return (alarms + hits) / 2


def _lengthwise(alarms: np.ndarray, hits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return _along(alarms, hits), (1 - hits) - alarms


@given(scores, scores)
@settings(max_examples=80, deadline=None)
def test_no_threshold_is_better_than_the_best(same: np.ndarray, different: np.ndarray) -> None:
    def right(threshold: float) -> float:
        return float((same >= threshold).mean() + (different < threshold).mean())

    tried = [right(t) for t in np.arange(-8, 8, 0.5)]
    assert right(best_threshold(same, different)) == pytest.approx(max(tried))


def test_closed_forms() -> None:
    low, high = np.linspace(0, 1, 50), np.linspace(2, 3, 70)
    assert (auc(high, low), equal_error_rate(high, low), best_threshold(high, low)) == (1, 0, 1.5)
    assert (auc(low, high), equal_error_rate(low, high)) == (0, 1)
    alike = np.ones(5)
    assert (auc(alike, alike), equal_error_rate(alike, alike)) == (0.5, 0.5)
    mixed = np.array([0.0, 1.0, 2.0, 3.0])
    assert auc(mixed, mixed) == 0.5
    assert equal_error_rate(np.array([1.0, 3.0]), np.array([0.0, 2.0])) == 0.5


@pytest.mark.parametrize(("spread", "expected"), [(0.0, 1.0), (1e6, 0.5)])
def test_perfect_and_random_features(spread: float, expected: float) -> None:
    probe = Verification().fit(*clusters(600, 4, spread), seed=0)
    found = probe.score(*clusters(600, 6, spread, seed=1), seed=0)
    near = 0.0 if spread == 0 else 0.03
    assert found["auc"].value == pytest.approx(expected, abs=near)
    assert found["accuracy"].value == pytest.approx(expected, abs=near)
    assert found["eer"].value == pytest.approx(1 - expected, abs=near)


def test_the_figures_are_those_of_all_pairs() -> None:
    """An oracle in loops over every pair; the drawn pairs are as good as all where classes are equally large."""
    h, y = clusters(120, 4, 0.35)
    unit = (h / h.norm(dim=1, keepdim=True)).numpy()
    pairs = [(i, j) for i in range(len(y)) for j in range(i)]
    cosine = np.array([unit[i] @ unit[j] for i, j in pairs])
    truth = np.array([bool(y[i] == y[j]) for i, j in pairs])
    found = Verification(pairs=50_000).fit(h, y, seed=0).score(h, y, seed=0)
    assert found["auc"].value == pytest.approx(roc_auc_score(truth, cosine), abs=0.01)
    assert found["eer"].value == pytest.approx(equal_error_rate(cosine[truth], cosine[~truth]), abs=0.01)


def test_pairs_are_what_they_are_called_and_classes_weigh_alike() -> None:
    y = np.repeat([3, 5, 9, 11], [200, 40, 10, 1])
    np.random.default_rng(0).shuffle(y)
    same, different = draw_pairs(y, 30_000, np.random.default_rng(1))
    assert (y[same[:, 0]] == y[same[:, 1]]).all()
    assert (same[:, 0] != same[:, 1]).all()
    assert (y[different[:, 0]] != y[different[:, 1]]).all()
    for classes, positions in (([3, 5, 9], same[:, 0]), ([3, 5, 9, 11], different[:, 0]), ([3, 5, 9, 11], different[:, 1])):
        shares = [(y[positions] == c).mean() for c in classes]
        assert shares == pytest.approx([1 / len(classes)] * len(classes), abs=0.02)
    drawn = np.unique(np.sort(same[y[same[:, 0]] == 9], 1), axis=0)
    assert len(drawn) == 45, "all pairs of a class of ten come up"


def test_the_threshold_is_that_of_the_known_classes() -> None:
    known, new = clusters(200, 4, 0.3), clusters(200, 4, 0.3, seed=1)
    probe = Verification(pairs=2000).fit(*known, seed=0)
    before = probe.threshold_
    shifted = new[0] + 10  # all cosines near 1: at the old threshold everything is called of one class
    found = probe.score(shifted, new[1], seed=0)
    assert probe.threshold_ == before
    assert found["accuracy"].value == pytest.approx(0.5, abs=0.01)
    assert found["auc"].value > 0.7
    assert probe.predict(shifted[:5], shifted[5:10]).all()
    assert not probe.predict(torch.eye(16)[:2], torch.eye(16)[2:4]).any()


def test_seeds() -> None:
    known, new = clusters(200, 4, 0.3), clusters(200, 4, 0.3, seed=1)

    def once(seed: int) -> dict[str, float]:
        found = Verification(pairs=500).fit(*known, seed=seed).score(*new, seed=seed)
        return {name: figure.value for name, figure in found.items()}

    assert once(3) == once(3) != once(4)


@pytest.mark.parametrize(
    "change",
    [lambda h, y: (h[y == 0], y[y == 0]), lambda h, y: (h[:4], y[:4])],
    ids=["one class", "one image a class"],
)
def test_too_few(change: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    few = change(*clusters(40, 4, 0.1))
    with pytest.raises(UserError, match=r"known classes or more.*--data with more"):
        Verification().fit(*few, seed=0)
    with pytest.raises(UserError, match="new classes or more"):
        Verification().fit(*clusters(40, 4, 0.1), seed=0).score(*few, seed=0)
    with pytest.raises(UserError, match="pairs is 0"):
        Verification(pairs=0).fit(*clusters(40, 4, 0.1), seed=0)
