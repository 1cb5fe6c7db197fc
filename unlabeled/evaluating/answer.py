"""Did pretraining help? The sentence that opens every evaluation, and every report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from unlabeled.data.kinds.kind import Kind
from unlabeled.probes.score import Score
from unlabeled.words import counted

RAW = {"pixels": "raw pixels", "log-mel": "log-mel statistics"}
"""What each kind of data has for features without an encoder (`Kind.raw`), in words."""
SUBJECTS = {**RAW, "random": "untrained encoder", "run": "pretrained encoder"}
RIVALS = {"random": "an untrained encoder of the same shape", **RAW}

NAMED = 3
"""Comparisons that are named one by one, at most."""
LISTED = 10
"""Classes whose recall is told, at most."""
BALANCED = "balanced"
"""The figure that is there where classes are uneven."""

Scores = Mapping[tuple[str, str], Sequence[Score]]
"""(subject, labels) -> one score for each protocol."""

IN_WORDS = {"auroc": "AUROC", BALANCED: "balanced accuracy"}
"""Figures by which two encoders are compared where classes are uneven, before the first; the leading one first."""


class Pair(NamedTuple):
    """Labels, score of the run, rival, its score, the figure that is compared, None for the first; and whether it leads."""

    labels: str
    ours: Score
    rival: str
    theirs: Score
    figure: str | None = None
    leads: bool = True


def answer(scores: Scores, titles: Sequence[str], kind: Kind, *, learned: bool = True, advice: str = "") -> str | None:
    """Returns whether pretraining helped, then how the encoder stands beside raw features, by how much and against what
    spread; and unless it is better than both, and nowhere worse, what to try.

    Of each protocol one figure leads, and it alone makes better: the first; where two classes are uneven AUROC, which does
    not hang on where a classifier draws the line between them, and where more are, balanced accuracy. The others stand in
    brackets: balanced accuracy, and accuracy where neither always names one class. One of them that is worse makes what
    helped help in part.

    Whether it helped is said of the untrained encoder of the same shape alone, and only where that was measured: raw
    features may be worse than any network, or better than all. What is worse beyond the spread is always named, with its
    figures. Other runs come last and decide nothing.

    Put into figures is the first protocol and amount of labels that met most of the two, and bears the verdict out with
    most of them.

    Args:
        scores: of all subjects.
        titles: of the protocols that are judged by labels.
        kind: of the data: its features without an encoder.
        learned: whether the run's method trains anything.
        advice: what to try, in sentences.

    Returns:
        None if nothing was judged by labels.
    """
    found = _met(scores, titles, kind)
    if found is None:
        return None
    met, labels, ours = found
    rivals, untrained, raw = list(met), met["random"], met[kind.raw]
    shown = {rival: next((pair for pair in pairs if (pair.labels, pair.ours.title) == (labels, ours.title)), None)
             for rival, pairs in met.items()}  # fmt: skip
    leading = f" {IN_WORDS[ours.leading]}" if ours.leading in IN_WORDS else ""
    figure = f"{ours.title} {with_labels(labels)} gives {ours.text(ours.leading)}{leading}"
    if not learned:
        said = [f"This encoder was not trained: {figure}."]
    elif not untrained:
        said = [f"Whether pretraining helped was not asked, as no untrained encoder was judged: {figure}."]
    else:
        said = [f"{_verdict(untrained)}: {figure}, {_told(untrained, shown['random'])}."]
    beside = rivals[1:] if learned else rivals
    said += [f"{'But it' if _beyond(met[rival]) < 0 else 'It'} gives {_told(met[rival], shown[rival])}."
             for rival in beside if met[rival]]  # fmt: skip
    said += _constant(scores, titles)
    lacking = [RIVALS[name] for name in ("random", kind.raw) if not met[name]]
    if lacking:
        said.append(f"Not compared with {' or '.join(lacking)}: leave out --against.")
    if advice and learned and any(_beyond(pairs) < 1 for pairs in (untrained, raw) if pairs):
        said.append(advice)
    return " ".join(said)


@dataclass(frozen=True, slots=True)
class Headline:
    """The answer in a glance.

    Attributes:
        verdict: in words.
        tone: 1 where pretraining helped and nowhere made anything worse, -1 where it made features worse or helped only in
            part, 0 where there is no clear difference or nobody asked.
        title: of the protocol that is put into figures.
        labels: their amount that is.
    """

    verdict: str
    tone: int
    title: str
    labels: str


def headline(scores: Scores, titles: Sequence[str], kind: Kind, *, learned: bool = True) -> Headline | None:
    """Returns what `answer` begins with; None if nothing was judged by labels. Arguments are as there."""
    found = _met(scores, titles, kind)
    if found is None:
        return None
    met, labels, ours = found
    if not learned or not met["random"]:
        verdict = "No untrained encoder to compare with" if learned else "This encoder was not trained"
        return Headline(verdict, 0, ours.title, labels)
    verdict = _verdict(met["random"])
    return Headline(verdict, -1 if verdict.endswith("in part") else _beyond(met["random"]), ours.title, labels)


def _met(scores: Scores, titles: Sequence[str], kind: Kind) -> tuple[dict[str, list[Pair]], str, Score] | None:
    """What the run is compared with, by rival: the untrained encoder, raw features, others; and the amount of labels and
    the score of the run that are put into figures: of those that met most of the first two, one that bears the verdict out
    with most of them. None if nothing was judged by labels."""
    judged = [
        (labels, ours) for (s, labels), found in scores.items() if s == "run" for ours in found if ours.title in titles
    ]
    if not judged:
        return None
    rivals = ["random", kind.raw, *dict.fromkeys(name for name, _ in scores if name not in ("run", "random", kind.raw))]
    met = {rival: [Pair(labels, ours, rival, theirs, figure, leads)
                   for labels, ours in judged for theirs in scores.get((rival, labels), ()) if theirs.title == ours.title
                   for figure, leads in _compared(ours, theirs)]
           for rival in rivals}  # fmt: skip
    untrained, raw = met["random"], met[kind.raw]
    verdict = _beyond(untrained or raw)
    asked = Counter((pair.labels, pair.ours.title) for pair in [*untrained, *raw])
    bears = Counter((pair.labels, pair.ours.title) for pair in [*untrained, *raw] if pair.leads and _clear(pair) == verdict)
    labels, ours = max(judged, key=lambda one: (asked[one[0], one[1].title], bears[one[0], one[1].title]))
    return met, labels, ours


def _compared(ours: Score, theirs: Score) -> list[tuple[str | None, bool]]:
    """By which figures, and which of them leads: where classes are uneven, who always names the largest is mostly right,
    which says nothing."""
    uneven = [name for name in IN_WORDS if name in ours.metrics and name in theirs.metrics]
    if BALANCED not in uneven:
        return [(None, True)]
    figures = [*uneven, *([] if ours.constant or theirs.constant else [None])]
    return [(figure, i == 0) for i, figure in enumerate(figures)]


def _constant(scores: Scores, titles: Sequence[str]) -> list[str]:
    """A sentence on whose accuracy is not compared."""
    found = [f"{called(subject)} by {score.title} {with_labels(labels)}" for (subject, labels), several in scores.items()
             for score in several if score.constant and score.title in titles and BALANCED in score.metrics]  # fmt: skip
    return [f"Accuracy counts neither way where one class is always named: {_some(found)}."] * bool(found)


def _verdict(untrained: Sequence[Pair]) -> str:
    """What a run did beside the encoder of the same shape that was not trained."""
    better, worse = (any(_clear(pair) == way and pair.leads for pair in untrained) for way in (1, -1))
    if better:
        in_part = any(_clear(pair) < 0 for pair in untrained)
        return "Pretraining helped only in part" if in_part else "Pretraining helped"
    return "Pretraining made features worse" if worse else "Pretraining made no clear difference"


def _beyond(pairs: Sequence[Pair]) -> int:
    """1: better by more than the spread somewhere and nowhere worse by more than it, by the figures that lead; -1: the other
    way round; 0: else."""
    ways = {_clear(pair) for pair in pairs if pair.leads}
    return int(1 in ways) - int(-1 in ways)


def _clear(pair: Pair) -> int:
    """1: better by more than the spread; -1: worse by more than it; 0: neither."""
    return int(_gap(pair) > _spread(pair)) - int(_gap(pair) < -_spread(pair))


def _told(pairs: Sequence[Pair], shown: Pair | None) -> str:
    """By how much it is better or worse than a rival where it is put into figures, and where else it is otherwise."""
    sign, elsewhere = _beyond(pairs), ""
    if shown is None or (sign and _clear(shown) != sign):  # it does not show what is the case
        leading = [pair for pair in pairs if pair.leads]
        first, shown = shown, max(leading, key=lambda pair: (_clear(pair) == sign, abs(_gap(pair))))
        elsewhere = f" by {shown.ours.title} {with_labels(shown.labels)}" * (first is None or first[:2] != shown[:2])
    beside = [pair for pair in pairs if pair is not shown and pair[:2] == shown[:2]]
    said, others = [_by(shown, elsewhere, beside)], [pair for pair in pairs if pair[:2] != shown[:2]]
    ways = {way: [pair for pair in others if _clear(pair) == way] for way in (-1, 0, 1)}
    if len(ways[1]) == len(others) and _clear(shown) == 1:
        alike = len(ways[1]) + len(beside) + 1 if all(_clear(pair) == 1 for pair in beside) else len(ways[1])
        which = f"all {alike}" if alike == len(pairs) else f"all {alike} other"
        return said[0] + f", and more than the spread in {which} comparisons" * bool(others)
    for way, word in ((-1, "less"), (1, "more"), (0, "no clear difference")):
        if ways[way] and (way < 1 or _clear(shown) < 1):
            said.append(f"{word} by {_where(ways[way])}")
    return "; ".join(said)


def spell(labels: str) -> str:
    """Spells an amount of labels in words."""
    return f"{labels} per class" if labels.isdecimal() else labels


def with_labels(labels: str) -> str:
    """Says what was learned from: `with one label per class`, `with 10% of the labels`, `with all labels`; or judged on: `on
    new classes`."""
    if not labels[0].isdigit():
        return "without labels" if labels == "no labels" else f"on {labels}"
    if labels == "100%":
        return "with all labels"
    few = "one label" if labels == "1" else f"{labels} labels"
    return f"with {few} per class" if labels.isdecimal() else f"with {labels} of the labels"


def called(subject: str) -> str:
    """Names a subject as the head of a column."""
    return SUBJECTS.get(subject, subject)


def _gap(pair: Pair) -> float:
    return pair.ours.mean(pair.figure) - pair.theirs.mean(pair.figure)


def _spread(pair: Pair) -> float:
    """Of the difference. Infinite where it is not known."""
    spread = pair.ours.above(pair.theirs, pair.figure)[1]
    return math.inf if spread is None else spread


def _by(pair: Pair, elsewhere: str, beside: Sequence[Pair]) -> str:
    """In one figure, and in brackets in others of the same protocol and labels."""
    gap, spread = 100 * _gap(pair), 100 * _spread(pair)
    against = f" ± {spread:.1f}" if 0 < spread < math.inf else ""
    rival = RIVALS.get(pair.rival, pair.rival) + _in(pair)
    clear = "" if abs(gap) > spread else ", which is within the spread" if spread < math.inf else ", of unknown spread"
    also = [f"{_difference(one.ours, one.theirs, one.figure)}{_in(one) or ' in accuracy'}" for one in beside]
    if also:
        clear += f" ({', '.join(also)})"
    if gap == 0:
        return f"the same as {rival}{elsewhere}" + (f" ({', '.join(also)})" if also else "")
    return f"{abs(gap):.1f}{against} points {'more' if gap > 0 else 'less'} than {rival}{elsewhere}{clear}"


def _in(pair: Pair) -> str:
    """The figure in words, if it is not the first."""
    return f" in {IN_WORDS.get(pair.figure, pair.figure)}" if pair.figure else ""


def below(scores: Scores, title: str, classes: Sequence[str]) -> list[str]:
    """Returns the lines that stand below a protocol's table.

    Args:
        scores: of all subjects.
        title: of the protocol.
        classes: names, by label.
    """
    return [*differences(scores, title), *by_class(scores, title, classes), *choices(scores, title)]


def differences(scores: Scores, title: str) -> list[str]:
    """Returns a line for each rival and figure that is known for each sample: by how much the run's is above the rival's,
    with each amount of labels, and half the width of the 95% confidence interval of that."""
    found: dict[tuple[str, str | None], list[str]] = {}
    for (subject, labels), several in scores.items():
        for theirs in several if subject != "run" else ():
            for ours in scores.get(("run", labels), ()):
                if ours.title == theirs.title == title:
                    for figure in (None, *(name for name in ours.also if name in theirs.also)):
                        said = f"{_difference(ours, theirs, figure)} {with_labels(labels)}"
                        found.setdefault((subject, figure), []).append(said)
    return [
        f"{f'{IN_WORDS.get(figure, figure)} ' if figure else ''}beside {RIVALS.get(subject, subject)}: {', '.join(said)}"
        for (subject, figure), said in found.items()
    ]


def by_class(scores: Scores, title: str, classes: Sequence[str]) -> list[str]:
    """Returns what always naming the largest class would give; and what accuracy hides where the classes are uneven: who is
    not clearly better than that, and the recall of each class with the last amount of labels.

    Args:
        scores: of all subjects.
        title: of the protocol.
        classes: names, by label.
    """
    every = {key: score for key, several in scores.items() for score in several if score.title == title and score.guess}
    found = {key: score for key, score in every.items() if BALANCED in score.metrics}
    if every and not found:
        figures = ", ".join(f"{100 * value:.1f}% {name}" for name, value in next(iter(every.values())).guess.items())
        return [f"always naming the largest class gives {figures}"]
    idle = [f"{called(subject)} {with_labels(labels)} ({score.text()})" for (subject, labels), score in found.items()
            if score.mean() - (score.spread() or 0.0) <= score.guess["top1"]]  # fmt: skip
    said = []
    if idle:
        guess = next(iter(found.values())).guess["top1"]
        said.append(f"not clearly better than always naming the largest class ({100 * guess:.1f}%): {', '.join(idle)}")
    ours = [(labels, score) for (subject, labels), score in found.items() if subject == "run" and score.confusion]
    if ours:
        labels, score = ours[-1]
        recalls = [(row[c] / sum(row), c) for c, row in enumerate(score.confusion) if sum(row)]
        listed = sorted(recalls)[:LISTED] if len(recalls) > LISTED else recalls
        least = f", the least of {counted(len(recalls), 'classes')}" * (len(recalls) > LISTED)
        each = ", ".join(f"{classes[c] if c < len(classes) else c} {100 * share:.1f}%" for share, c in listed)
        said.append(f"recall of the {called('run')} {with_labels(labels)}{least}: {each}")
    return said


def choices(scores: Scores, title: str) -> list[str]:
    """Returns a line of what a protocol chose where an option was left to it, such as the C of `linear`: from least to most
    over the draws of the labels."""
    found: dict[str, list[str]] = {}
    for (subject, labels), several in scores.items():
        for score in several:
            if score.title == title and score.chosen:
                spans = (dict.fromkeys([f"{min(of):g}", f"{max(of):g}"]) for of in score.chosen.values())
                said = ", ".join(f"{option} {' to '.join(span)}" for option, span in zip(score.chosen, spans, strict=True))
                found.setdefault(with_labels(labels), []).append(f"{said} ({called(subject)})")
    return [f"chosen {'; '.join(f'{labels}: ' + ', '.join(said) for labels, said in found.items())}"] * bool(found)


def _difference(ours: Score, theirs: Score, figure: str | None = None) -> str:
    gap, spread = ours.above(theirs, figure)
    if (figure or next(iter(ours.metrics))) in ours.plain:
        return f"{gap:+.3g}" + ("" if spread is None else f" ± {spread:.2g}")
    return f"{100 * gap:+.1f}{'' if spread is None else f' ± {100 * spread:.1f}'} points"


def _where(pairs: Sequence[Pair]) -> str:
    """Protocols and labels, with the points of difference; the widest differences first."""
    ordered = sorted(pairs, key=lambda pair: -abs(_gap(pair)))
    return _some([f"{pair.ours.title} {with_labels(pair.labels)}{_in(pair)} "
                  f"({_difference(pair.ours, pair.theirs, pair.figure)})" for pair in ordered])  # fmt: skip


def _some(said: Sequence[str]) -> str:
    """The first ones, and how many others there are."""
    rest = len(said) - NAMED
    return ", ".join(said[:NAMED]) + (f" and {counted(rest, 'others')}" if rest > 0 else "")
