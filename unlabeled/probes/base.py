"""What every probe can do: fit on labelled features, predict, score. As in scikit-learn, learned attributes end in `_`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from torch import Tensor


class Probe(Protocol):
    """A classifier on frozen features. Its keyword-only constructor arguments are its options.

    Attributes:
        notes_: what the last fit has to say in plain words (it did not converge, ...); empty if nothing.
    """

    notes_: list[str]

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Learns from h (N, D) float and y (N,) int64.

        `reference` (R, D) are all training features, labelled or not, whose statistics may be used: they cost no label.
        """
        ...

    def predict(self, h: Tensor) -> Tensor:
        """The class of each of h (M, D): (M,) int64, on the device of `h`, values out of the `y` given to `fit`."""
        ...

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """Shares in [0, 1] by the name of the metric, `"top1"` among them. The only place where test labels are read."""
        ...


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured, and half the width of its 95% confidence interval where the protocol knows it."""

    value: float
    interval: float | None = None


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
        """Shares in [0, 1] by the name of the metric, on h (M, D) and y (M,) of new classes; more of the first is better.

        One with an interval is a mean over draws of its own, and is asked for once; others for several seeds.
        """
        ...


def check_fit(h: Tensor, y: Tensor) -> None:
    """Raises ValueError unless h is (N, D), finite, y is (N,), and N > 0."""
    if h.ndim != 2 or y.shape != h.shape[:1]:
        raise ValueError(f"features must be (N, D) and labels (N,), got {tuple(h.shape)} and {tuple(y.shape)}")
    if len(h) == 0:
        raise ValueError("no labelled sample to fit on")
    if not h.isfinite().all():
        raise ValueError("the features hold NaN or infinity")


def top1(predicted: Tensor, y: Tensor) -> float:
    """Share of equal entries of two (M,) tensors, on any devices."""
    return float((predicted.cpu() == y.cpu()).double().mean())
