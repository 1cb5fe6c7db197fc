"""From a source to one matrix: the features of a frozen encoder, or those that need none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from unlabeled.console import EveryMinute, console
from unlabeled.data import Source
from unlabeled.distributed import rank


class Samples(Protocol):
    """What is needed of a source."""

    def __len__(self) -> int: ...

    def seen(self, indices: Any) -> Tensor:
        """Returns what an encoder sees of the samples at these positions (B,): (B, ...)."""
        ...


def features(
    encoder: nn.Module,
    source: Samples,
    *,
    device: torch.device | str,
    batch_size: int = 512,
    indices: np.ndarray | None = None,
    precision: torch.dtype = torch.float32,
) -> Tensor:
    """Runs a frozen encoder over a source: in eval mode, without gradient; every module's training flag is put back.

    Args:
        encoder: raw samples (B, ...) to (B, D), already on `device`.
        source: length n and `seen`.
        device: where the samples are sent.
        batch_size: samples at a time.
        indices: (n,) positions to take, in this order; None is all.
        precision: float32, or bfloat16 / float16 for autocast.

    Returns:
        (n, D) float32 on the CPU.

    Raises:
        ValueError: nothing to extract, or the encoder does not give (B, D).
    """
    kind = torch.device(device).type
    gathered: Tensor | None = None
    done, total, minutes = 0, _count(source, indices), EveryMinute(console(quiet=rank() > 0))
    with frozen(encoder), torch.no_grad(), torch.autocast(kind, precision, enabled=precision != torch.float32):
        for positions in _batches(source, indices, batch_size):
            h = encoder(source.seen(positions).to(device))
            if h.ndim != 2:
                raise ValueError(f"the encoder must give (B, D) features, got {tuple(h.shape)}")
            if gathered is None:
                gathered = torch.empty(total, h.shape[1])
            gathered[done : done + len(h)] = h
            done += len(h)
            minutes(done, total, partial("features, {:,} of {:,}".format, done, total))
    if gathered is None:
        raise ValueError("no sample to extract features from")
    return gathered


def precision_of(fabric: Fabric) -> torch.dtype:
    """Returns what `features` takes as precision to compute as this Fabric trains: bfloat16 or float32."""
    return torch.bfloat16 if "bf16" in str(fabric._precision.precision) else torch.float32


def raw(source: Source, indices: np.ndarray | None = None) -> Tensor:
    """Returns what stands for the samples without an encoder, (n, D) float32, as their kind says: the baseline of every
    table.

    Raises:
        ValueError: nothing to extract.
    """
    gathered: Tensor | None = None
    done = 0
    for positions in _batches(source, indices, 4096):
        h = source.kind.features(source.fetch(positions), source.form)
        if gathered is None:
            gathered = torch.empty(_count(source, indices), h.shape[1])  # at once: pixels are many
        gathered[done : done + len(h)] = h
        done += len(h)
    if gathered is None:
        raise ValueError("no sample to take features from")
    return gathered


def _count(source: Samples, indices: np.ndarray | None) -> int:
    return len(source) if indices is None else len(indices)


def _batches(source: Samples, indices: np.ndarray | None, size: int) -> Iterator[np.ndarray]:
    positions = np.arange(len(source)) if indices is None else np.asarray(indices)
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


@contextmanager
def frozen(encoder: nn.Module) -> Iterator[None]:
    """Sets evaluation mode for a while; afterwards every module has the training flag that it had."""
    modes = {module: module.training for module in encoder.modules()}
    encoder.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
