"""Samples that stay on the accelerator once they have been there."""

from __future__ import annotations

import math

import numpy as np
import torch

from unlabeled.batch import Fields
from unlabeled.data.source import Source

SHARE = 0.5
"""Of the accelerator's free memory that samples may take; the rest is the network's and its activations'."""


class Resident:
    """A source's samples in the memory of a device, each copied there the first time it is asked for.

    Args:
        source: of the samples.
        chosen: (n,) positions in it.
        device: where samples are kept.
    """

    def __init__(self, source: Source, chosen: np.ndarray, device: torch.device) -> None:
        self.source, self.chosen = source, chosen
        self.there = np.zeros(len(chosen), dtype=bool)
        self.held = {
            name: torch.empty((len(chosen), *shape), dtype=getattr(torch, kind), device=device)
            for name, (kind, shape) in source.form.fields.items()
        }

    def fetch(self, index: np.ndarray) -> Fields:
        """Returns the samples at `index` (B,) within `chosen`, on the device."""
        missing = np.unique(index[~self.there[index]])
        if missing.size:
            for name, values in self.source.fetch(self.chosen[missing]).items():
                held = self.held[name]
                held[torch.from_numpy(missing).to(held.device)] = values.to(held.device)
            self.there[missing] = True
        return {name: held[torch.from_numpy(index).to(held.device, non_blocking=True)] for name, held in self.held.items()}


def fits(source: Source, count: int, device: torch.device) -> bool:
    """Tells whether so many samples have room on the device, beside a network; never on the processor: they are in its
    memory."""
    if device.type != "cuda":
        return False
    free, _ = torch.cuda.mem_get_info(device)
    each = sum(math.prod(shape) * np.dtype(kind).itemsize for kind, shape in source.form.fields.values())
    return count * each <= SHARE * free
