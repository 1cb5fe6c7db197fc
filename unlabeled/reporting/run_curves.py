"""Curves of training, one figure for each metric, with a line for each run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from unlabeled import registry
from unlabeled.batch import Progress
from unlabeled.optim.schedules import cosine_momentum
from unlabeled.plots import DASHES
from unlabeled.recipe import Recipe
from unlabeled.reporting.inline import STYLE, look, markup, point_out, to_element
from unlabeled.run import Run

TITLES = {
    "loss": "Loss",
    "knn": "kNN accuracy within the training split, %",
    "h_rank": "Effective rank of the representation h",
    "h_dims": "Effective rank of h, of the samples that are watched",
    "h_std": "Spread of h over the sphere (1: even)",
    "z_rank": "Effective rank of the embedding z",
    "z_std": "Spread of z over the sphere (1: even)",
    "lr": "Learning rate",
    "momentum": "Momentum, an option of the method",
}
"""Of the metrics that every run may log, in the order of the page; others follow under their names."""

PERCENT = {"knn"}
"""Those that are logged as shares and drawn in percent."""

Points = list[tuple[float, float]]
"""Epochs and values."""

NOT_DRAWN = {"step", "epoch", "images_per_s", "monitor_s", "peak_memory_mib", "kept_epoch", "kept_knn", "kept_h_rank"}
MARKED = 20
"""Points of a line that are marked and can be pointed at, at most: dashes are still seen between them."""


@dataclass(frozen=True)
class Curve:
    """A figure and its heading."""

    title: str
    figure: Markup


def curves(runs: Mapping[str, Run]) -> list[Curve]:
    """Draws a figure for each metric that any of the runs, given by name, logged; what was logged once is a point."""
    histories = {name: [*run.history, *_momentum(run)] for name, run in runs.items()}
    logged = {metric for lines in histories.values() for line in lines for metric in line} - NOT_DRAWN
    found = []
    for metric in [m for m in TITLES if m in logged] + sorted(logged - TITLES.keys()):
        lines = {name: list(_points(lines, metric)) for name, lines in histories.items()}
        if most := max(map(len, lines.values())):
            title = TITLES.get(metric, metric.replace("_", " ").capitalize()) + ", measured once" * (most == 1)
            found.append(Curve(title, _draw(lines, metric, title)))
    return found


def swatch(i: int) -> Markup:
    """Draws a piece of the i-th run's line, for a legend."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure((0.76, 0.2))
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, 2), ylim=(-1, 1))
        axes.set_axis_off()
        _line(axes, i, [(0.05, 0.0), (1.95, 0.0)], [(1.0, 0.0)])
        return markup(to_element(figure, f"line-{i}", f"line of run {i + 1}"))


def _points(lines: Sequence[Mapping[str, Any]], metric: str) -> Iterator[tuple[float, float]]:
    for line in lines:
        if isinstance(line.get(metric), int | float) and "epoch" in line:
            yield float(line["epoch"]), float(line[metric]) * (100 if metric in PERCENT else 1)


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


def _draw(lines: Mapping[str, Points], metric: str, title: str) -> Markup:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    tips, unit = {}, "%" * (metric in PERCENT)
    with mpl.rc_context(STYLE):
        figure = Figure((4.2, 2.6), layout="constrained")
        axes = figure.add_subplot()
        for i, (name, points) in enumerate(lines.items()):
            if not points:
                continue
            marked = _spread(points)
            _line(axes, i, points, marked)
            said = f"{name}, " if len(lines) > 1 else ""
            tips[i] = [{"tip": f"{said}epoch {x:.4g}: {y:.4g}{unit}"} for x, y in marked]
        axes.set(xlabel="epoch")
        axes.locator_params(nbins=6)
        ends = ", ".join(f"{name} ends at {points[-1][1]:.4g}{unit}" for name, points in lines.items() if points)
        root = to_element(figure, f"curve-{metric}", f"{title}, by epoch: {ends}")
    for i, found in tips.items():
        point_out(root, f"curve-{metric}", str(i), found)
    return markup(root)


def _line(axes: Any, i: int, points: Points, marked: Points) -> None:
    """The i-th run's: neighbours differ in colour, dashes and the shape of the marks."""
    colour, marker = look(i)
    axes.plot(*zip(*points, strict=True), color=colour, linestyle=DASHES[i % len(DASHES)], linewidth=1.6)
    axes.plot(*zip(*marked, strict=True), color=colour, linestyle="", marker=marker, markersize=4.5, markeredgewidth=0,
              gid=f"marks-{i}")  # fmt: skip


def _spread(points: Points) -> Points:
    """At most `MARKED` of the points, evenly spread, with the first and the last."""
    if len(points) <= MARKED:
        return points
    return [points[round(i * (len(points) - 1) / (MARKED - 1))] for i in range(MARKED)]
