"""Small random images, and their files."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image


def noise(seed: int = 0, size: tuple[int, int] = (16, 16), channels: int = 3) -> np.ndarray:
    """A coloured random image (H, W, C), uint8."""
    values = np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)
    return values[:, :, 0] if channels == 1 else values


def encoded(array: np.ndarray, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, array: np.ndarray | None = None, seed: int = 0) -> Path:
    """An image file, in the format of its suffix; its folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed) if array is None else array).save(path)
    return path
