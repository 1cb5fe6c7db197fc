"""A matplotlib figure as SVG that belongs to a page: colours are the style sheet's, marks can be pointed at."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from markupsafe import Markup

from unlabeled.plots import COLOURS, MARKERS

SERIES = COLOURS[:6]
"""Colours that stand for the six series of the style sheet, where each has a shade for light and one for dark paper."""
INK, FAINT = "#111111", "#aaaaaa"
"""Stand for the colours of text and of grid lines."""

_PAINTS = {colour.lower(): f"k{i}" for i, colour in enumerate(SERIES)} | {INK: "ink", FAINT: "faint"}

STYLE: Any = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 12, "figure.facecolor": "none", "axes.facecolor": "none",
    "text.color": INK, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "xtick.color": FAINT, "ytick.color": FAINT,
    "xtick.labelcolor": INK, "ytick.labelcolor": INK, "grid.color": FAINT, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.35, "grid.linewidth": 0.6,
}  # fmt: skip
"""Settings of matplotlib, for figures that `to_element` takes."""


def look(i: int) -> tuple[str, str]:
    """Returns colour and marker of the i-th class or run: neighbours differ in both, 60 in one of them, then again; -1 is
    none."""
    if i < 0:
        return FAINT, "o"
    turn = i // math.lcm(len(SERIES), len(MARKERS))  # after which colour and shape would meet again
    return SERIES[i % len(SERIES)], MARKERS[(i + turn) % len(MARKERS)]


def to_element(figure: Any, prefix: str, label: str) -> ElementTree.Element:
    """Returns the figure as an `svg` element without namespaces, ids of its own, style attributes or colours.

    Args:
        figure: of matplotlib, drawn under `STYLE`.
        prefix: of all ids, unique in the page.
        label: what it shows, in words, for those who do not see it.
    """
    written = io.BytesIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    root = ElementTree.fromstring(written.getvalue())
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {name.rpartition("}")[2]: value for name, value in element.attrib.items()}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in ("metadata", "style"):
                parent.remove(child)
    used = set(re.findall(r"#([\w-]+)", " ".join(v for e in root.iter() for k, v in e.attrib.items() if k != "style")))
    for element in root.iter():
        _paint(element)
        if "id" in element.attrib and element.get("id") not in used and not element.get("id", "").startswith("marks-"):
            del element.attrib["id"]
        for name in ("id", "href", "clip-path"):
            if name in element.attrib:
                element.set(name, re.sub(r"^(#|url\(#|)", rf"\g<1>{prefix}-", element.attrib[name], count=1))
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"class": "plot", "role": "img", "aria-label": label}
    return root


def point_out(root: ElementTree.Element, prefix: str, group: str, marks: Sequence[Mapping[str, str]]) -> None:
    """Says what the marks of the group `marks-GROUP` are, in their order: `tip` is shown to who points at one, what else
    there is becomes its attributes."""
    drawn = root.iterfind(f".//*[@id='{prefix}-marks-{group}']//use")
    for use, mark in zip(drawn, marks, strict=True):
        use.attrib |= {name: value for name, value in mark.items() if name != "tip"}
        use.set("class", f"mark {use.get('class', '')}".strip())
        ElementTree.SubElement(use, "title").text = mark["tip"]


def markup(root: ElementTree.Element) -> Markup:
    """Returns the element for a template; what it says is escaped."""
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _paint(element: ElementTree.Element) -> None:
    """Takes the style attribute apart: colours become classes, the rest attributes of the same meaning; the fonts are left
    to the page."""
    classes = [element.get("class", "")]
    for name, value in _declarations(element.attrib.pop("style", "")):
        if name in ("fill", "stroke") and value != "none":
            classes.append(f"{name}-{_PAINTS[value.lower()]}")
        elif name in ("font", "font-size"):
            size = re.search(r"([\d.]+)px", value)
            element.set("font-size", size[1] if size else value)
        elif not name.startswith("font-"):
            element.set(name, value)
    if any(classes):
        element.set("class", " ".join(filter(None, classes)))


def _declarations(style: str) -> Iterator[tuple[str, str]]:
    for declaration in filter(str.strip, style.split(";")):
        name, _, value = declaration.partition(":")
        yield name.strip(), value.strip()
