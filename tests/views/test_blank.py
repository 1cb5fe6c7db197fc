"""What is said of views in which nothing is to be seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import ok


def drawings(path: Path, paper: int) -> Path:
    """40 grey pictures of a few dark pixels on paper of that value."""
    x = np.full((40, 16, 16), paper, np.uint8)
    x[:, 5:11, 7:9] = max(0, paper - 60)
    np.savez(path, x=x)
    return path


@pytest.mark.parametrize("paper", [250, 128])
def test_brightness_on_bright_pictures_is_told(tmp_path: Path, paper: int) -> None:
    words = ("views", drawings(tmp_path / "x.npz", paper), "--policy.scale", "0.9,1", "--out", tmp_path / "v.png")
    said = ok(*words)
    assert ("are blank, though these are not" in said) == (paper == 250)
    if paper == 250:
        assert "of 80 views" in said
        assert "--policy.strength 0.25 leaves more to see" in said
        assert "blank" not in ok(*words, "--policy.strength", "0.25")


def test_crops_of_paper_are_told_and_pictures_without_anything_are_not_counted(tmp_path: Path) -> None:
    said = ok("views", drawings(tmp_path / "x.npz", 128), "--policy.strength", "0", "--out", tmp_path / "v.png")
    assert "0 are white and 0 black; --policy.scale 0.5,1 leaves more to see" in said
    np.savez(tmp_path / "none.npz", x=np.full((20, 16, 16), 255, np.uint8))
    assert "blank" not in ok("views", tmp_path / "none.npz", "--out", tmp_path / "v.png")
