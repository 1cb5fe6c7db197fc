"""Line plots as SVG: colours that colour-blind people can tell apart, and markers and dashes that do without colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlabeled.files import write_whole

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito 2008, "Color Universal Design", less the yellow, which is faint on white."""
MARKERS = "osD^vP*X<>"
DASHES = ("-", "--", "-.", ":")

Points = Sequence[tuple[Any, float]]


def draw(path: Path, lines: Mapping[str, Points], *, x: str, y: str, title: str, log: bool = False) -> Path:
    """Draws one line for each name, its points in their order; text on x makes it an axis of categories."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "unlabeled", "svg.fonttype": "path"}):
        figure = Figure((8, 5))
        axes = figure.add_subplot()
        for i, (name, points) in enumerate(lines.items()):
            at, value = [p[0] for p in points], [p[1] for p in points]
            axes.plot(
                at, value, label=name, color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)],
                linestyle=DASHES[i // len(COLOURS) % len(DASHES)], markersize=5, linewidth=1.5,
            )  # fmt: skip
        if log:
            axes.set_xscale("log")
        axes.set(xlabel=x, ylabel=y, title=title)
        axes.grid(alpha=0.3)
        if len(lines) > 1:
            axes.legend(fontsize="small", loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0)
        return write_whole(path, lambda p: figure.savefig(p, format="svg", bbox_inches="tight", metadata={"Date": None}))
