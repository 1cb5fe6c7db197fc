"""`unlabeled.load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unlabeled.encoders import Encoder


def load(run: str | Path, /) -> Encoder:
    """Loads the trained encoder of a run, in evaluation mode: images (B, C, H, W), uint8 or float in [0, 1], to features (B,
    D).

    Args:
        run: folder of the run, or a file that `export --format safetensors` wrote.

    Raises:
        UserError: there is no finished encoder.
    """
    from unlabeled.run import load as load_it

    return load_it(run)
