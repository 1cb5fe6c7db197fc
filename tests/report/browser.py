"""A headless Chromium, and what is asked of a page in it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("UNLABELED_TEST_BROWSER") != "required",
    reason="no chromium on the PATH: apt-get install chromium",
)


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; root needs `--no-sandbox`."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, "no chromium on the PATH: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextmanager
def page(browser: Any, path: Path, **options: Any) -> Iterator[Any]:
    """A page opened from its file; an error or a warning of the console, or a request that leaves the page, is a failure."""
    options = {"viewport": {"width": 1200, "height": 900}, **options}
    context = browser.new_context(**options)
    opened = context.new_page()
    said, asked = [], []
    opened.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    yield opened
    context.close()
    assert said == [], said
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert [url for url in asked if url.startswith("file:")] == [path.as_uri()]


CONTRASTS = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const linear = (c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.textContent.trim();
    const element = texts.currentNode.parentElement;
    if (!text || !element.getClientRects().length || element.closest("script, title")) continue;
    const style = getComputedStyle(element);
    const ink = parse(element.closest("svg") ? style.fill : style.color);
    let ground = element;
    while (ground && parse(getComputedStyle(ground).backgroundColor)[3] === 0) ground = ground.parentElement;
    const paper = parse(getComputedStyle(ground).backgroundColor);
    const [low, high] = [luminance(ink), luminance(paper)].sort((a, b) => a - b);
    found.push([text.slice(0, 40), (high + 0.05) / (low + 0.05)]);
  }
  return found;
}"""
"""Each text that is seen, and its contrast (WCAG 2.1, relative luminance) with what lies behind it."""
