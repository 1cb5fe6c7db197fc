"""What the browser's tests do where there is no browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST = """
from browser import chromium, needs_chromium

@needs_chromium
def test_it():
    with chromium():
        pass
"""


@pytest.mark.parametrize(("wanted", "code", "said"), [("required", 1, "1 failed"), ("", 0, "1 skipped")])
def test_without_chromium_ci_fails_and_others_skip(wanted: str, code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    words = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-rsf", "test_it.py"]
    here = {"PATH": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent), "UNLABELED_TEST_BROWSER": wanted}
    ran = subprocess.run(words, cwd=tmp_path, env={**os.environ, **here}, capture_output=True, text=True)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert said in ran.stdout
    assert "apt-get install chromium" in ran.stdout


def test_ci_requires_it() -> None:
    assert "export UNLABELED_TEST_BROWSER=required\n" in (ROOT / ".ci" / "run").read_text()
