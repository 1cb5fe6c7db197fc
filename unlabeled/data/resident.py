"""Images that stay on the accelerator once they have been there."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from unlabeled.data.source import Source

SHARE = 0.5
"""Of the accelerator's free memory that images may take; the rest is the network's and its activations'."""


class Resident:
    """A source's images in the memory of a device, each copied there the first time it is asked for.

    Args:
        source: of uint8 (C, S, S).
        chosen: (n,) positions in it.
        device: where images are kept.
    """

    def __init__(self, source: Source, chosen: np.ndarray, device: torch.device) -> None:
        self.source, self.chosen = source, chosen
        self.there = np.zeros(len(chosen), dtype=bool)
        self.pixels = torch.empty((len(chosen), *_shape(source)), dtype=torch.uint8, device=device)

    def fetch(self, index: np.ndarray) -> Tensor:
        """The images at `index` (B,) within `chosen`: uint8 (B, C, S, S), on the device."""
        missing = np.unique(index[~self.there[index]])
        if missing.size:
            images = self.source.fetch(self.chosen[missing])
            self.pixels[torch.from_numpy(missing).to(self.pixels.device)] = images.to(self.pixels.device)
            self.there[missing] = True
        return self.pixels[torch.from_numpy(index).to(self.pixels.device, non_blocking=True)]


def fits(source: Source, count: int, device: torch.device) -> bool:
    """Whether so many images have room on the device, beside a network; never on the processor, whose memory they are in."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    return count * int(np.prod(_shape(source))) <= SHARE * free


def _shape(source: Source) -> tuple[int, ...]:
    return tuple(source.fetch([0]).shape[1:])
