"""The command line in this process, and the small data that its tests run on."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from unlabeled.cli import main

SMALL = ("--encoder.width", "4", "--batch-size", "16", "--image-size", "8", "--accelerator", "cpu")
"""Options of a pretraining that takes a moment, but for its epochs."""

EVEN = 21249
"""A seed of images of which a fifth of each class is held out, as an array and as files."""

ONE = (*SMALL, "--epochs", "1")


ABOUT: dict[str, Any] = {"data": {"fingerprint": "x", "train": 60, "channels": 3, "classes": ["a", "b", "c"]}}
"""The least that a run's environment says."""


@dataclass(frozen=True)
class Result:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


def unlabeled(*words: object) -> Result:
    """Runs `unlabeled WORDS`; anything but an exit is a failure of the test, as it would be a traceback."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main([str(word) for word in words])
        except SystemExit as end:
            code = end.code
    return Result(int(code or 0), out.getvalue(), err.getvalue())


def ok(*words: object) -> str:
    """The same, where it must succeed; what it printed, in one line."""
    result = unlabeled(*words)
    assert result.code == 0, result.err
    return " ".join(result.out.split())


def mistake(*words: object) -> str:
    """The same, where it must be refused: exit code 2 and one line, which is given back."""
    result = unlabeled(*words)
    assert result.code == 2, (result.code, result.out)
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith("unlabeled: error: ")
    return result.err


def images(n: int = 60, classes: int = 3, channels: int = 3, side: int = 8, seed: int = EVEN) -> tuple[Any, Any]:
    """Noise around a picture of each class: uint8 (n, side, side, channels) and labels (n,)."""
    random = np.random.default_rng(seed)
    y = np.arange(n) % classes
    centres = np.random.default_rng(99).integers(40, 216, (classes, side, side, channels))
    return (centres[y] + random.integers(-30, 31, (n, side, side, channels))).clip(0, 255).astype(np.uint8), y


def folder(path: Path, n: int = 60, classes: int = 3) -> Path:
    """The same as PNG files, one sub-folder a class."""
    x, y = images(n, classes)
    for i, (image, label) in enumerate(zip(x, y, strict=True)):
        place = path / "abc"[label] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place)
    return path


def file(path: Path, *, labels: bool = True, **more: int) -> Path:
    """The same as an `.npz` file."""
    x, y = images(**more)
    np.savez(path, **({"x": x, "y": y} if labels else {"x": x}))
    return path
