"""What every method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder


class Method(nn.Module, ABC):
    """An encoder, what reads its representation, and the objective. Abstract here, final in each method's file.

    State is written at four moments only: `before_epoch`, the optimiser step, `observe`, `after_step`; all of it is in
    `state_dict`. `forward` writes nothing but the running statistics of batch norms.

    The constructor is `Method(encoder, shape, *, option=default, ...)`; its keyword arguments are the method's options.
    """

    needs_labels: ClassVar[bool] = False
    """Whether `batch.targets["label"]` is there; the loop then draws labelled images only if `only_labelled`."""
    only_labelled: ClassVar[bool] = False

    def __init__(self, encoder: Encoder, shape: DataShape) -> None:
        super().__init__()
        self.encoder = encoder
        self.shape = shape

    @abstractmethod
    def forward(self, batch: Batch, at: Progress) -> Loss:
        """The objective on this process's part of the batch. Reads memory, writes none."""

    def observe(self, loss: Loss, at: Progress) -> None:
        """After each backward, without gradient: queues and banks take what `loss.memory` holds."""

    def after_step(self, at: Progress) -> None:
        """After the optimiser's step, without gradient: momentum encoders, unit prototypes."""

    def before_epoch(self, at: Progress, extract: Callable[[], Tensor]) -> None:
        """Before the first step of an epoch; `extract()` gives the features (n, D) of the whole source, for clustering."""
