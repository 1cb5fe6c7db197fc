"""Did pretraining help? The sentence that opens every evaluation, and every report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from unlabeled.data.kinds.kind import Kind
from unlabeled.probes.score import Score

RAW = {"pixels": "raw pixels", "log-mel": "log-mel statistics"}
"""What each kind of data has for features without an encoder (`Kind.raw`), in words."""
SUBJECTS = {**RAW, "random": "untrained encoder", "run": "pretrained encoder"}
RIVALS = {"random": "an untrained encoder of the same shape", **RAW}

NAMED = 3
"""Comparisons that are named one by one, at most."""

Scores = Mapping[tuple[str, str], Sequence[Score]]
"""(subject, labels) -> one score for each protocol."""

Pair = tuple[str, Score, str, Score]
"""Labels, score of the run, rival, its score."""


def answer(scores: Scores, titles: Sequence[str], kind: Kind) -> str | None:
    """Returns one sentence: whether the pretrained encoder beats an untrained one and raw features, by how much, against the
    spread; and if not, what usually helps. Compared is each protocol's first figure. To be worse than either rival beyond
    the spread and never better is not to have helped, whatever the other rival says.

    Put into figures is the first protocol and amount of labels that met most of the two, and bears the verdict out with
    most of them; the others are counted, and named if lost. Other runs are named, but decide nothing: whether pretraining
    helped is not a matter of what else was trained.

    Args:
        scores: of all subjects.
        titles: of the protocols that are judged by labels.
        kind: of the data: its features without an encoder, and what usually helps.

    Returns:
        None if nothing was judged by labels.
    """
    judged = [
        (labels, ours) for (s, labels), found in scores.items() if s == "run" for ours in found if ours.title in titles
    ]
    if not judged:
        return None
    every = list(dict.fromkeys(name for name, _ in scores if name != "run"))
    every.sort(key=lambda name: list(RIVALS).index(name) if name in RIVALS else len(RIVALS))
    known = {(labels, ours.title, rival): (labels, ours, rival, theirs)
             for labels, ours in judged for rival in every
             for theirs in scores.get((rival, labels), ()) if theirs.title == ours.title}  # fmt: skip
    pairs = [pair for pair in known.values() if pair[2] in RIVALS]
    met, won = (Counter((labels, ours.title) for labels, ours, *_ in some) for some in (pairs, _won(pairs)))
    lost = Counter((pair[0], pair[1].title) for pair in pairs if _gap(pair) < -_spread(pair))
    bears = lost if _worse(pairs) else won
    first, ours = max(judged, key=lambda one: (met[one[0], one[1].title], bears[one[0], one[1].title]))
    shown = [pair for (labels, title, _), pair in known.items() if (labels, title) == (first, ours.title)]
    by = "".join(f", {said}" for said in [" and ".join(map(_by, shown))] if said)
    figure = f"{ours.title} {_with(first)} gives {ours.text()}{by}"
    lacking = [RIVALS[name] for name in ("random", kind.raw) if name not in {pair[2] for pair in pairs}]
    more = f" Not compared with {' or '.join(lacking)}: leave out --against." if lacking else ""
    if not pairs:
        return f"Whether pretraining helped was not asked: {figure}.{more}"
    helps = f"What usually helps: {kind.other_views}, another method, more steps."
    return _verdict(pairs, figure, len([pair for pair in shown if pair[2] in RIVALS]), helps) + more


def _verdict(pairs: Sequence[Pair], figure: str, shown: int, helps: str) -> str:
    won, worse = _won(pairs), _worse(pairs)
    lost = [pair for pair in pairs if _gap(pair) <= 0]
    close = [pair for pair in pairs if 0 < _gap(pair) <= _spread(pair)]
    beaten = {pair[2] for pair in won}
    untrained = [pair for pair in pairs if pair[2] == "random"]
    if worse:
        return f"Pretraining did not help: {figure}; it made features worse than {' and '.join(worse)}. {helps}"
    if not won:
        within = "within the spread" if all(map(math.isfinite, map(_spread, pairs))) else "of unknown spread"
        return f"Pretraining made no clear difference: {figure}, which is {within}. {helps}"
    if untrained and "random" not in beaten:
        return f"Pretraining made no clear difference: {figure}; it is not clearly better {_where(untrained)}. {helps}"
    if lost:
        return f"Pretraining helped only in part: {figure}; it is not better {_where(lost)}. {helps}"
    if close:
        return f"Pretraining helped: {figure}; but it is not clearly better {_where(close)}."
    several = len(pairs) > shown
    return f"Pretraining helped: {figure}" + (
        f"; better by more than the spread in all {len(pairs)} comparisons, by each protocol's first figure." * several
        or "."
    )


def _won(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if _gap(pair) > _spread(pair)]


def _worse(pairs: Sequence[Pair]) -> list[str]:
    """The rivals that the run is behind of by more than the spread, and nowhere ahead of, in words."""
    beaten = {pair[2] for pair in _won(pairs)}
    behind = {pair[2] for pair in pairs if _gap(pair) < -_spread(pair)} - beaten
    return [said for name, said in RIVALS.items() if name in behind]


def spell(labels: str) -> str:
    """Spells an amount of labels in words."""
    return f"{labels} per class" if labels.isdecimal() else labels


def _with(labels: str) -> str:
    return f"with {spell(labels)} of labels" if labels[0].isdigit() else f"on {labels}"


def called(subject: str) -> str:
    """Names a subject as the head of a column."""
    return SUBJECTS.get(subject, subject)


def _gap(pair: Pair) -> float:
    return pair[1].mean() - pair[3].mean()


def _spread(pair: Pair) -> float:
    """Of the difference. Infinite where it is not known."""
    spread = pair[1].above(pair[3])[1]
    return math.inf if spread is None else spread


def _by(pair: Pair) -> str:
    gap, spread = 100 * _gap(pair), 100 * _spread(pair)
    against = f" ± {spread:.1f}" if 0 < spread < math.inf else ""
    rival = RIVALS.get(pair[2], pair[2])
    if gap == 0:
        return f"the same as {rival}"
    return f"{abs(gap):.1f}{against} points {'more' if gap > 0 else 'less'} than {rival}"


def differences(scores: Scores, title: str) -> list[str]:
    """Returns a line for each rival: by how much the run's first figure of a protocol is above the rival's, with each amount
    of labels, and half the width of the 95% confidence interval of that."""
    found: dict[str, list[str]] = {}
    for (subject, labels), several in scores.items():
        for theirs in several if subject != "run" else ():
            for ours in scores.get(("run", labels), ()):
                if ours.title == theirs.title == title:
                    found.setdefault(subject, []).append(f"{_difference(ours, theirs)} {_with(labels)}")
    return [f"beside {RIVALS.get(subject, subject)}: {', '.join(said)}" for subject, said in found.items()]


def _difference(ours: Score, theirs: Score) -> str:
    gap, spread = ours.above(theirs)
    if next(iter(ours.metrics)) in ours.plain:
        return f"{gap:+.3g}" + ("" if spread is None else f" ± {spread:.2g}")
    return f"{100 * gap:+.1f}{'' if spread is None else f' ± {100 * spread:.1f}'} points"


def _where(pairs: Sequence[Pair]) -> str:
    said = [
        f"than {RIVALS.get(rival, rival)} with {ours.title} {'' if labels[0].isdigit() else 'on '}{spell(labels)}"
        for labels, ours, rival, _ in pairs
    ]
    rest = len(said) - NAMED
    return ", ".join(said[:NAMED]) + (f" and in {rest} other comparison{'s' * (rest > 1)}" if rest > 0 else "")
