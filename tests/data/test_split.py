"""Draws of labels: even over the classes, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlabeled.data.split import balanced_draw, hold_out
from unlabeled.errors import UserError


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.floats(0.01, 1), st.integers(0, 99))
def test_a_fraction_is_spread_as_evenly_as_counts_permit(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    drawn = balanced_draw(labels, fraction, seed)
    got = np.bincount(labels[drawn], minlength=len(counts))
    assert len(drawn) == max(len(counts), round(fraction * sum(counts)))
    assert (np.diff(drawn) > 0).all()
    level = got.max()
    assert all(g >= level - 1 or g == c for g, c in zip(got, counts, strict=True))
    assert got.min() >= 1


def test_an_int_is_that_many_of_each_class_and_unlabelled_are_never_drawn() -> None:
    labels = np.array([0, 1, -1, 0, 1, -1, 0, 1, 1])
    drawn = balanced_draw(labels, 2, 0)
    assert np.bincount(labels[drawn]).tolist() == [2, 2]
    assert np.array_equal(drawn, balanced_draw(labels, 2, 0))
    assert any(not np.array_equal(drawn, balanced_draw(labels, 2, s)) for s in range(1, 9))
    assert np.array_equal(balanced_draw(labels, 1.0, 0), np.flatnonzero(labels >= 0))


@pytest.mark.parametrize(("amount", "why"), [(0, "too few"), (9, "more than class"), (0.0, "outside"), (1.5, "outside")])
def test_amounts_out_of_range(amount: float, why: str) -> None:
    with pytest.raises(UserError, match=why):
        balanced_draw(np.array([0, 0, 1, 1, 1]), amount, 0)
    with pytest.raises(UserError, match="no sample is labelled"):
        balanced_draw(np.array([-1, -1]), 1, 0)


def test_a_fifth_is_held_out_and_leaves_no_class_untrained() -> None:
    labels = np.repeat(np.arange(5), 20)
    train, test = hold_out(100, labels, 0, "x")
    assert np.bincount(labels[test]).tolist() == [4] * 5
    assert sorted([*train, *test]) == list(range(100))
    uneven = np.repeat([0, 1, 2], [1000, 50, 1])
    train, test = hold_out(1051, uneven, 0, "x")
    assert len(test) == 210
    assert np.bincount(uneven[test]).tolist() == [185, 25]
    assert set(uneven[train]) == {0, 1, 2}


@st.composite
def grouped(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray | None]:
    """Groups of samples, -1 for none, and labels: mixed within groups, or one a group, or none; -1 for unlabelled."""
    sizes = draw(st.lists(st.integers(1, 30), min_size=2, max_size=40))
    random = np.random.default_rng(draw(st.integers(0, 999)))
    order = random.permutation(sum(sizes))
    groups, k = np.repeat(np.arange(len(sizes)) * 3, sizes)[order], draw(st.integers(1, 5))
    kind = draw(st.sampled_from(["mixed", "of a group", "none"]))
    if kind == "none":
        return np.where(random.random(len(groups)) < 0.1, -1, groups), None
    labels = random.integers(-1, k, len(groups)) if kind == "mixed" else random.integers(0, k, len(sizes) * 3)[groups]
    return groups, labels if (labels >= 0).any() else None


@settings(max_examples=200, deadline=None)
@given(grouped(), st.integers(0, 9))
def test_groups_are_held_out_whole_and_leave_every_class(case: tuple[np.ndarray, np.ndarray | None], seed: int) -> None:
    groups, labels = case
    n = len(groups)
    every = np.zeros(n, np.int64) if labels is None else labels
    possible = [
        g for g in np.unique(groups[groups >= 0])
        if (every[groups == g] >= 0).any() and set(every) - {-1} == set(every[groups != g]) - {-1}
    ]  # fmt: skip
    if not possible or len(np.unique(groups[groups >= 0])) < 2:
        with pytest.raises(UserError, match=r"x (has fewer than 2|: each)|x: each"):
            hold_out(n, labels, seed, "x", groups=groups)
        return
    train, test = hold_out(n, labels, seed, "x", groups=groups)
    again = hold_out(n, labels, seed, "x", groups=groups)
    assert np.array_equal(train, again[0])
    assert np.array_equal(test, again[1])
    assert sorted([*train, *test]) == list(range(n))
    assert len(test)
    assert not set(groups[train]) & set(groups[test])
    assert (groups[test] >= 0).all()
    assert set(every[train]) | {-1} == set(every) | {-1}


@pytest.mark.parametrize("of_a_group", [False, True])
def test_small_groups_make_an_even_fifth_and_others_for_other_seeds(of_a_group: bool) -> None:
    """As near to a fifth of each class as a group is large, with 60 groups of 5 to 15 and three classes."""
    splits = set()
    for seed in range(20):
        random = np.random.default_rng(seed)
        sizes = random.integers(5, 16, 60)
        groups = np.repeat(np.arange(60), sizes)
        labels = groups % 3 if of_a_group else random.integers(0, 3, len(groups))
        _, test = hold_out(len(groups), labels, seed, "x", groups=groups)
        assert abs(len(test) - 0.2 * len(groups)) <= 15
        share = np.bincount(labels[test]) / np.bincount(labels)
        assert share.min() > 0.1
        assert share.max() < 0.3
        splits.add(frozenset(hold_out(600, np.arange(600) % 3, seed, "x", groups=np.arange(600) // 10)[1].tolist()))
    assert len(splits) == 20


@pytest.mark.parametrize(
    ("sizes", "held"),
    [
        ([38, *[2] * 31], 20),
        ([50, 50], 50),
        ([70, 30], 30),
        ([1, 99], 1),
        ([40, 40, 40], 40),
        ([25] * 4, 25),
        ([20] * 5, 20),
        ([10] * 6, 10),
    ],
)
def test_few_groups_give_what_is_nearest_to_a_fifth(sizes: list[int], held: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    for seed in range(5):
        assert len(hold_out(len(groups), np.arange(len(groups)) % 2, seed, "x", groups=groups)[1]) == held


def test_groups_that_cannot_be_held_out() -> None:
    labels = np.repeat([0, 1, 2], 10)
    with pytest.raises(UserError, match="x has fewer than 2 different values, of which one could be held out: give another"):
        hold_out(30, labels, 0, "x", groups=np.zeros(30, np.int64))
    with pytest.raises(UserError, match="has fewer than 2"):
        hold_out(30, None, 0, "x", groups=np.where(labels == 1, 4, -1))
    with pytest.raises(UserError, match="x: each of its values has all samples of a class"):
        hold_out(30, labels, 0, "x", groups=labels)
    train, test = hold_out(30, labels, 0, "x", groups=np.where(np.arange(30) < 20, 7, np.arange(30) // 3))
    assert set(labels[test]) == {2}  # the other classes are in one group
    assert {0, 1, 2} <= set(labels[train])


def test_unlabelled_samples_go_with_their_group() -> None:
    groups, labels = np.arange(100) // 10, np.where(np.arange(100) % 2, -1, np.arange(100) // 2 % 2)
    train, test = hold_out(100, labels, 0, "x", groups=groups)
    assert len(test) == 20
    assert (labels[test] == -1).sum() == 10
    assert not set(groups[train]) & set(groups[test])


def test_held_out_of_unlabelled() -> None:
    train, test = hold_out(10, None, 0, "x")
    assert (len(train), len(test)) == (8, 2)
    partly = np.array([-1] * 50 + [0] * 10 + [1] * 10)
    assert len(hold_out(70, partly, 0, "x")[1]) == 4
    with pytest.raises(UserError, match="too few"):
        hold_out(1, None, 0, "x")
    with pytest.raises(UserError, match="single image"):
        hold_out(5, np.array([0, 0, 0, 0, 1]), 0, "x")
