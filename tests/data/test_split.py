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


def test_held_out_of_unlabelled() -> None:
    train, test = hold_out(10, None, 0, "x")
    assert (len(train), len(test)) == (8, 2)
    partly = np.array([-1] * 50 + [0] * 10 + [1] * 10)
    assert len(hold_out(70, partly, 0, "x")[1]) == 4
    with pytest.raises(UserError, match="too few"):
        hold_out(1, None, 0, "x")
    with pytest.raises(UserError, match="single image"):
        hold_out(5, np.array([0, 0, 0, 0, 1]), 0, "x")
