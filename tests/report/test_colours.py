"""Colours of series on both papers, as people with normal and with deficient colour vision see them."""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest

SIGHT = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Of linear RGB; Machado, Oliveira and Fernandes 2009, severity 1."""
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])
"""From linear sRGB, white D65 (IEC 61966-2-1)."""
APART = 15
"""CIEDE2000 between any two: a difference of 2 to 3 is just seen; thin lines and small marks ask for much more."""


def linear(colour: str) -> np.ndarray:
    c = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    t = XYZ @ rgb / XYZ.sum(1)
    x, y, z = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def ciede2000(p: np.ndarray, q: np.ndarray) -> float:
    """Sharma, Wu and Dalal 2005, equations 2 to 22."""
    far = float(25**7)
    c7 = ((np.hypot(*p[1:]) + np.hypot(*q[1:])) / 2) ** 7
    wider = 1.5 - 0.5 * np.sqrt(c7 / (c7 + far))
    (l1, c1, h1), (l2, c2, h2) = (
        (lightness, np.hypot(a * wider, b), np.degrees(np.arctan2(b, a * wider)) % 360) for lightness, a, b in (p, q)
    )
    turn = (h2 - h1 + 180) % 360 - 180
    hue, light, chroma = h1 + turn / 2, (l1 + l2) / 2 - 50, (c1 + c2) / 2
    cosines = zip((-0.17, 0.24, 0.32, -0.2), (1, 2, 3, 4), (-30, 0, 6, -63), strict=True)
    t = 1 + sum(by * np.cos(np.radians(times * hue + plus)) for by, times, plus in cosines)
    dl = (l2 - l1) / (1 + 0.015 * light**2 / np.sqrt(20 + light**2))
    dc = (c2 - c1) / (1 + 0.045 * chroma)
    dh = 2 * np.sqrt(c1 * c2) * np.sin(np.radians(turn / 2)) / (1 + 0.015 * chroma * t)
    blue = np.sin(np.radians(60 * np.exp(-((((hue - 275 + 180) % 360 - 180) / 25) ** 2))))
    rotation = -2 * np.sqrt(chroma**7 / (chroma**7 + far)) * blue
    return float(np.sqrt(dl**2 + dc**2 + dh**2 + rotation * dc * dh))


@pytest.mark.parametrize(
    ("p", "q", "expected"),
    [
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
    ],
)
def test_the_difference_is_that_of_its_paper(p: tuple[float, ...], q: tuple[float, ...], expected: float) -> None:
    """Table 1 there."""
    assert ciede2000(np.array(p), np.array(q)) == pytest.approx(expected, abs=1e-4)


def papers() -> dict[str, dict[str, str]]:
    """The variables of the style sheet, as they are in the light and in the dark."""
    style = files("unlabeled.reporting").joinpath("style.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S))
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("paper", ["light", "dark"])
@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_series_can_be_told_apart(paper: str, sight: str) -> None:
    colours = {name: colour for name, colour in papers()[paper].items() if re.fullmatch(r"k\d", name)}
    assert len(colours) == 6
    seen = {name: lab((SIGHT[sight] @ linear(colour)).clip(0, 1)) for name, colour in colours.items()}
    near = {pair: round(ciede2000(seen[pair[0]], seen[pair[1]]), 1) for pair in combinations(seen, 2)}
    assert {pair: far for pair, far in near.items() if far < APART} == {}


@pytest.mark.parametrize("paper", ["light", "dark"])
def test_series_stand_out(paper: str) -> None:
    """WCAG 2.1, 1.4.11: 3:1 for graphics."""
    found = {name: XYZ[1] @ linear(colour) for name, colour in papers()[paper].items()}
    for name, ground in ((name, ground) for name in found if re.fullmatch(r"k\d", name) for ground in ("paper", "card")):
        low, high = sorted((found[name], found[ground]))
        assert (high + 0.05) / (low + 0.05) >= 3, (name, ground)
