"""Differences of figures of the same samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.paired import Clusters, Z, packed, paired, unpacked
from unlabeled.probes.score import Score
from unlabeled.registry import Choice


def rights(share: float, n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((1, n)) < share


def test_one_draw_has_the_normal_interval_of_the_mean_difference() -> None:
    ours, theirs = rights(0.8, 2000, 0), rights(0.7, 2000, 1)
    difference = ours[0].astype(float) - theirs[0]
    gap, half = paired(ours, theirs)
    assert gap == pytest.approx(difference.mean())
    assert half == pytest.approx(1.96 * difference.std() / math.sqrt(2000), rel=0.08)


def test_what_is_hard_for_both_cancels() -> None:
    """600 samples, of which both have the same 470 right and ours 25 more: 4.2 points, which two independent shares of 80%
    could not tell apart."""
    ours, theirs = np.zeros((1, 600)), np.zeros((1, 600))
    ours[0, :495] = theirs[0, :470] = 1
    gap, half = paired(ours, theirs)
    assert gap == pytest.approx(25 / 600)
    assert half == pytest.approx(1.96 * math.sqrt(25 / 600 * (1 - 25 / 600) / 600), rel=0.1)
    independent = 1.96 * math.sqrt((0.825 * 0.175 + 0.783 * 0.217) / 600)
    assert half < gap < independent


def test_draws_of_the_labels_are_drawn_again_too() -> None:
    """All samples of a draw alike: what varies is the draw."""
    by_draw = np.array([0.1, 0.3, 0.2, 0.6, 0.4])
    gap, half = paired(np.repeat(by_draw[:, None], 400, 1), np.zeros((5, 400)))
    assert gap == pytest.approx(by_draw.mean())
    assert half == pytest.approx(1.96 * by_draw.std() / math.sqrt(5), rel=0.15)


def test_the_other_way_round_is_the_same_with_the_other_sign() -> None:
    ours, theirs = rights(0.8, 500, 2), rights(0.7, 500, 3)
    (gap, half), (back, other) = paired(ours, theirs), paired(theirs, ours)
    assert (gap, half) == (-back, pytest.approx(other))


def test_samples_that_never_differ_have_an_interval() -> None:
    assert paired(np.ones((1, 40)), np.ones((1, 40))) == (0.0, pytest.approx(Z * Z / (40 + Z * Z)))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50))
def test_values_come_back(values: list[float]) -> None:
    np.testing.assert_array_equal(unpacked(packed(np.array(values))), np.float32(values))


def test_what_is_no_packed_value_is_told() -> None:
    for text in ("%", "AAAA"):
        with pytest.raises(ValueError, match=r"base64|packed|padding"):
            unpacked(text)


def score(right: np.ndarray, *, labelled: int = 10, seed: int = 0) -> Score:
    share = [float(row.mean()) for row in right]
    each = [packed(row) for row in right]
    return Score("knn", {}, 1.0, len(share), seed, [labelled] * len(share), right.shape[1], {"top1": share}, [],
                 {"top1": 0.04}, [], each)  # fmt: skip


def test_scores_of_the_same_samples_are_paired_and_others_are_not() -> None:
    ours, theirs = rights(0.8, 300, 4), rights(0.8, 300, 4) ^ rights(0.02, 300, 5)
    assert score(ours).above(score(theirs)) == pytest.approx(paired(ours, theirs))
    independent = math.hypot(0.04, 0.04)
    for other in (score(theirs, labelled=9), score(theirs, seed=1), score(theirs[:, :200])):
        assert score(ours).above(other)[1] == pytest.approx(independent)


def test_clusters_are_drawn_whole_as_in_loops() -> None:
    """Of three draws of the labels and clusters of 1 to 5 samples."""
    rng = np.random.default_rng(3)
    sizes = rng.integers(1, 6, 90)
    clusters = rng.permutation(np.repeat(np.arange(90) * 7, sizes))
    ours, theirs = (rng.random((3, len(clusters))) < share for share in (0.8, 0.6))
    gap, half = paired(ours, theirs, clusters)
    means = []
    for _ in range(2000):
        draws, picked = rng.integers(0, 3, 3), rng.integers(0, 90, 90)
        total, count = 0.0, 0
        for cluster in picked:
            for i in np.flatnonzero(clusters == cluster * 7):
                total += np.mean([float(ours[d, i]) - float(theirs[d, i]) for d in draws])
                count += 1
        means.append(total / count)
    low, high = np.quantile(means, [0.025, 0.975])
    assert gap == pytest.approx(ours.mean() - theirs.mean())
    assert half == pytest.approx(max(gap - low, high - gap), rel=0.1)


def test_copies_of_samples_tell_nothing_new() -> None:
    ours, theirs = rights(0.8, 200, 0), rights(0.6, 200, 1)
    copies = [np.repeat(x, 9, 1) for x in (ours, theirs)]
    alone, clustered = paired(ours, theirs), paired(*copies, np.repeat(np.arange(200), 9))
    assert clustered == pytest.approx(alone, rel=0.05)
    assert paired(*copies)[1] < 0.4 * clustered[1]


def test_one_cluster_alone_has_no_interval() -> None:
    values = packed(rights(0.5, 9, 0)[0])
    one = Score("knn", {}, 1.0, 1, 0, [9], 9, {"top1": [0.5]}, [], each=[values], clusters=packed(np.zeros(9)))
    assert one.above(one) == (0.0, None)


@pytest.mark.parametrize(("of", "said"), [
    (np.zeros(20), "no interval: all that is tested on shares one patient"),
    (np.arange(20) // 5, "intervals are of 4 clusters by patient, whose samples are not independent"),
    (None, ""),
])  # fmt: skip
def test_what_intervals_are_of_is_said(of: np.ndarray | None, said: str) -> None:
    h, y = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 2
    clusters = None if of is None else Clusters("patient", of)
    score = evaluate_features(h, y, h, y, protocol=Choice("knn", {"k": 3}), clusters=clusters)
    assert [note for note in score.notes if "interval" in note] == ([said] if said else [])
    assert ("top1" in score.intervals) == (not said.startswith("no"))


def test_few_clusters_have_students_interval_of_their_means() -> None:
    """Five patients of fifty slices, of which each gains: by their five differences alone."""
    rng = np.random.default_rng(0)
    gains = np.array([0.16, 0.2, 0.24, 0.28, 0.4])
    clusters, theirs = np.repeat(np.arange(5), 50), np.zeros((1, 250))
    ours = (
        (rng.permuted(np.tile(np.arange(50), (5, 1)), axis=1) < np.round(50 * gains)[:, None]).reshape(1, -1).astype(float)
    )
    gap, half = paired(ours, theirs, clusters)
    assert gap == pytest.approx(gains.mean())
    assert half == pytest.approx(stats.t.ppf(0.975, 4) * gains.std(ddof=1) / math.sqrt(5), rel=0.2)
    assert half < gap
    same = paired(np.ones((1, 250)), theirs, clusters)
    assert same == (1.0, pytest.approx(Z * Z / (5 + Z * Z))), "where all differ alike nothing tells by how much others do"
