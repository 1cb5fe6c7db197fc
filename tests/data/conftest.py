"""Images are made in the test's own folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .pictures import write

FIRST = 150
"""Seed of the first of these images, so that two of each class are held out."""


@pytest.fixture
def class_folder(tmp_path: Path) -> Path:
    """30 images 16x16 in three classes of ten."""
    for c, name in enumerate(("ant", "bee", "cat")):
        for i in range(10):
            write(tmp_path / "pictures" / name / f"{i}.png", seed=FIRST + 10 * c + i)
    return tmp_path / "pictures"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how many samples are decoded."""
    from unlabeled.data.kinds import image

    counted: list[int] = []
    decode: Callable[..., np.ndarray] = image.to_pixels

    def counting(*given: object, **named: object) -> np.ndarray:
        counted.append(1)
        return decode(*given, **named)

    monkeypatch.setattr(image, "to_pixels", counting)
    return counted
