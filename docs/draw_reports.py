"""Copies a run's report, which `unlabeled report RUN` wrote, into docs/examples, and photographs it.

python docs/draw_reports.py RUN NAME
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

EXAMPLES = Path(__file__).parent / "examples"


def main(run: Path, name: str) -> None:
    """Writes NAME.html, NAME.png (a desk's screen, light) and NAME-phone.png (a phone's, dark)."""
    page_file = EXAMPLES / f"{name}.html"
    shutil.copy(run / "report.html", page_file)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for suffix, width, height, scheme in (("", 1200, 1500, "light"), ("-phone", 390, 844, "dark")):
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(page_file.resolve().as_uri())
            page.screenshot(path=EXAMPLES / f"{name}{suffix}.png")
            if not suffix:
                dot = page.locator("[data-i]").first
                if dot.count():
                    dot.scroll_into_view_if_needed()
                    dot.hover(force=True)
                    page.screenshot(path=EXAMPLES / f"{name}-map.png")
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
