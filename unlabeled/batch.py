"""The things that travel through a training step: `Batch`, `Progress`, `Loss`; and the `DataShape` that sizes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


Fields = dict[str, "Tensor"]
"""Samples by field, each (B, ...): `{"image": uint8 (B, C, S, S)}`, `{"sound": int16 (B, 1, T), "length": int64 (B,)}`."""


@dataclass(slots=True)
class Batch:
    """What a method sees of one step. Human labels are not in it, unless the method says `needs_labels = True`.

    Attributes:
        views: what the policy drew, such as images (B, C, H, W), float in [0, 1], on the device; sizes may differ
            (multi-crop). Or (B, P, C, H, W), of P patches.
        index: (B,) int64, which of the training samples: memory banks and pseudo-labels need them.
        targets: what the views drew themselves (rotation (B,), permutation (B,), mask (B, N) ...), and `"label"` (B,)
            int64, -1 where unlabelled, for methods that need labels; (B, T) of T columns for those that take many.
        labelled: samples beside those, all with a label, drawn in an order of their own by the same policy; None unless the
            method asks for some (`labelled_beside`).
    """

    views: list[Tensor]
    index: Tensor
    targets: dict[str, Tensor] = field(default_factory=dict)
    labelled: Batch | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The only clock: every schedule and every random draw is a function of it.

    Attributes:
        step: steps taken before this one, in [0, total).
        total: steps of the whole run, > 0.
        epoch: passes over the source completed before this step.
        seed: of the run.
    """

    step: int
    total: int
    epoch: int
    seed: int = 0

    @property
    def fraction(self) -> float:
        """How much of the run lies behind, in [0, 1)."""
        return self.step / self.total

    def generator(self) -> torch.Generator:
        """Returns randomness that seed and step alone decide, alike in all processes: for draws that the whole batch
        shares."""
        import torch

        return torch.Generator().manual_seed(seed_of(self.seed, 0, self.step, 4))


@dataclass(slots=True)
class Loss:
    """What one forward pass gives back.

    Attributes:
        total: scalar, what every part of the method minimises but the rivals.
        terms: scalars to be logged, detached.
        memory: tensors for `observe`, detached. Methods whose objective sees an image through its embedding put that under
            `"z"` (B, D): the loop logs its spread and rank, and says when it collapses.
        rivals: part of the method -> the scalar that this part alone minimises, against the others: a critic.
    """

    total: Tensor
    terms: dict[str, Tensor] = field(default_factory=dict)
    memory: dict[str, Tensor] = field(default_factory=dict)
    rivals: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DataShape:
    """What a method and its views may know of the data before seeing it.

    Attributes:
        n: number of training samples: the size of a memory bank.
        channels: of each sample; 1, 3 or any other number.
        size: of a view along each other axis: pixels of a side, numbers of a recording.
        classes: number of human classes, 0 if there are no labels.
        invariances: transformations that keep the meaning of a sample and that views may therefore use; of an image a subset
            of `{"mirror", "flip", "rotation", "colour", "intensity"}` (mirror: left-right; flip: top-bottom).
        kind: of the samples.
        columns: name and number of classes of each column of labels, where a method learns several; () elsewhere.
    """

    n: int
    channels: int
    size: int
    classes: int = 0
    invariances: frozenset[str] = frozenset({"mirror", "colour", "intensity"})
    kind: str = "image"
    columns: tuple[tuple[str, int], ...] = ()


def seed_of(*parts: int) -> int:
    """Makes one seed of several numbers."""
    import numpy as np

    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


def moved(fields: Fields, device: torch.device | str) -> Fields:
    """Returns the samples on that device, without waiting for it."""
    return {name: values.to(device, non_blocking=True) for name, values in fields.items()}
