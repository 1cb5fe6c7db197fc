"""The page in a real browser: what is seen, pointed at, pressed; without scripts, on a phone, in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import CONTRASTS, chromium, needs_chromium, page
from PIL import Image

from unlabeled.data import open_data
from unlabeled.registry import Choice

pytestmark = needs_chromium

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}

SHOWN = """() => {
  const canvas = document.querySelector(".bubble canvas");
  const copy = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
  const pen = copy.getContext("2d", { willReadFrequently: true });
  pen.drawImage(canvas, 0, 0);
  const data = pen.getImageData(0, 0, copy.width, copy.height).data;
  return [canvas.width, [...data]];
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


def centre(opened: Any, dot: int) -> tuple[float, float]:
    """Where a dot of the map is on the screen, once it is there."""
    opened.locator(".map svg.plot").scroll_into_view_if_needed()
    box = opened.locator(f'.map use[data-i="{dot}"]').bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def assert_shows(opened: Any, made: Path, dot: int) -> None:
    """The bubble is seen, and holds the dot's image, pixel for pixel: these few are a PNG."""
    assert opened.locator(".bubble canvas").is_visible()
    assert f"image {60 + dot}" in opened.locator(".bubble").inner_text()
    side, pixels = opened.evaluate(SHOWN)
    seen = np.array(pixels, float).reshape(side, side, 4)[..., :3]
    test = open_data(str(made / "x.npz"), kind=Choice("", {"size": 8}), channels=3).test
    assert test is not None
    true = test.seen(np.arange(len(test))).permute(0, 2, 3, 1).numpy().astype(float)
    far = np.abs(true - seen).mean((1, 2, 3))
    assert far.argmin() == dot
    assert far[dot] == 0


def test_pointing_at_a_dot_shows_its_image(browser: Any, made: Path, html: Path) -> None:
    with page(browser, html) as opened:
        assert not opened.locator(".bubble").is_visible()
        for dot in (0, 17, 29):
            opened.mouse.move(*centre(opened, dot))
            assert_shows(opened, made, dot)
        opened.mouse.move(2, 2)
        assert not opened.locator(".bubble").is_visible()


def test_touch_and_keyboard_show_it_too(browser: Any, made: Path, html: Path) -> None:
    with page(browser, html, **PHONE) as opened:
        opened.touchscreen.tap(*centre(opened, 29))
        assert_shows(opened, made, 29)
    with page(browser, html) as opened:
        plot = opened.locator(".map svg.plot")
        plot.focus()
        opened.keyboard.press("ArrowRight")
        first = opened.locator(".bubble").inner_text()
        opened.keyboard.press("ArrowRight")
        second = opened.locator(".bubble").inner_text()
        assert first != second
        assert_shows(opened, made, int(second.rpartition("image ")[2]) - 60)
        opened.keyboard.press("Escape")
        assert not opened.locator(".bubble").is_visible()


def test_pointing_at_a_curve_says_the_value(browser: Any, html: Path) -> None:
    with page(browser, html) as opened:
        mark = opened.locator(".cards use.mark").first
        mark.scroll_into_view_if_needed()
        box = mark.bounding_box()
        opened.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert opened.locator(".bubble").inner_text().startswith("epoch ")
        assert not opened.locator(".bubble canvas").is_visible()


def test_a_class_can_be_picked_out(browser: Any, html: Path) -> None:
    with page(browser, html) as opened:
        key = opened.locator(".map .key").nth(1)
        key.focus()
        opened.keyboard.press("Enter")
        assert key.get_attribute("aria-pressed") == "true"
        assert opened.locator(".map [id*='-marks-'].lit").count() == 1
        opened.keyboard.press("Enter")
        assert opened.locator(".map svg.dim").count() == 0


def test_names_are_shown_and_not_executed(browser: Any, made: Path, html: Path) -> None:
    with page(browser, html) as opened:
        opened.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        body = opened.locator("body").inner_text()
        assert "<script>alert(1)</script>" in body
        assert '"><img src=x onerror=alert(1)>' in body
        opened.mouse.move(*centre(opened, 3))
        assert "<script>alert(1)</script>" in opened.locator(".bubble").inner_text()
        assert opened.locator("[onerror]").count() == 0


def test_without_scripts_everything_is_there(browser: Any, html: Path) -> None:
    with page(browser, html, java_script_enabled=False) as opened:
        assert opened.locator("table").count() >= 1
        assert opened.locator(".cards svg.plot").count() >= 4
        assert opened.locator(".map svg.plot use.mark").count() == 30
        for part in ("table", ".cards svg.plot", ".map svg.plot", ".row img", ".picture img", "pre"):
            assert all(element.is_visible() for element in opened.locator(part).all())
        assert "Point at a dot" not in opened.locator("main").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("form", [{}, PHONE], ids=["desktop", "phone"])
def test_text_stands_out_and_fits(browser: Any, html: Path, scheme: str, form: dict[str, Any]) -> None:
    with page(browser, html, color_scheme=scheme, **form) as opened:
        contrasts = opened.evaluate(CONTRASTS)
        assert len(contrasts) > 60
        assert [pair for pair in contrasts if pair[1] < 4.5] == []
        assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert opened.evaluate("innerWidth") == form.get("viewport", {"width": 1200})["width"]


def test_dark_and_light_differ(browser: Any, html: Path, tmp_path: Path) -> None:
    means = {}
    for scheme in ("light", "dark"):
        with page(browser, html, color_scheme=scheme) as opened:
            opened.screenshot(path=tmp_path / f"{scheme}.png")
        means[scheme] = np.asarray(Image.open(tmp_path / f"{scheme}.png").convert("L"), float).mean()
    assert means["light"] > 190 > 90 > means["dark"]
