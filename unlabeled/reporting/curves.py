"""Curves of training, one figure for each metric, with a line for each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from unlabeled import registry
from unlabeled.batch import Progress
from unlabeled.recipe import Recipe
from unlabeled.reporting.inline import SERIES, STYLE, markup, point_out, to_element
from unlabeled.run import Run
from unlabeled.schedules import cosine_momentum
from unlabeled.verbs.curves import DASHES

TITLES = {
    "loss": "Loss",
    "knn": "kNN accuracy within the training split",
    "h_rank": "Effective rank of the representation h",
    "z_rank": "Effective rank of the embedding z",
    "z_std": "Spread of z over the sphere (1: even)",
    "lr": "Learning rate",
    "momentum": "Momentum, an option of the method",
}
"""Of the metrics that every run may log, in the order of the page; others follow under their names."""

NOT_DRAWN = {"step", "epoch", "images_per_s", "monitor_s", "peak_memory_mib"}
MARKED = 40
"""Points of a line that can be pointed at, at most."""


@dataclass(frozen=True)
class Curve:
    """A figure and its heading."""

    title: str
    figure: Markup


def curves(runs: Mapping[str, Run]) -> list[Curve]:
    """A figure for each metric that any of the runs, given by name, logged more than once."""
    histories = {name: [*run.history, *_momentum(run)] for name, run in runs.items()}
    logged = {metric for lines in histories.values() for line in lines for metric in line} - NOT_DRAWN
    found = []
    for metric in [m for m in TITLES if m in logged] + sorted(logged - TITLES.keys()):
        lines = {name: list(_points(lines, metric)) for name, lines in histories.items()}
        if any(len(points) > 1 for points in lines.values()):
            title = TITLES.get(metric, metric.replace("_", " ").capitalize())
            found.append(Curve(title, _draw(lines, metric, title)))
    return found


def swatch(i: int) -> tuple[str, str]:
    """Class and dashes of the i-th run's line, for a legend."""
    return f"stroke-k{i % len(SERIES)}", ("", "6 3", "6 2 1 2", "1 2")[i // len(SERIES) % len(DASHES)]


def _points(lines: Sequence[Mapping[str, Any]], metric: str) -> Iterator[tuple[float, float]]:
    for line in lines:
        if isinstance(line.get(metric), int | float) and "epoch" in line:
            yield float(line["epoch"]), float(line[metric])


def _momentum(run: Run) -> Iterator[dict[str, float]]:
    """Of the network or the bank that follows the encoder, at the steps that were logged."""
    method = run.recipe.method
    base = method.options.get("momentum")
    steps = [line for line in run.history if line.get("step") and line.get("epoch") and "loss" in line]
    if base is None or not steps:
        return
    rises = method.options.get("rising", getattr(registry.get("methods", method.name).make, "rising", False))
    total = _steps(run.recipe, steps[-1])
    for line in steps:
        at = Progress(line["step"] - 1, total, 0)
        yield {"epoch": line["epoch"], "momentum": cosine_momentum(at, base) if rises else base}


def _steps(recipe: Recipe, last: Mapping[str, Any]) -> int:
    per_epoch: float = last["step"] / last["epoch"]
    return max(1, round(per_epoch * recipe.epochs))


def _draw(lines: Mapping[str, list[tuple[float, float]]], metric: str, title: str) -> Markup:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    tips = {}
    with mpl.rc_context(STYLE):
        figure = Figure((4.2, 2.6), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, points) in enumerate(lines.items()):
            if not points:
                continue
            colour, dashes = SERIES[i % len(SERIES)], DASHES[i // len(SERIES) % len(DASHES)]
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=dashes, linewidth=1.6)
            marked = _spread(points)
            axes.plot(*zip(*marked, strict=True), color=colour, linestyle="", marker="o", markersize=3.5,
                      markeredgewidth=0, gid=f"marks-{i}")  # fmt: skip
            said = f"{name}, " if len(lines) > 1 else ""
            tips[i] = [{"tip": f"{said}epoch {x:.4g}: {y:.4g}"} for x, y in marked]
        axes.set(xlabel="epoch")
        axes.locator_params(nbins=6)
        ends = ", ".join(f"{name} ends at {points[-1][1]:.4g}" for name, points in lines.items() if points)
        root = to_element(figure, f"curve-{metric}", f"{title}, by epoch: {ends}")
    for i, found in tips.items():
        point_out(root, f"curve-{metric}", str(i), found)
    return markup(root)


def _spread(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most `MARKED` of the points, evenly spread, with the first and the last."""
    if len(points) <= MARKED:
        return points
    return [points[round(i * (len(points) - 1) / (MARKED - 1))] for i in range(MARKED)]
