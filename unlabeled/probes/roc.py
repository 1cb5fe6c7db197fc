"""How well a score tells pairs of one kind from pairs of two: area under the ROC curve, equal error rate, best threshold."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def auc(same: Array, different: Array) -> float:
    """Returns the probability that a pair of one kind scores above a pair of two, ties counting half: the area under the ROC
    curve (Hanley and McNeil 1982).

    Args:
        same: (P,) scores of pairs of one kind.
        different: (Q,) scores of pairs of two.
    """
    ranked = np.sort(different)
    below, up_to = (np.searchsorted(ranked, same, side).astype(np.float64) for side in ("left", "right"))
    return float((below + up_to).mean() / 2 / len(ranked))


def equal_error_rate(same: Array, different: Array) -> float:
    """Returns the share of wrong decisions at the threshold where both kinds of pairs err equally often, in [0, 1].

    Where no threshold does exactly, the point between two neighbouring ones on the straight line of the ROC curve.
    """
    misses, alarms = _errors(same, different)[1:]
    gap = alarms - misses  # from -1 upwards to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(alarms[before] + share * (alarms[after] - alarms[before]))


def best_threshold(same: Array, different: Array) -> float:
    """Returns the score from which on pairs are best called of one kind, both kinds weighing alike; between two scores that
    occur.

    Of equally good ones the highest.
    """
    scores, misses, alarms = _errors(same, different)
    best = int(np.argmin(misses + alarms))
    inside = scores[np.isfinite(scores)]
    if best == 0:
        return float(np.nextafter(inside[0], np.inf))
    if best == len(scores) - 1:
        return float(inside[-1])
    return float((scores[best] + scores[best + 1]) / 2)


def _errors(same: Array, different: Array) -> tuple[Array, Array, Array]:
    """The thresholds from +infinity down through every score, and for each the share of `same` below it and of `different`
    not below it: (T,) each."""
    scores = np.concatenate([[np.inf], np.unique(np.concatenate([same, different]))[::-1]])
    misses = np.searchsorted(np.sort(same), scores, "left") / len(same)
    alarms = 1 - np.searchsorted(np.sort(different), scores, "left") / len(different)
    return scores, misses, alarms
