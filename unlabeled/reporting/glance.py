"""The first screen of a report: the verdict, and one chart of what was compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from unlabeled.evaluating.answer import RAW, called, headline, with_labels
from unlabeled.evaluating.evaluation import NONE, kind_of
from unlabeled.probes.score import Score

TONES = {1: ("better", "✓"), 0: ("even", "≈"), -1: ("worse", "✗")}
"""What a verdict looks like, and a sign that does without colour."""

EXPLAINED = {
    "top1": "top1: share of test samples whose class is named right",
    "top5": "top5: share whose class is among the five most likely",
    "balanced": "balanced: mean over the classes of the share named right in each, so that rare ones weigh the same",
    "auroc": "auroc: how often a sample of the second class scores higher than one of the first; 50% is chance",
    "auc": "auc: how often a pair of one class scores higher than a pair of two; 50% is chance",
    "eer": "eer: error where both kinds of pairs err alike; less is better",
    "accuracy": "accuracy: share that is told right",
    "mAP": "mAP: mean over the queries of the average precision, 100% where all of the class come first",
    "precision": "precision@k: share of the k nearest that are of the query's class",
    "recall": "recall@k: share of the query's class that is among the k nearest",
    "nmi": "nmi: what clusters and classes tell of each other, 100% where they are the same",
    "ari": "ari: agreement of clusters and classes beyond chance, which is 0%",
    "silhouette": "silhouette: how far samples lie inside their cluster, from -100% to 100%",
    "trustworthiness": "trustworthiness: whether neighbours on the map are neighbours in feature space",
    "focus": "focus: share of the attention that falls on the object",
    "rankme": "rankme: number of directions that the features use",
    "effective rank": "effective rank: likewise, by the entropy of the spectrum",
    "alignment": "alignment: mean squared distance between two views of a sample; less is closer",
    "uniformity": "uniformity: how evenly features cover the sphere; less is more even",
    "dead": "dead: share of the features that are the same for all samples",
}
"""Of figures that a table may hold."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One representation in the chart; places are shares of its width, as SVG writes them.

    Attributes:
        name: what it is.
        text: its figure.
        low, middle, high: ends of its interval, and the figure.
        strong: whether it is the run.
    """

    name: str
    text: str
    low: str
    middle: str
    high: str
    strong: bool


@dataclass(frozen=True, slots=True)
class Glance:
    """The answer at a glance.

    Attributes:
        verdict: in words.
        tone: word for its colour.
        sign: likewise without colour.
        title: of the chart: protocol, labels, figure.
        bars: raw features, the untrained encoder, other runs, the run; none where the figure is no share.
        ends: of the axis, as text.
    """

    verdict: str
    tone: str
    sign: str
    title: str
    bars: Sequence[Bar]
    ends: tuple[str, str]


def glance(evaluation: Mapping[str, Any]) -> Glance | None:
    """Returns what to see first of an evaluation; None where nothing was judged by labels."""
    scores: dict[tuple[str, str], list[Score]] = {}
    for line in evaluation.get("scores", []):
        scores.setdefault((line["subject"], line["labels"]), []).append(Score.of(line))
    titles = list({score.title for (_, labels), found in scores.items() if labels != NONE for score in found})
    first = headline(scores, titles, kind_of(evaluation), learned=bool(evaluation.get("learned", True)))
    if first is None:
        return None
    shown = {
        subject: score for (subject, labels), found in scores.items() if labels == first.labels
        for score in found if score.title == first.title
    }  # fmt: skip
    metric = shown["run"].leading
    share = metric not in shown["run"].plain
    order = {**dict.fromkeys(RAW, 0), "random": 1, "run": 3}
    ranked = dict(sorted(shown.items(), key=lambda one: order.get(one[0], 2)))
    figures = [
        (called(subject), score.mean(metric), score.spread(metric) or 0.0, subject == "run")
        for subject, score in ranked.items() if metric in score.metrics
    ]  # fmt: skip
    drawn, ends = bars(figures) if share else ([], ("", ""))
    tone, sign = TONES[first.tone]
    return Glance(first.verdict, tone, sign, f"{first.title} {with_labels(first.labels)}: {metric}", drawn, ends)


def bars(figures: Sequence[tuple[str, float, float, bool]]) -> tuple[list[Bar], tuple[str, str]]:
    """Returns the bars, on an axis that is as wide as their intervals, in tens of percents; and its ends.

    Args:
        figures: of each its name, a share in [0, 1], half of its interval, and whether it stands out.
    """
    low = max(0.0, math.floor(10 * min(value - half for _, value, half, _ in figures)) / 10)
    high = min(1.0, math.ceil(10 * max(value + half for _, value, half, _ in figures)) / 10)
    width = max(high - low, 0.1)

    def place(value: float) -> str:
        return f"{100 * min(1.0, max(0.0, (value - low) / width)):.2f}%"

    found = [
        Bar(
            name, f"{100 * value:.1f}" + f" ± {100 * half:.1f}" * (half > 0) + "%", place(value - half), place(value),
            place(value + half), strong,
        )
        for name, value, half, strong in figures
    ]  # fmt: skip
    return found, (f"{100 * low:.0f}%", f"{100 * (low + width):.0f}%")


def explained(metrics: Iterable[str]) -> str:
    """Returns what figures mean, in one line; "" of those that say it themselves."""
    said = [EXPLAINED[name] for name in dict.fromkeys(metric.partition("@")[0] for metric in metrics) if name in EXPLAINED]
    return "; ".join(said) + "." * bool(said)
