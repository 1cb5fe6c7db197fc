"""The sentences that open every evaluation: whether pretraining helped, and how the encoder stands beside raw features."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from unlabeled.evaluating.evaluation import Evaluation
from unlabeled.probes.base import Figure
from unlabeled.probes.classified import classified
from unlabeled.probes.draws import _Found
from unlabeled.probes.score import Score
from unlabeled.registry import Choice

UNTRAINED = "an untrained encoder of the same shape"


def score(draws: list[float], protocol: str = "knn") -> Score:
    interval = {"top1": 0.03} if len(draws) == 1 else {}
    return Score(protocol, {}, 1, len(draws), 0, [3], 10, {"top1": draws}, [], interval)


def evaluation(scores: Mapping[tuple[str, str], list[Score]], **metadata: Any) -> Evaluation:
    return Evaluation(Path("x"), "run", "data", "a test", dict(scores), metadata)


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (
            [[0.9, 0.92]],
            [[0.5, 0.52]],
            "Pretraining helped: knn with one label per class gives 91.0 ± 1.4%, 40.0 ± 2.0 points more than RIVAL.",
        ),
        ([[0.9]], [[0.5]], "Pretraining helped: FIGURE 90.0 ± 3.0%, 40.0 ± 4.2 points more than RIVAL."),
        (
            [[0.5]],
            [[0.51]],
            "Pretraining made no clear difference: FIGURE 50.0 ± 3.0%, 1.0 ± 4.2 points less than RIVAL, which is within "
            "the spread. TRY",
        ),
        ([[0.5]], [[0.5]], "Pretraining made no clear difference: FIGURE 50.0 ± 3.0%, the same as RIVAL. TRY"),
        (
            [[0.5]],
            [[0.6]],
            "Pretraining made features worse: FIGURE 50.0 ± 3.0%, 10.0 ± 4.2 points less than RIVAL. TRY",
        ),
        (
            [[0.9], [0.9]],
            [[0.5], [0.6]],
            "Pretraining helped: FIGURE 90.0 ± 3.0%, 40.0 ± 4.2 points more than RIVAL, and more than the spread in all 2 "
            "comparisons.",
        ),
        (
            [[0.9], [0.4]],
            [[0.5], [0.6]],
            "Pretraining helped only in part: FIGURE 90.0 ± 3.0%, 40.0 ± 4.2 points more than RIVAL; less by knn with "
            "2 labels per class (-20.0 ± 4.2 points). TRY",
        ),
        (
            [[0.9], [0.62]],
            [[0.5], [0.6]],
            "Pretraining helped: FIGURE 90.0 ± 3.0%, 40.0 ± 4.2 points more than RIVAL; no clear difference by "
            "knn with 2 labels per class (+2.0 ± 4.2 points).",
        ),
        (
            [[0.6], [0.4]],
            [[0.6], [0.6]],
            "Pretraining made features worse: knn with 2 labels per class gives 40.0 ± 3.0%, 20.0 ± 4.2 points less than "
            "RIVAL; no clear difference by knn with one label per class (+0.0 ± 4.2 points). TRY",
        ),
    ],
)
def test_beside_the_untrained_encoder(ours: list[list[float]], theirs: list[list[float]], said: str) -> None:
    scores = {("random", str(i)): [score(draws)] for i, draws in enumerate(theirs, 1)}
    scores |= {("run", str(i)): [score(draws)] for i, draws in enumerate(ours, 1)}
    found = evaluation(scores, advice="TRY")
    said = said.replace("RIVAL", UNTRAINED).replace("FIGURE", "knn with one label per class gives")
    lacking = "Not compared with raw pixels: leave out --against."
    said = said.replace(" TRY", f" {lacking} TRY") if said.endswith("TRY") else f"{said} {lacking}"
    first, *_ = found.lines()
    assert first == said
    assert found.json()["answer"] == [said]


def answer(*, learned: bool = True, **scores: Score) -> str:
    """Of figures with all labels."""
    found = evaluation({(name, "100%"): [score] for name, score in scores.items()}, advice="TRY", learned=learned).answer
    assert found is not None
    return found.replace("with all labels gives 50.0 ± 3.0%", "FIGURE").replace(UNTRAINED, "UNTRAINED")


@pytest.mark.parametrize(
    ("random", "pixels", "said"),
    [
        (
            0.4,
            0.6,
            "Pretraining helped: knn FIGURE, 10.0 ± 4.2 points more than UNTRAINED. But it gives 10.0 ± 4.2 points less "
            "than raw pixels. TRY",
        ),
        (
            0.6,
            0.4,
            "Pretraining made features worse: knn FIGURE, 10.0 ± 4.2 points less than UNTRAINED. It gives 10.0 ± 4.2 points "
            "more than raw pixels. TRY",
        ),
        (
            0.6,
            0.6,
            "Pretraining made features worse: knn FIGURE, 10.0 ± 4.2 points less than UNTRAINED. But it gives 10.0 ± 4.2 "
            "points less than raw pixels. TRY",
        ),
        (
            0.49,
            0.4,
            "Pretraining made no clear difference: knn FIGURE, 1.0 ± 4.2 points more than UNTRAINED, which is within the "
            "spread. It gives 10.0 ± 4.2 points more than raw pixels. TRY",
        ),
        (
            0.4,
            0.49,
            "Pretraining helped: knn FIGURE, 10.0 ± 4.2 points more than UNTRAINED. It gives 1.0 ± 4.2 points more than raw "
            "pixels, which is within the spread. TRY",
        ),
        (
            0.4,
            0.3,
            "Pretraining helped: knn FIGURE, 10.0 ± 4.2 points more than UNTRAINED. It gives 20.0 ± 4.2 points more than "
            "raw pixels.",
        ),
    ],
)
def test_the_two_comparisons_are_said_apart(random: float, pixels: float, said: str) -> None:
    """The run has 50%, and the spread of the difference is 4.2 points."""
    assert answer(run=score([0.5]), random=score([random]), pixels=score([pixels])) == said


def test_a_defeat_is_named_wherever_it_is() -> None:
    """Though kNN with few labels, which is put into figures, wins everywhere."""
    figures = {"run": (0.8, 0.5), "random": (0.6, 0.4), "pixels": (0.7, 0.575)}
    scores = {(name, "100%"): [score([knn]), score([linear], "linear")] for name, (knn, linear) in figures.items()}
    found = evaluation(scores).answer
    assert found is not None
    assert found.startswith("Pretraining helped: knn with all labels gives 80.0 ± 3.0%, 20.0 ± 4.2 points more")
    assert (
        "all 2 comparisons. It gives 10.0 ± 4.2 points more than raw pixels; less by linear with all labels (-7.5 ± 4.2"
        in found
    )


def test_many_are_counted_and_the_widest_named() -> None:
    gaps = {"1%": 0.1, "2%": 0.3, "5%": 0.2, "10%": 0.05, "20%": 0.06, "100%": -0.1}
    scores = {("run", labels): [score([0.5])] for labels in gaps}
    scores |= {("random", labels): [score([0.5 + gap])] for labels, gap in gaps.items()}
    found = evaluation(scores).answer
    assert found is not None
    assert found.startswith("Pretraining helped only in part: ")
    assert (
        "; less by knn with 2% of the labels (-30.0 ± 4.2 points), knn with 5% of the labels (-20.0 ± 4.2 points), knn with "
        "20% of the labels (-6.0 ± 4.2 points) and 1 other; more" in found
    )


def test_other_runs_come_last_and_decide_nothing() -> None:
    better = answer(run=score([0.6]), random=score([0.3]), pixels=score([0.2]), **{"runs/sup": score([0.9])})
    assert better.startswith("Pretraining helped: knn")
    assert better.endswith("more than raw pixels. But it gives 30.0 ± 4.2 points less than runs/sup.")
    alone = answer(run=score([0.6]), **{"runs/sup": score([0.9])})
    assert alone.startswith("Whether pretraining helped was not asked, as no untrained encoder was judged: knn")
    assert alone.endswith("Not compared with UNTRAINED or raw pixels: leave out --against.")


def test_what_was_not_compared_is_said() -> None:
    half = answer(run=score([0.6]), random=score([0.3]))
    assert half.startswith("Pretraining helped:")
    assert half.endswith("Not compared with raw pixels: leave out --against.")
    other = answer(run=score([0.6]), pixels=score([0.3]))
    assert other.startswith("Whether pretraining helped was not asked, as no untrained encoder was judged: knn with all")
    assert "gives 60.0 ± 3.0%. It gives 30.0 ± 4.2 points more than raw pixels. Not compared with UNTRAINED" in other
    none = answer(run=score([0.6]))
    assert "as no untrained encoder was judged: knn with all labels gives 60.0 ± 3.0%. Not compared" in none


def test_what_was_never_trained_did_not_help() -> None:
    found = answer(run=score([0.5]), random=score([0.5]), pixels=score([0.3]), learned=False)
    assert found == (
        "This encoder was not trained: knn FIGURE. It gives the same as UNTRAINED. It gives 20.0 ± 4.2 points more than raw "
        "pixels."
    )


def test_the_figure_is_of_a_protocol_that_met_both() -> None:
    names = {"run": 0.9, "random": 0.5}
    scores = {(name, "1%"): [score([x])] for name, x in names.items()}
    scores |= {(name, "100%"): [score([x])] for name, x in {**names, "pixels": 0.4}.items()}
    found = evaluation(scores).answer
    assert found is not None
    assert found.startswith("Pretraining helped: knn with all labels gives")
    assert "and more than the spread in all 2 comparisons. It gives 50.0" in found


def test_the_figure_bears_the_verdict_out() -> None:
    scores = {(name, labels): [score([top1])] for labels, both in (("1%", (0.51, 0.5)), ("100%", (0.8, 0.6)))
              for name, top1 in zip(("run", "random"), both, strict=True)}  # fmt: skip
    found = evaluation(scores).answer
    assert found is not None
    assert found.startswith("Pretraining helped: knn with all labels gives 80.0")
    assert "no clear difference by knn with 1% of the labels (+1.0 ± 4.2 points)" in found


def test_an_unknown_spread_is_no_win() -> None:
    bare = Score("knn", {}, 1, 1, 0, [3], 10, {"top1": [0.9]}, [])
    unknown = answer(run=bare, random=score([0.3]), pixels=score([0.3]))
    assert unknown.startswith("Pretraining made no clear difference:")
    assert (
        "60.0 points more than UNTRAINED, of unknown spread. It gives 60.0 points more than raw pixels, of unknown"
        in unknown
    )


def test_what_needs_no_label_is_no_comparison() -> None:
    scores = {(subject, "no labels"): [score([0.5])] for subject in ("random", "run")}
    assert evaluation(scores).answer is None


def test_a_run_that_was_stopped_says_so_first() -> None:
    scores = {("run", "100%"): [score([0.5])]}
    found = evaluation(scores, unfinished="the run 'r' is not finished: it was stopped at step 5 of 100 (5%)")
    first, second, *_ = found.lines()
    assert first == "The run 'r' is not finished: it was stopped at step 5 of 100 (5%)"
    assert str(second).startswith("Whether pretraining helped was not asked")
    assert found.json()["answer"] == [first, second]


TRUTH = np.array([0] * 70 + [1] * 30)


def uneven(right: np.ndarray, *, sure: float = 0.3, protocol: str = "linear") -> Score:
    """Of 100 samples, 70 of one class, named rightly where `right`; with probabilities that are surer where it is."""
    second = np.where(right, TRUTH, 1 - TRUTH)
    return of_probability(np.where(second == 1, 0.5 + sure, 0.5 - sure), protocol)


def of_probability(second: np.ndarray, protocol: str = "linear") -> Score:
    probability = torch.from_numpy(second).double()
    right = (second > 0.5) == TRUTH
    probe = SimpleNamespace(
        classified_=classified(torch.from_numpy(TRUTH), torch.stack([1 - probability, probability], 1), torch.arange(2)),
        notes_=[],
    )
    found = _Found(Choice(protocol))
    found.add(probe, {"top1": Figure(float(right.mean()), 0.09)}, 10, 2)
    return found.score(1.0, 0, 100)


LARGEST = TRUTH == 0
"""What is right of who always names the largest class."""
HALF = np.arange(100) % 10 < 6
"""Right in 60% of each class."""
RARE = (TRUTH == 1) | (np.arange(100) % 2 == 0)
"""Right in all of the rare class and half of the other: 65 of 100."""


def of_uneven(**scores: Score) -> str:
    found = evaluation({(name, "100%"): [score] for name, score in scores.items()}).answer
    assert found is not None
    return found.replace(UNTRAINED, "UNTRAINED")


def test_where_classes_are_uneven_balanced_accuracy_and_auroc_are_compared_too() -> None:
    most = np.arange(100) % 10 < 9
    said = of_uneven(run=uneven(most), random=uneven(HALF), pixels=uneven(HALF))
    assert re.fullmatch(
        r"Pretraining helped: linear with all labels gives 90\.0 ± \d\.\d% AUROC, 30\.0 ± \d+\.\d points more than "
        r"UNTRAINED in AUROC \(\+30\.0 ± \d+\.\d points in balanced accuracy, \+30\.0 ± \d\.\d points in accuracy\)\. "
        r"It gives 30\.0 .* more than raw pixels in AUROC \(\+30\.0 .* in balanced accuracy, .* in accuracy\)\.",
        said,
    )


def test_always_naming_the_largest_class_beats_nobody_and_is_beaten_by_its_balanced_accuracy() -> None:
    """It is right 70 times of 100, and who finds the rare class 65 times."""
    idle = of_uneven(run=uneven(LARGEST), random=uneven(RARE), pixels=uneven(RARE))
    assert idle.startswith("Pretraining made features worse: linear with all labels gives 50.0 ± 12.4% AUROC, 25.0 ±")
    assert re.search(r"points less than UNTRAINED in AUROC \(-25\.0 ± \d\.\d points in balanced accuracy\)", idle)
    assert (
        "Accuracy counts neither way where one class is always named: pretrained encoder by linear with all labels." in idle
    )
    beaten = of_uneven(run=uneven(RARE), random=uneven(LARGEST), pixels=uneven(LARGEST))
    assert beaten.startswith("Pretraining helped: linear with all labels gives 75.0 ±")
    assert "untrained encoder by linear with all labels, raw pixels by linear with all labels." in beaten


def test_a_line_drawn_elsewhere_between_two_classes_is_no_help() -> None:
    """The same order of all samples, so the same AUROC; and a better balanced accuracy, as more are named the rare class."""
    order = 0.2 * TRUTH + 0.3 * np.random.default_rng(0).random(100)
    said = of_uneven(run=of_probability(order + 0.25), random=of_probability(order))
    assert re.match(
        r"Pretraining made no clear difference: linear with all labels gives \d\d\.\d ± \d\.\d% AUROC, the same as "
        r"UNTRAINED in AUROC \(\+\d\d\.\d ± \d+\.\d points in balanced accuracy",
        said,
    ), said


def test_of_several_uneven_classes_balanced_accuracy_leads() -> None:
    even = Score("knn", {}, 1.0, 1, 0, [9], 100, {"top1": [0.9], "balanced": [0.5]}, [], {"top1": 0.05, "balanced": 0.05})
    better = dataclasses.replace(even, metrics={"top1": [0.9], "balanced": [0.7]})
    assert of_uneven(run=better, random=even).startswith(
        "Pretraining helped: knn with all labels gives 70.0 ± 5.0% balanced"
    )
    assert of_uneven(run=even, random=better).startswith("Pretraining made features worse")
    worse = dataclasses.replace(better, metrics={"top1": [0.7], "balanced": [0.7]})
    assert of_uneven(run=worse, random=even).startswith("Pretraining helped only in part")
    only = dataclasses.replace(even, metrics={"top1": [0.99], "balanced": [0.5]})
    assert of_uneven(run=only, random=even).startswith("Pretraining made no clear difference")


def test_a_better_accuracy_by_naming_the_largest_class_more_often_is_help_in_part() -> None:
    more = LARGEST | (np.arange(100) % 30 == 0)
    said = of_uneven(run=uneven(more), random=uneven(RARE))
    assert said.startswith(("Pretraining helped only in part", "Pretraining made features worse"))


def test_even_classes_are_compared_by_accuracy_alone_even_where_one_is_always_named() -> None:
    even = Score("linear", {}, 1.0, 1, 0, [10], 100, {"top1": [0.5], "auroc": [0.9]}, [], {"top1": 0.09, "auroc": 0.1},
                 constant=True)  # fmt: skip
    good = dataclasses.replace(even, metrics={"top1": [0.9], "auroc": [0.9]}, constant=False)
    said = of_uneven(run=even, random=good)
    assert said.startswith("Pretraining made features worse: linear with all labels gives 50.0 ± 9.0%, 40.0")
    assert "AUROC" not in said and "always named" not in said


def test_the_c_that_was_chosen_is_told_once() -> None:
    chosen = dataclasses.replace(score([0.5, 0.6], "linear"), chosen={"C": [0.1, 10.0]})
    one = dataclasses.replace(score([0.5], "linear"), chosen={"C": [1.0]})
    found = evaluation({("random", "1%"): [chosen], ("run", "1%"): [one], ("run", "100%"): [one]})
    lines = [str(line) for line in found.lines() if str(line).startswith("chosen")]
    assert lines == [
        "chosen with 1% of the labels: C 0.1 to 10 (untrained encoder), C 1 (pretrained encoder); with all labels: C 1 "
        "(pretrained encoder)"
    ]
    assert [one["chosen"] for one in found.json()["scores"]] == [{"C": [0.1, 10.0]}, {"C": [1.0]}, {"C": [1.0]}]
    assert Score.of({"subject": "run", "labels": "1%", **chosen.json()}) == chosen
