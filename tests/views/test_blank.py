"""What is said of views in which nothing is to be seen."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from command import ok


def drawings(path: Path, paper: int) -> Path:
    """40 grey pictures of a few darker pixels on paper of that value."""
    x = np.full((40, 16, 16), paper, np.uint8)
    x[:, 5:11, 7:9] = paper - 60
    x[:, 7, 7] -= np.arange(40, dtype=np.uint8)
    np.savez(path, x=x)
    return path


@pytest.mark.parametrize(("paper", "strength", "told"), [(250, "1", True), (250, "0.25", False), (128, "0.5", False)])
def test_brightness_on_bright_pictures_is_told(tmp_path: Path, paper: int, strength: str, told: bool) -> None:
    words = ("--policy.scale", "0.9,1", "--policy.strength", strength, "--out", tmp_path / "v.png")
    said = ok("views", drawings(tmp_path / "x.npz", paper), *words)
    assert ("are blank, though these are not" in said) == told
    if told:
        assert re.search(r"\d+ of \d+ views \(\d+%\) of \d+ images are blank", said)
        assert "--policy.strength 0.25 leaves more to see" in said


def test_crops_of_paper_are_told_and_pictures_without_anything_are_not_counted(tmp_path: Path) -> None:
    said = ok("views", drawings(tmp_path / "x.npz", 128), "--policy.strength", "0", "--out", tmp_path / "v.png")
    assert "are blank, though these are not; --policy.scale 0.5,1 leaves more to see" in said
    np.savez(tmp_path / "none.npz", x=np.arange(200, 220, dtype=np.uint8)[:, None, None] * np.ones((1, 16, 16), np.uint8))
    assert "blank" not in ok("views", tmp_path / "none.npz", "--out", tmp_path / "v.png")
