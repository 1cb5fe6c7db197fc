"""The first screen of a report: verdict, chart, and what figures mean."""

from __future__ import annotations

from typing import Any

import pytest

from unlabeled.probes.score import Score
from unlabeled.reporting.glance import explained, glance
from unlabeled.reporting.tables import tables


def line(subject: str, value: float, *, labels: str = "100%", protocol: str = "knn", metric: str = "top1") -> dict[str, Any]:
    score = Score(protocol, {}, 1.0, 1, 0, [100], 400, {metric: [value]}, [], {metric: 0.03})
    return {"subject": subject, "labels": labels, **score.json()}


def evaluation(*lines: dict[str, Any]) -> dict[str, Any]:
    return {"scores": list(lines), "split": "test", "classes": ["a", "b"]}


@pytest.mark.parametrize(
    ("run", "tone", "verdict"),
    [
        (0.8, "better", "Pretraining helped"),
        (0.51, "even", "Pretraining made no clear difference"),
        (0.3, "worse", "Pretraining made features worse"),
    ],
)
def test_the_verdict_has_words_a_tone_and_a_sign(run: float, tone: str, verdict: str) -> None:
    found = glance(evaluation(line("pixels", 0.4), line("random", 0.5), line("run", run)))
    assert found is not None
    assert (found.tone, found.verdict) == (tone, verdict)
    assert found.sign in "✓≈✗"


def test_the_chart_has_raw_features_the_untrained_encoder_other_runs_and_the_run_in_this_order() -> None:
    lines = [line("run", 0.8), line("runs/b", 0.7), line("random", 0.5), line("pixels", 0.42)]
    found = glance(evaluation(*lines))
    assert found is not None
    assert [bar.name for bar in found.bars] == ["raw pixels", "untrained encoder", "runs/b", "pretrained encoder"]
    assert [bar.strong for bar in found.bars] == [False, False, False, True]
    assert found.ends == ("30%", "90%")
    assert found.title == "knn with all labels: top1"
    first = found.bars[0]
    assert (first.low, first.middle, first.high) == ("15.00%", "20.00%", "25.00%")  # 39, 42 and 45 of 30 to 90
    assert first.text == "42.0 ± 3.0%"


def test_without_a_rival_or_labels_nothing_is_claimed() -> None:
    alone = glance(evaluation(line("run", 0.8)))
    assert alone is not None
    assert (alone.tone, alone.verdict) == ("even", "No untrained encoder to compare with")
    assert glance(evaluation(line("run", 0.8, labels="no labels", protocol="health", metric="rankme share"))) is None


def test_the_table_of_the_answer_comes_first_and_says_what_its_figures_are() -> None:
    lines = [
        line(subject, value, labels=labels, protocol=protocol, metric=metric)
        for protocol, labels, metric in (("health", "no labels", "rankme share"), ("linear", "100%", "top1"))
        for subject, value in (("run", 0.8), ("random", 0.5))
    ]
    first, second = tables(evaluation(*lines))
    assert first.title.startswith("linear")
    assert second.title.startswith("health")
    assert first.below[0] == "top1: share of test samples whose class is named right."


def test_figures_are_explained_once() -> None:
    assert explained(["precision@5", "precision@10", "mAP"]).count("precision@k") == 1
    assert explained(["5 px"]) == ""
