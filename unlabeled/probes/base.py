"""What every probe can do: fit on labelled features, predict, score. As in scikit-learn, learned attributes end in `_`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.words import counted

if TYPE_CHECKING:
    from unlabeled.data import Source
    from unlabeled.probes.subject import Subject

Array = np.ndarray[Any, Any]


class Probe(Protocol):
    """A classifier on frozen features. Its keyword-only constructor arguments are its options.

    Attributes:
        notes_: what the last fit and score have to say in plain words (it did not converge, ...); empty if nothing.

    A probe may also have `intervals_` (figure -> half the width of its 95% confidence interval, after `score`), `plain`
    (names of figures that are no shares), `fits` (False: `fit` learns nothing from labels), `scored_` (images looked at,
    after `score`, where those are fewer than it was given), `each_` ((M,), after `score`: the first figure of each sample,
    whose mean it is, by which two encoders are compared sample by sample), and, in its place, `classified_` (after `score`:
    an `unlabeled.probes.classified.Classified`, whose `right` are the first figure's), and `chosen_` (options that were left
    to it -> what the last fit chose).
    """

    notes_: list[str]

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Learns from h (N, D) float and y (N,) int64.

        `reference` (R, D) are all training features, labelled or not, whose statistics may be used: they cost no label.
        """
        ...

    def predict(self, h: Tensor) -> Tensor:
        """Returns the class of each of h (M, D): (M,) int64, on the device of `h`, values out of the `y` given to `fit`."""
        ...

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """Returns shares in [0, 1] by the name of the metric, `"top1"` among them. The only place where test labels are
        read."""
        ...


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, and half the width of its 95% confidence interval where the protocol knows it.

    Attributes:
        value: the more the better, of a protocol's first figure.
        interval: half the width of the 95% confidence interval, in the same unit.
        share: whether it lies in [0, 1] and is shown in percent.
    """

    value: float
    interval: float | None = None
    share: bool = True


def binomial(share: float, of: int) -> float:
    """Tells how far the 95% confidence interval of a share of `of` independent images reaches from that share (Wilson 1927).

    Wilson's interval lies around a centre that is nearer to 1/2 than the share. Given is the distance to its farther end, so
    that share ± distance holds all of it; the other side is wider than Wilson's, and may pass 0 or 1, which no share does.
    """
    z = 1.96
    half = z / (1 + z * z / of) * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    centre = (share + z * z / (2 * of)) / (1 + z * z / of)
    return half + abs(centre - share)


def mean_and_interval(values: Array, *, share: bool = True) -> Figure:
    """Returns the mean of (n,) values and half the width of its 95% confidence interval, 1.96 s/√n with s of n - 1; one
    value has none."""
    alone = len(values) == 1
    return Figure(float(values.mean()), None if alone else float(1.96 * values.std(ddof=1) / np.sqrt(len(values))), share)


class NewClassesProbe(Protocol):
    """Judges features on classes whose labels the encoder never saw. Its keyword-only constructor arguments are its options.

    Attributes:
        new_classes: True; says that a protocol is one of these.
        fits: whether `fit` learns anything.
        labelled_: images whose labels were used to decide.
        notes_: what is to be said in plain words.
    """

    new_classes: ClassVar[bool]
    fits: ClassVar[bool]
    labelled_: int
    notes_: list[str]

    def fit(self, h: Tensor, y: Tensor, *, seed: int) -> Self:
        """Learns from h (N, D) float and y (N,) int64 of all other classes."""
        ...

    def score(self, h: Tensor, y: Tensor, *, seed: int) -> dict[str, Figure]:
        """Returns shares in [0, 1] by the name of the metric, on h (M, D) and y (M,) of new classes; more of the first is
        better.

        One with an interval is a mean over draws of its own, and is asked for once; others for several seeds.
        """
        ...


class ImageProbe(Protocol):
    """Judges an encoder on images, rather than features. Its keyword-only constructor arguments are its options.

    Attributes:
        on_images: True; says that a protocol is one of these.
        needs_labels: whether images without labels can be judged; where False, y holds -1 for them.
        needs_encoder: whether raw features cannot be judged.
        draws: how many draws of few labels are enough (fine-tuning costs more than a classifier); of those that need some.
        notes_: what is to be said in plain words.

    One that looks at fewer images than it is given says how many: `fitted_` after `fit`, `scored_` after `score`; it may
    have `each_`, `classified_` or `chosen_`, as a `Probe`. One that finds classes also has `predict(source, indices)`: the
    class of each image, (M,) int64.
    """

    on_images: ClassVar[bool]
    needs_labels: ClassVar[bool]
    needs_encoder: ClassVar[bool]
    draws: ClassVar[int]
    notes_: list[str]

    def fit(self, subject: Subject, source: Source, indices: Array, y: Array, *, seed: int) -> Self:
        """Learns from the images at `indices` (N,) of the training split, of classes y (N,) int64."""
        ...

    def score(self, source: Source, indices: Array, y: Array) -> Mapping[str, Figure]:
        """Returns figures by name, on the images at `indices` (M,) of the test split, of classes y (M,); more of the first
        is better. The only place where test labels are read."""
        ...


@dataclass(frozen=True, slots=True)
class Shown:
    """The images that a probe was fitted on, or scored on, for it to draw: positions (n,) in a source and labels (n,)."""

    source: Source
    indices: Array
    y: Array


@runtime_checkable
class Draws(Protocol):
    """A probe that has a picture to show, beside its figures."""

    def draw(self, folder: Path, name: str, train: Shown, test: Shown) -> list[Path]:
        """Writes a picture, NAME and a suffix, and NAME.json that a report can make its own picture of, after `fit` on the
        images of `train` and `score` on those of `test`, in their order; returns the files, the picture first."""
        ...


def check_fit(h: Tensor, y: Tensor) -> None:
    """Raises ValueError unless h is (N, D), finite, y is (N,), and N > 0."""
    if h.ndim != 2 or y.shape != h.shape[:1]:
        raise ValueError(f"features must be (N, D) and labels (N,), got {tuple(h.shape)} and {tuple(y.shape)}")
    if len(h) == 0:
        raise ValueError("no labelled sample to fit on")
    if not h.isfinite().all():
        raise ValueError("the features hold NaN or infinity")


def check_classes(y: Array, where: str) -> None:
    """Checks that labels y (N,) are of two classes or more: who names the only class is always right.

    Raises:
        UserError: they are not.
    """
    if len(np.unique(y)) < 2:
        raise UserError(
            f"{where}, {counted(len(y), 'labels')}: all labels are of one class, and naming it would be 100% right: give "
            "data with labels of two classes or more, or --protocol health, which needs none"
        )


def top1(predicted: Tensor, y: Tensor) -> float:
    """Returns the share of equal entries of two (M,) tensors, on any devices."""
    return float((predicted.cpu() == y.cpu()).double().mean())
