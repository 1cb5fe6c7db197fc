"""The map of a representation (t-SNE): dots that can be pointed at, and the images that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from unlabeled.data import Source
from unlabeled.errors import UserError
from unlabeled.reporting.images import Sprite, sprite, thumbnails
from unlabeled.reporting.inline import STYLE, look, markup, point_out, to_element
from unlabeled.words import counted


@dataclass(frozen=True)
class Key:
    """A line of the legend: a class, its number, its dots, and the marker that they have (an id in the page)."""

    name: str
    label: int
    count: int
    marker: str
    paint: str


@dataclass(frozen=True)
class Scatter:
    """The figure, its legend, and the images of its dots, in the order of the file, where they could be had; `reach` is half
    the side of a marker, in units of the figure."""

    figure: Markup
    keys: list[Key]
    sprite: Sprite | None
    count: int
    reach: float


def scatter(found: Mapping[str, Any], source: Source | None, prefix: str) -> Scatter:
    """Draws what a protocol wrote.

    Args:
        found: `x` and `y` (n,), and, where known, `index` (n,) in the test split, `number` (n,) in the data as given,
            `label` (n,), -1 where unlabelled, and `classes`, their names.
        source: the test split, None where it could not be opened.
        prefix: of the ids.

    Raises:
        UserError: the lists are missing or differ in length, or the images are not those of `source`.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    x, y = (np.asarray(found.get(axis, []), dtype=float) for axis in "xy")
    label = np.asarray(found.get("label") or [-1] * len(x), dtype=int)
    index = np.asarray(found.get("index") or [], dtype=int)
    numbers = found.get("number") or []
    if not len(x) == len(y) == len(label) or len(x) == 0 or not {len(index), len(numbers)} <= {0, len(x)}:
        raise UserError("its lists x, y, label, index and number are empty or differ in length")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise UserError("it holds coordinates that are not finite")
    names = {c: name_of(found.get("classes", []), c) for c in np.unique(label).tolist()}
    label_order = sorted(names, key=lambda c: (c < 0, c))
    looks = {c: look(c) for c in label_order}
    size = float(np.clip(160 / np.sqrt(len(x)), 3.2, 9))
    with mpl.rc_context(STYLE):
        figure = Figure((6.4, 5.2))
        axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
        axes.set_axis_off()
        axes.set_aspect("equal", adjustable="datalim")
        for c in label_order:
            colour, marker = looks[c]
            axes.plot(x[label == c], y[label == c], linestyle="", marker=marker, markersize=size, color=colour,
                      markeredgewidth=0, gid=f"marks-{c}")  # fmt: skip
        said = (
            f"Map of {counted(len(x), 'images')} of {counted(len(names), 'classes')}: images whose representations "
            "are alike lie close together"
        )
        root = to_element(figure, prefix, said)
    keys = []
    for c in label_order:
        places = np.flatnonzero(label == c)
        number = [f"image {numbers[i]}" if numbers else f"dot {i}" for i in places]
        marks = [{"tip": f"{names[c]}, {said}", "data-i": str(i)} for i, said in zip(places, number, strict=True)]
        point_out(root, prefix, str(c), marks)
        use = root.find(f".//*[@id='{prefix}-marks-{c}']//use")
        assert use is not None
        keys.append(Key(names[c], c, len(places), use.attrib["href"], use.attrib["class"].removeprefix("mark ")))
    images = sprite(thumbnails(checked(source, index, label), index)) if source is not None and len(index) else None
    return Scatter(markup(root), keys, images, len(x), round(0.6 * size, 2))


def name_of(classes: Any, label: int) -> str:
    """Returns the name of a class, as far as it is known."""
    if label < 0:
        return "unlabelled"
    return str(classes[label]) if label < len(classes) else f"class {label}"


def checked(source: Source, index: np.ndarray, label: np.ndarray) -> Source:
    """Returns the source, if images at `index` (n,) can be those whose labels (n,) were written down.

    Raises:
        UserError: they cannot.
    """
    if index.min() < 0 or index.max() >= len(source):
        raise UserError(f"it shows image {index.max()}, and {source.name!r} has {len(source)} here: give the same --data")
    if source.labels is not None and (label >= 0).any() and (source.labels[index] != label)[label >= 0].any():
        raise UserError(f"the labels of {source.name!r} are not those that it was drawn with: give the same --data")
    return source
