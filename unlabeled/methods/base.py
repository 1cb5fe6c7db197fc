"""What every method is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.distributed import world
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.optim.optimizers import Parts
from unlabeled.parts.heads import LinearClassifier

Embedded = dict[str, Tensor]
"""Tensors (B, ...) by name, of the same samples in the same order."""

SHORT_RUNS: Mapping[str, Mapping[str, Any]] = {"optimizer": {"name": "lars", "lr": 0.3, "weight_decay": 1e-4, "trust": 0.02}}
"""What a ResNet has by default where views are compared: LARS with twenty times the trust coefficient of papers (You et al.
2017), whose steps are for thousands of images a batch. Chosen in trials of some hundreds of steps on 5,000 images of
CIFAR-10, one setting for all methods: for some of them SGD or Muon did as well. It is beside papers' settings in
`results/defaults`."""


class Extract(Protocol):
    """Runs a module over training samples."""

    def __call__(self, module: nn.Module, rows: Tensor | None = None) -> Tensor:
        """Runs any module that takes samples (B, ...) -> its output (n, D) float32, on the CPU, for all training samples as
        they are, in evaluation mode and without gradient; row i belongs to `Batch.index` i. Of `rows` (m,), only those are
        read, in that order: (m, D)."""
        ...


class Method(nn.Module, ABC):
    """An encoder, what reads its representation, and the objective. Abstract here, final in each method's file.

    State is written at four moments only: `before_epoch`, the optimiser step, `observe`, `after_step`; all of it is in
    `state_dict`. `forward` writes nothing but the running statistics of batch norms.

    The constructor is `Method(encoder, shape, *, option=default, ...)`; its keyword arguments are the method's options.
    """

    sees: ClassVar[tuple[str, ...]] = ("image",)
    """Kinds of data that it takes."""
    needs_labels: bool = False
    """Whether `batch.targets["label"]` is there, (B,), or (B, T) of T columns; the loop then draws labelled samples only if
    `only_labelled`."""
    many_labels: ClassVar[bool] = False
    """Whether it takes several columns of labels, `shape.columns`."""
    only_labelled: ClassVar[bool] = False
    """Whether it learns from labelled samples only."""
    n_views: ClassVar[int | None] = 2
    """Views of each sample that it compares; None for any number."""
    parts: Parts = MappingProxyType({})
    """Submodules whose optimiser or schedule differs, and how: `{"critic": {"name": "adamw", "lr": 2e-4}}`,
    `{"predictor": {"schedule": "constant"}}`. See `Optimizers`."""
    adds_up: bool = False
    """Whether the objective is a mean over samples, so that pieces of a batch simply add (`--accumulate`)."""
    rising: bool = False
    """Whether the momentum of the network that follows the encoder rises to 1 along a cosine."""

    def __init__(self, encoder: Encoder, shape: DataShape) -> None:
        super().__init__()
        self.encoder = encoder
        self.shape = shape
        self.register_forward_pre_hook(_enough_for_statistics)

    @property
    def g(self) -> nn.Module | None:
        """What makes of a representation h (B, D) the embedding z = g(h) that is compared; None where there is none."""
        found = getattr(self, "projector", None)
        return found if isinstance(found, nn.Module) and not isinstance(found, nn.Identity) else None

    def check(self, views: Sequence[Tensor], targets: Mapping[str, Tensor]) -> None:
        """Refuses views that it cannot learn from, before a run begins: those of two samples, with their targets.

        Raises:
            UserError: they do not go with the method or the encoder; by default, parts of a sample.
        """
        if any(view.ndim > 4 for view in views):
            raise UserError(
                "the views hold several parts of each image, and this method takes whole images: give other --views, "
                "such as jigsaw, which joins patches to one"
            )

    @abstractmethod
    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Computes the objective on this process's part of the batch. Reads memory, writes none."""

    def observe(self, loss: Loss, at: Progress) -> None:
        """Remembers, after each backward and without gradient: queues and banks take what `loss.memory` holds."""

    def after_step(self, at: Progress) -> None:
        """Follows the optimiser's step, without gradient: momentum encoders, unit prototypes."""

    def before_epoch(self, at: Progress, extract: Extract) -> None:
        """Prepares an epoch before its first step, without gradient: clusters, fills banks. `extract(self.encoder)` gives
        the features (n, D) of all training samples. The global generator is seeded by the epoch, alike in all processes.
        A method that takes no step, as nothing of it is trainable, prepares itself here before the run begins."""

    def sampling(self) -> Tensor | None:
        """Tells how often each of the n training samples is drawn in this epoch: weights (n,) >= 0, of which it draws n with
        replacement; None for each sample once. A function of the state, asked after `before_epoch`."""
        return None

    @property
    def label_head(self) -> LinearClassifier | None:
        """What makes logits (B, classes) of h (B, D), where it learns the labels: a run of it then has a classifier."""
        return None

    def classifying(self) -> dict[str, Sequence[nn.Module]]:
        """Returns what makes logits (B, classes) of samples (B, ...), for each column of labels that it learns: the network
        that all share, and the one that learned this column alone, if there is one. {} where it learns none."""
        return {}

    def labelled_beside(self, batch_size: int) -> int:
        """Tells how many labelled samples are drawn beside each batch of so many, from an order of their own:
        `batch.labelled`."""
        return 0

    def encoders(self) -> dict[str, Encoder]:
        """Returns what is saved, judged and exported, by name; the encoder under "", and others where there are several."""
        return {"": self.encoder}

    def pictures(self, batch: Batch, at: Progress) -> dict[str, Tensor]:
        """Draws what it makes, for people to look at: name -> images (B, C, H, W) in [0, 1], or (B, P, C, H, W) of P
        patches, side by side in this order; in evaluation mode and without gradient. None by default."""
        return {}

    def full_cost_from(self, epochs: int) -> int:
        """Returns the epoch, counted from 0, of a run of so many, from which steps and what comes before an epoch cost what
        they do to the end: 0 where nothing begins late. Who plans a run by the clock asks it (`compare --minutes`)."""
        return 0


class Comparison(Method):
    """A method whose objective sees nothing of a sample but its embedding: the loop may then embed a batch in pieces and
    compare it whole (`--accumulate`, see `unlabeled.training.accumulate`). Its three parts say what is done in pieces, and
    how often.

    `embed` holds the encoder, which takes nearly all of the memory; heads belong into `compare`: there they see the whole
    batch, and their batch norms its statistics.
    """

    groups_batch: ClassVar[bool] = False
    """Whether `constants` draws groups of the batch, by `Ema.in_groups`: it is then asked of the whole batch, whose groups
    are the same in pieces."""

    @abstractmethod
    def embed(self, batch: Batch) -> Embedded:
        """Returns what is compared and differentiated: tensors (B, ...) that depend on each sample alone, but for batch
        norms."""

    def constants(self, batch: Batch) -> Embedded:
        """Returns what is compared and not differentiated (keys, targets, labels): tensors (B, ...), without graph."""
        return {}

    @abstractmethod
    def compare(self, embedded: Embedded, at: Progress) -> Loss:
        """Computes the objective on this process's part of the batch. Reads memory, writes none. The loss's memory holds the
        embedding that is compared as `"z"` (B, D), by which the loop sees a collapse.

        Args:
            embedded: what `embed` and `constants` gave for each sample.
            at: progress.
        """

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Does all three at once; constants first, so that what they draw does not depend on what the encoder draws."""
        constants = self.constants(batch)
        return self.compare({**self.embed(batch), **constants}, at)


def needs_classes(method: str, shape: DataShape) -> None:
    """Refuses data without labels.

    Raises:
        UserError: fewer than two classes.
    """
    if shape.classes < 2:
        raise UserError(
            f"method {method!r} needs labels of at least 2 classes, and the data has {shape.classes}: "
            "give a folder with one sub-folder a class, or another method"
        )


@torch.no_grad()
def stage_shapes(encoder: Encoder, shape: DataShape, size: int | None = None) -> list[tuple[int, ...]]:
    """Returns the shape (C, *places) of the map of each stage, of views of the data's size or of another.

    Raises:
        UserError: an encoder that does not show its stages.
    """
    side = size or shape.size
    encoder.eval().front.train()  # which then does not resize
    maps = encoder.local(torch.zeros(1, shape.channels, side, side))[1]
    encoder.train()
    return [tuple(stage.shape[1:]) for stage in maps]


def map_shape(encoder: Encoder, shape: DataShape, size: int | None = None) -> tuple[int, int]:
    """Returns channels and side of an encoder's last map, of views of the data's size or of another.

    Raises:
        UserError: an encoder that does not show its stages, or whose last stage is no map.
    """
    last = stage_shapes(encoder, shape, size)[-1]
    if len(last) != 3:
        raise UserError("this encoder's last stage is no map of places: give another --encoder, such as resnet18")
    return last[0], last[1]


def _enough_for_statistics(method: nn.Module, inputs: tuple[Batch, Progress]) -> None:
    """One sample has no variance: batch norm would fail on vectors, and make every output the same."""
    if len(inputs[0].index) * world() > 1 or not method.training:
        return
    norms = [m for m in method.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if norms and any(p.requires_grad for p in method.parameters()):
        raise UserError("a batch of 1 sample has no statistics for batch norm: give --batch-size 2 or more")
