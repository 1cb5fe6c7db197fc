"""The sentence that opens every evaluation: whether pretraining helped."""

from __future__ import annotations

from pathlib import Path

import pytest

from unlabeled.evaluating.evaluation import Evaluation
from unlabeled.probes.score import Score


def score(draws: list[float]) -> Score:
    interval = {"top1": 0.03} if len(draws) == 1 else {}
    return Score("knn", {}, 1, len(draws), 0, [3], 10, {"top1": draws}, [], interval)


@pytest.mark.parametrize(
    ("ours", "theirs", "begins", "holds"),
    [
        (
            [[0.9, 0.92]],
            [[0.5, 0.52]],
            "Pretraining helped: knn with 1 per class of labels gives 91.0 ± 1.4%",
            "40.0 ± 2.0 points",
        ),
        ([[0.9]], [[0.5]], "Pretraining helped:", "40.0 ± 4.2 points more than raw pixels."),
        ([[0.9, 0.5]], [[0.6, 0.62]], "Pretraining made no clear difference:", "gentler crops"),
        ([[0.5, 0.5]], [[0.5, 0.5]], "Pretraining made no clear difference:", "other views, another method, more steps"),
        (
            [[0.5]],
            [[0.51]],
            "Pretraining made no clear difference:",
            "1.0 ± 4.2 points less than raw pixels, which is",
        ),
        ([[0.5]], [[0.6]], "Pretraining did not help:", "it made features worse than raw pixels"),
        (
            [[0.9], [0.9]],
            [[0.5], [0.6]],
            "Pretraining helped:",
            "by more than the spread in all 2 comparisons, by each protocol's first figure.",
        ),
        (
            [[0.9], [0.4]],
            [[0.5], [0.6]],
            "Pretraining helped only in part:",
            "not better than raw pixels with knn 2 per",
        ),
        (
            [[0.9, 0.9], [0.7, 0.5]],
            [[0.5, 0.5], [0.55, 0.55]],
            "Pretraining helped:",
            "not clearly better than raw pixels",
        ),
    ],
)
def test_the_sentence(ours: list[list[float]], theirs: list[list[float]], begins: str, holds: str) -> None:
    scores = {("pixels", str(i)): [score(draws)] for i, draws in enumerate(theirs, 1)}
    scores |= {("run", str(i)): [score(draws)] for i, draws in enumerate(ours, 1)}
    found = Evaluation(Path("x"), "run", "data", "a test", scores)
    first, *_ = found.lines()
    assert isinstance(first, str)
    assert first.startswith(begins)
    assert holds in first
    assert found.json()["answer"] == [first]


def said(**scores: Score) -> str | None:
    return Evaluation(Path("x"), "run", "data", "a test", {(name, "100%"): [found] for name, found in scores.items()}).answer


@pytest.mark.parametrize(
    ("random", "pixels", "begins", "holds"),
    [
        (
            0.6,
            0.4,
            "Pretraining did not help: knn",
            "it made features worse than an untrained encoder of the same shape. What",
        ),
        (0.4, 0.6, "Pretraining did not help: knn", "it made features worse than raw pixels. What usually helps"),
        (
            0.6,
            0.6,
            "Pretraining did not help: knn",
            "worse than an untrained encoder of the same shape and raw pixels. What",
        ),
        (0.49, 0.4, "Pretraining made no clear difference: knn", "not clearly better than an untrained encoder of the same"),
        (0.51, 0.4, "Pretraining made no clear difference: knn", "What usually helps"),
        (0.4, 0.49, "Pretraining helped: knn", "not clearly better than raw pixels"),
    ],
)
def test_both_rivals_must_be_beaten(random: float, pixels: float, begins: str, holds: str) -> None:
    """The run has 50%, and the spread of the difference is 4.2 points."""
    found = said(run=score([0.5]), random=score([random]), pixels=score([pixels]))
    assert found is not None
    assert found.startswith(begins)
    assert holds in found


def test_worse_than_untrained_in_some_comparisons_is_part() -> None:
    scores = {(name, labels): [score([top1])] for labels, both in (("1%", (0.5, 0.6)), ("100%", (0.8, 0.6)))
              for name, top1 in zip(("run", "random"), both, strict=True)}  # fmt: skip
    found = Evaluation(Path("x"), "run", "data", "a test", scores).answer
    assert found is not None
    assert found.startswith("Pretraining helped only in part: knn")
    assert "not better than an untrained encoder of the same shape with knn 1%" in found


def test_other_runs_decide_nothing() -> None:
    better = said(run=score([0.6]), random=score([0.3]), pixels=score([0.2]), **{"runs/sup": score([0.9])})
    assert better is not None
    assert better.startswith("Pretraining helped: knn")
    assert "30.0 ± 4.2 points less than runs/sup" in better
    assert "crops" not in better
    alone = said(run=score([0.6]), **{"runs/sup": score([0.9])})
    assert alone is not None
    assert alone.startswith("Whether pretraining helped was not asked: knn")
    assert alone.endswith("Not compared with an untrained encoder of the same shape or raw pixels: leave out --against.")


def test_what_was_not_compared_is_said() -> None:
    half = said(run=score([0.6]), random=score([0.3]))
    assert half is not None
    assert half.startswith("Pretraining helped:")
    assert half.endswith("Not compared with raw pixels: leave out --against.")
    none = said(run=score([0.6]))
    assert none is not None
    assert none.startswith("Whether pretraining helped was not asked: knn with 100% of labels gives 60.0 ± 3.0%.")


def test_the_figure_is_of_a_protocol_that_met_both() -> None:
    names = {"run": 0.9, "random": 0.5}
    scores = {(name, "1%"): [score([x])] for name, x in names.items()}
    scores |= {(name, "100%"): [score([x])] for name, x in {**names, "pixels": 0.4}.items()}
    found = Evaluation(Path("x"), "run", "data", "a test", scores).answer
    assert found is not None
    assert found.startswith("Pretraining helped: knn with 100% of labels gives")
    assert found.endswith("better by more than the spread in all 3 comparisons, by each protocol's first figure.")


def test_the_figure_bears_the_verdict_out() -> None:
    scores = {(name, labels): [score([top1])] for labels, both in (("1%", (0.51, 0.5)), ("100%", (0.8, 0.6)))
              for name, top1 in zip(("run", "random"), both, strict=True)}  # fmt: skip
    found = Evaluation(Path("x"), "run", "data", "a test", scores).answer
    assert found is not None
    assert found.startswith("Pretraining helped: knn with 100% of labels gives 80.0")
    assert "not clearly better than an untrained encoder of the same shape with knn 1%" in found


def test_an_unknown_spread_is_no_win() -> None:
    bare = Score("knn", {}, 1, 1, 0, [3], 10, {"top1": [0.9]}, [])
    unknown = said(run=bare, random=score([0.3]), pixels=score([0.3]))
    assert unknown is not None
    assert unknown.startswith("Pretraining made no clear difference:")
    assert "of unknown spread" in unknown


def test_what_needs_no_label_is_no_comparison() -> None:
    scores = {(subject, "no labels"): [score([0.5])] for subject in ("random", "run")}
    assert Evaluation(Path("x"), "run", "data", "a test", scores).answer is None
