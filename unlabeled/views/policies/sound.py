"""Windows of recordings."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields
from unlabeled.registry import Count, register


@register("window")
class Window:
    """A window at a random place of each recording (van den Oord et al. 2018, section 3.1).

    A recording that is shorter is a window of its own, with the padding after it that it comes with: encoders take zeros
    at the end for what they are. Repeated, it could be predicted by heart.
    """

    sees: ClassVar[tuple[str, ...]] = ("sound",)

    def __init__(self, shape: DataShape, *, samples: Count = 20480) -> None:
        """Nothing is checked against the data.

        Args:
            shape: of the data; its size is the samples of the longest recording.
            samples: of the window (20,480, which are 1.28 s at 16 kHz: section 3.1); fewer where no recording has so many.
        """
        self.size = min(samples, shape.size)

    def __call__(self, fields: Fields, generator: torch.Generator) -> tuple[list[Tensor], dict[str, Tensor]]:
        """int16 `sound` (B, 1, T) and its `length` (B,) -> one view, float32 (B, 1, W) in [-1, 1); no targets."""
        sound, length = fields["sound"], fields["length"]
        u = torch.rand(len(sound), generator=generator).to(sound.device)
        places = (length - self.size).clamp(min=0) + 1  # (B,)
        start = (u.double() * places).long()  # float32 does not count beyond 2^24 samples
        where = (start[:, None] + torch.arange(self.size, device=sound.device))[:, None]  # (B, 1, W)
        return [sound.gather(2, where).float() / 32768], {}
