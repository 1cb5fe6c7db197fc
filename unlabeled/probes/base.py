"""What every probe can do: fit on labelled features, predict, score. As in scikit-learn, learned attributes end in `_`."""

from __future__ import annotations

from typing import Protocol, Self

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
