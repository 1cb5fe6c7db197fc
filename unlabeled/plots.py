"""Plots: colours that colour-blind people can tell apart, markers and dashes that do without; PNG files marked as ours."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unlabeled.files import open_regular, write_whole

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito 2008, "Color Universal Design", less the yellow, which is faint on white."""
MARKERS = "osD^vP*X<>"
DASHES = ("-", "--", "-.", ":")

SOFTWARE, OURS = "Software", "unlabeled"
"""What the PNG files that we write say of who wrote them: pictures of pictures are no data, wherever they lie."""
_HEAD = 256
"""Bytes of a PNG within which it says so, right after its size."""

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


def save_figure(path: Path, figure: Any, **options: Any) -> Path:
    """Writes a figure of matplotlib as PNG, by options of `savefig`; a box stands for a letter that the font lacks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        return write_whole(path, lambda p: figure.savefig(p, format="png", metadata={SOFTWARE: OURS}, **options))


def save_sheet(path: Path, image: Any) -> Path:
    """Writes an image of Pillow as PNG."""
    from PIL.PngImagePlugin import PngInfo

    mark = PngInfo()
    mark.add_text(SOFTWARE, OURS)
    return write_whole(path, lambda p: image.save(p, format="PNG", optimize=True, pnginfo=mark))


def is_ours(path: Path) -> bool:
    """Tells whether a file is a PNG that one of these wrote."""
    try:
        with open_regular(path) as file:
            return f"tEXt{SOFTWARE}\0{OURS}".encode() in file.read(_HEAD)
    except OSError:
        return False
