"""Did pretraining help? The sentence that opens every evaluation, and every report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from unlabeled.probes.score import Score

SUBJECTS = {"pixels": "raw pixels", "random": "untrained encoder", "run": "pretrained encoder"}
RIVALS = {"random": "an untrained encoder of the same shape", "pixels": "raw pixels"}
HELPS = "What usually helps: gentler crops where the object of interest is small, other views, another method, more steps."

NAMED = 3
"""Comparisons that are named one by one, at most."""

Scores = Mapping[tuple[str, str], Sequence[Score]]
"""(subject, labels) -> one score for each protocol."""


def answer(scores: Scores, titles: Sequence[str]) -> str | None:
    """One sentence: whether the pretrained encoder beats an untrained one and raw pixels, by how much, against the spread;
    and if not, what usually helps.

    The first protocol with its first amount of labels is put into figures; the others are counted, and named if lost.

    Args:
        scores: of all subjects.
        titles: of the protocols that are judged by labels.

    Returns:
        None if there was nothing to compare.
    """
    pairs = [
        (labels, ours, rival, theirs)
        for (subject, labels), found in scores.items()
        if subject == "run"
        for ours in found
        if ours.title in titles
        for rival in (r for r, _ in scores if r != "run")
        for theirs in scores.get((rival, labels), ())
        if theirs.title == ours.title
    ]
    pairs = list(
        {(labels, ours.title, rival): (labels, ours, rival, theirs) for labels, ours, rival, theirs in pairs}.values()
    )
    if not pairs:
        return None
    won = [pair for pair in pairs if _gap(pair) > _spread(pair)]
    lost = [pair for pair in pairs if _gap(pair) <= 0]
    close = [pair for pair in pairs if 0 < _gap(pair) <= _spread(pair)]
    labels, ours, *_ = pairs[0]
    shown = [pair for pair in pairs if pair[0] == labels and pair[1].title == ours.title]
    order = {name: i for i, name in enumerate(RIVALS)}
    shown.sort(key=lambda pair: order.get(pair[2], len(order)))
    by = " and ".join(_by(pair) for pair in shown)
    figure = f"{ours.title} {_with(labels)} gives {ours.text()}, {by}"
    if not won and (len(lost) == len(pairs) or any(_gap(pair) < -_spread(pair) for pair in pairs)):
        return f"Pretraining did not help: {figure}. {HELPS}"
    if not won:
        return f"Pretraining made no clear difference: {figure}, which is within the spread. {HELPS}"
    if lost:
        return f"Pretraining helped only in part: {figure}; it is not better {_where(lost)}. {HELPS}"
    if close:
        return f"Pretraining helped: {figure}; but the difference is within the spread {_where(close)}."
    several = len(pairs) > len(shown)
    return f"Pretraining helped: {figure}" + (
        f"; better by more than the spread in all {len(pairs)} comparisons." * several or "."
    )


def spell(labels: str) -> str:
    """An amount of labels in words."""
    return f"{labels} per class" if labels.isdecimal() else labels


def _with(labels: str) -> str:
    return f"with {spell(labels)} of labels" if labels[0].isdigit() else f"on {labels}"


def called(subject: str) -> str:
    """A subject as the head of a column."""
    return SUBJECTS.get(subject, subject)


Pair = tuple[str, Score, str, Score]


def _gap(pair: Pair) -> float:
    return pair[1].mean() - pair[3].mean()


def _spread(pair: Pair) -> float:
    """Of the difference: both spreads are independent."""
    return math.hypot(pair[1].spread() or 0.0, pair[3].spread() or 0.0)


def _by(pair: Pair) -> str:
    gap, spread = 100 * _gap(pair), 100 * _spread(pair)
    against = f" ± {spread:.1f}" if spread else ""
    rival = RIVALS.get(pair[2], pair[2])
    if gap == 0:
        return f"the same as {rival}"
    return f"{abs(gap):.1f}{against} points {'more' if gap > 0 else 'less'} than {rival}"


def _where(pairs: Sequence[Pair]) -> str:
    said = [f"than {RIVALS.get(rival, rival)} with {ours.title} {spell(labels)}" for labels, ours, rival, _ in pairs]
    rest = len(said) - NAMED
    return ", ".join(said[:NAMED]) + (f" and in {rest} other comparison{'s' * (rest > 1)}" if rest > 0 else "")
