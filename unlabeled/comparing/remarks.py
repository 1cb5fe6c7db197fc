"""What stands in words below a table of methods."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlabeled.comparing.judge import mean
from unlabeled.probes.paired import apart
from unlabeled.words import counted

UNTRAINED = "random"
"""The method that trains nothing."""
OFF = 0.15
"""Share of the minutes by which a row may differ without being named."""


def remarks(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tells who does not clearly beat the untrained encoder and raw features, who failed, and what else is to be said."""
    judged = {row["name"]: row for row in rows if "figures" in row}
    said = []
    base = judged.get(UNTRAINED)
    methods = [row for row in judged.values() if row["kind"] == "method"]
    if base and methods:
        said += _beside(methods, base, f"`{UNTRAINED}`")
    if base and methods and "raw" in base:
        said += _beside(methods, base["raw"], base["raw"]["name"])
    said += rivals_of_the_best(methods)
    said += constant([*judged.values(), *([base["raw"]] if base and "raw" in base else [])])
    largest = next((row["largest"] for row in judged.values() if "largest" in row), None)
    said += [] if largest is None else [f"Always naming the largest class gives {100 * largest:.1f}%."]
    said += [f"{row['name']} failed: {row['failed']}" for row in rows if "failed" in row]
    said += wrong(rows)
    earlier = [
        f"{row['name']} {row['kept_epoch']:g} of {row['epochs']:g}"
        for row in judged.values()
        if row.get("kept_epoch", row.get("epochs")) != row.get("epochs")
    ]
    said += [f"Judged with the encoder of the best epoch, not of the last: {', '.join(earlier)}."] if earlier else []
    said += [row["note"] for row in rows if "note" in row]
    return said + notes(rows)


def _beside(rows: Sequence[Mapping[str, Any]], base: Mapping[str, Any], called: str) -> list[str]:
    """Who is worse than a baseline, who is not clearly better, and by how much each is above it; nothing of who always names
    the largest class."""
    rows = [row for row in rows if not row.get("constant")]
    if base.get("constant") or not rows:
        return []
    apart = {row["name"]: _apart(row, base) for row in rows}
    worse = [name for name, (gap, spread) in apart.items() if gap < -spread]
    weak = [name for name, (gap, spread) in apart.items() if -spread <= gap <= spread]
    spelled = f"{called} by kNN with 100% of the labels (95% interval of the difference)"
    said = [f"Worse than {spelled}: {', '.join(worse)}."] if worse else []
    said += [f"Not clearly better than {spelled}: {', '.join(weak)}."] if weak else []
    points = ", ".join(f"{name} {_points(gap, spread)}" for name, (gap, spread) in apart.items())
    return [*(said or [f"All methods clearly beat {spelled}."]), f"Points above {called} there: {points}."]


def rivals_of_the_best(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tells which rows are not clearly worse by kNN than the one that is printed bold; nothing where all are, or where there
    is no other."""
    judged = [row for row in rows if "figures" in row and not row.get("constant")]
    if len(judged) < 2:
        return []
    best = max(judged, key=lambda row: mean(row["figures"]["knn"]))
    apart = {row["name"]: _apart(best, row) for row in judged if row is not best}
    close = [f"{name} ({_points(-gap, spread)} points)" for name, (gap, spread) in apart.items() if gap <= spread]
    return [f"Not clearly worse than {best['name']}, the best by kNN with 100% of the labels: {', '.join(close)}."] * bool(
        close
    )


def constant(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tells who names one class of uneven ones whatever the sample."""
    names = [row["name"] for row in rows if row.get("constant")]
    return [
        f"By kNN with 100% of the labels one class is always named, which counts neither way: {', '.join(names)}."
    ] * bool(names)


def wrong(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tells which trainings went wrong, and how."""
    return [f"{row['name']}: {row['alarm']}." for row in rows if "alarm" in row]


def _points(gap: float, spread: float) -> str:
    return f"{100 * gap:+.1f} ± {100 * spread:.1f}"


def notes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns what the classifiers had to say of any row, such as fewer neighbours than asked for; each once."""
    return sorted({note for row in rows for note in row.get("notes", [])})


def short(data: str) -> str:
    """Returns the name of data for a title: of paths their last part.

    >>> short("train=../data/cifar10-train.parquet,test=../data/cifar10-test.parquet")
    'cifar10-train, cifar10-test'
    """
    return ", ".join(Path(part).stem for part in re.split(r",?\b(?:train|test|val)=", data) if part)


def hardware(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns what the rows were trained on; each machine once."""
    every = [row["environment"]["hardware"] for row in rows if "environment" in row]
    named = (", ".join(h["gpu"]) or f"{h['processor']}, {counted(h['threads'], 'threads')}" for h in every)
    return " and ".join(dict.fromkeys(named))


def _apart(row: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[float, float]:
    """How far a row is above another by kNN, and half the 95% interval of that: sample by sample, but for rows of an older
    version, which do not say which samples were right."""
    if row.get("each") and base.get("each"):
        return apart(tuple(row["each"]), tuple(base["each"]), row.get("clusters") or base.get("clusters") or "")
    ours, theirs = mean(row["figures"]["knn"]), mean(base["figures"]["knn"])
    error = math.sqrt((ours * (1 - ours) + theirs * (1 - theirs)) / row["tested"])
    return ours - theirs, 1.96 * error


def off_budget(question: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Tells which rows had more or less than the minutes that all were to have."""
    minutes = question["budget"].get("minutes")
    off = [
        f"{row['name']} {row['minutes']:.1f}"
        for row in rows
        if minutes and row.get("epochs") and abs(row["minutes"] - minutes) > OFF * minutes
    ]
    return [f"Not the {counted(minutes, 'minutes')} by more than {OFF:.0%}: {', '.join(off)}."] if off else []
