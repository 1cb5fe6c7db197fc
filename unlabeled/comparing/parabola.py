"""InfoMin's study: the linear accuracy over how much two views share, as an option makes them share less."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from unlabeled.comparing.table import Column
from unlabeled.data import Source
from unlabeled.evaluating.subjects import subjects
from unlabeled.files import write_whole
from unlabeled.plots import COLOURS, MARKERS
from unlabeled.probes.label_free import Health
from unlabeled.run import Run

POLICY = "infomin"
CAPTION = (
    "Information: a lower bound on what two views of a test image share, in nats (log N minus InfoNCE, for the run's own "
    "views and projector), ± half its 95% interval. Views are best where they share what the classes need and little more "
    "(Tian et al. 2020, section 3): accuracy rises, then falls, as they share less."
)
COLUMN = Column(
    "information, nats", lambda row: row.get("information"),
    lambda row: f"{row['information']:.2f} ± {row['information_interval']:.2f}",
)  # fmt: skip


def asked(views: str) -> bool:
    """Tells whether a policy of this name makes a sweep the study."""
    return views == POLICY


def information(run: Run, test: Source, accelerator: str) -> dict[str, float]:
    """Measures the bound of `health` on the run's own views, with the temperature that it was trained with: nats, and half
    the width of the 95% interval; of z where the method has a projector."""
    (make,) = subjects(run, (), accelerator)
    probe = Health(temperature=float(run.recipe.method.options.get("temperature", Health().temperature)))
    indices = np.flatnonzero(test.good())
    nobody = np.zeros(0, np.int64)
    found = probe.fit(make(test), test, nobody, nobody, seed=run.recipe.seed).score(test, indices, nobody)
    figure = found.get("information z", found["information h"])
    return {"information": figure.value, "information_interval": figure.interval or 0.0}


def draw(path: Path, axes: Sequence[str], rows: Sequence[Mapping[str, Any]], *, title: str) -> Path:
    """Draws accuracy over information as SVG: a point for each row, named by its value of the first axis and joined in its
    order; a line for each combination of the others."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    first, *others = axes
    lines: dict[str, list[tuple[float, float, str]]] = {}
    for row in rows:
        name = ", ".join(f"{axis.rpartition('.')[2]} {row['values'][axis]}" for axis in others)
        point = row["information"], 100 * fmean(row["figures"]["linear"]), str(row["values"][first])
        lines.setdefault(name, []).append(point)
    with mpl.rc_context({"svg.hashsalt": "unlabeled", "svg.fonttype": "path"}):
        figure = Figure((8, 5))
        plot = figure.add_subplot()
        for number, (name, points) in enumerate(lines.items()):
            shares, accuracies = [share for share, _, _ in points], [accuracy for _, accuracy, _ in points]
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            plot.plot(shares, accuracies, label=name, color=colour, marker=marker, linewidth=1.5, markersize=5)
            for share, accuracy, value in points:
                plot.annotate(value, (share, accuracy), (5, 5), textcoords="offset points", fontsize="small")
        plot.set(xlabel="information that two views share, nats", ylabel="linear top-1 accuracy, %", title=title)
        plot.grid(alpha=0.3)
        if others:
            plot.legend(fontsize="small")
        return write_whole(path, lambda p: figure.savefig(p, format="svg", bbox_inches="tight", metadata={"Date": None}))
