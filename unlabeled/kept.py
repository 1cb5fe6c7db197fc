"""Of which epoch an encoder is, and what was seen of the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unlabeled.words import counted


@dataclass(frozen=True)
class Look:
    """What the monitor saw after an epoch.

    Attributes:
        step, epoch: done by then.
        by: what was measured: `knn`, or `h_rank` where no label was seen.
        value: of it.
    """

    step: int
    epoch: int
    by: str
    value: float

    def __str__(self) -> str:
        return f"kNN {100 * self.value:.1f}%" if self.by == "knn" else f"rank of h {self.value:.1f}"


@dataclass(frozen=True)
class Kept:
    """Of which epoch an encoder is, and why.

    Attributes:
        epoch: of the encoder, a fraction of one that was stopped within it.
        trained: epochs of the training that it is from.
        epochs: that were planned.
        best, last: looks of that training; None where there were less than two.
        patience: epochs without a better look after which the training was ended early; 0 where it was not.
    """

    epoch: float
    trained: float
    epochs: int
    best: Look | None = None
    last: Look | None = None
    patience: int = 0

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Kept:
        """Returns what `asdict` made plain."""
        looks = {name: plain[name] and Look(**plain[name]) for name in ("best", "last")}
        return cls(**{**plain, **looks})

    @property
    def looks(self) -> str:
        """Says `best at epoch 10 of 50 (kNN 81.5%), last 77.4%`; "" where nothing was compared."""
        if self.best is None or self.last is None:
            return ""
        if self.best.epoch == self.last.epoch:
            return f"best at epoch {self.best.epoch} of {self.epochs} ({self.best}), the last"
        return f"best at epoch {self.best.epoch} of {self.epochs} ({self.best}), last {str(self.last).split()[-1]}"

    @property
    def early(self) -> str:
        """Says that the training was ended early; "" where it was not."""
        ended = f"ended early after epoch {self.trained:g} of {self.epochs}"
        return f"{ended}: no better look in {counted(self.patience, 'epochs')} (--patience)" if self.patience else ""

    @property
    def said(self) -> str:
        """Says of which epoch the encoder is, where that is not the last of those planned; else ""."""
        which = f"the encoder is that of epoch {self.epoch:g}: {self.looks}" if self.epoch != self.trained else ""
        return "; ".join(said for said in (self.early, which) if said)
