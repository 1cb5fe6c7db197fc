"""Verification: are two images of one class? What siamese networks are for."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.errors import UserError
from unlabeled.probes.base import Figure, check_fit
from unlabeled.probes.roc import auc, best_threshold, equal_error_rate
from unlabeled.registry import register

TILE = 1 << 24
"""Numbers of features held at once."""

Array = np.ndarray[Any, Any]


@register("verification")
class Verification:
    """Pairs of images of new classes, half of them of one class, told apart by the cosine of their features.

    The task of Chopra et al. 2005 (§4) and of Labeled Faces in the Wild (Huang et al. 2007): the classes of the pairs are
    unknown to the encoder. The threshold of `accuracy` is the best for pairs of the other classes, never for these. Classes
    weigh alike, however many images they have.

    Args:
        pairs: of each kind, drawn with replacement, to find the threshold, and as many to judge.
    """

    new_classes: ClassVar[bool] = True
    fits: ClassVar[bool] = True

    def __init__(self, *, pairs: int = 10_000) -> None:
        self.pairs = pairs
        self.notes_: list[str] = []

    def fit(self, h: Tensor, y: Tensor, *, seed: int) -> Self:
        """Finds the threshold with h (N, D) and y (N,) int64 of known classes.

        Raises:
            UserError: an option out of range, or too few classes or images for a pair.
            ValueError: wrong shapes, no sample, or features that are not finite.
        """
        if self.pairs < 1:
            raise UserError(f"verification: pairs is {self.pairs}, and must be at least 1")
        self.threshold_ = best_threshold(*self._cosines(h, y, np.random.default_rng([seed, 0]), "known"))
        self.labelled_ = len(y)
        return self

    def predict(self, a: Tensor, b: Tensor) -> Tensor:
        """Tells whether each of a (M, D) and its b (M, D) are of one class: (M,) bool."""
        return F.cosine_similarity(a.float(), b.float(), dim=1).double() >= self.threshold_

    def score(self, h: Tensor, y: Tensor, *, seed: int) -> dict[str, Figure]:
        """Returns shares in [0, 1] on h (M, D) and y (M,) of new classes: `auc` of the ROC curve, `eer`, the equal error
        rate (less is better), and `accuracy` at the threshold."""
        same, different = self._cosines(h, y, np.random.default_rng([seed, 1]), "new")
        right = ((same >= self.threshold_).mean() + (different < self.threshold_).mean()) / 2
        found = {"auc": auc(same, different), "eer": equal_error_rate(same, different), "accuracy": float(right)}
        return {name: Figure(value) for name, value in found.items()}

    def _cosines(self, h: Tensor, y: Tensor, rng: np.random.Generator, kind: str) -> tuple[Array, Array]:
        """Of drawn pairs of one class, and of two: (pairs,) each."""
        check_fit(h, y)
        same, different = draw_pairs(y.cpu().numpy(), self.pairs, rng, kind)
        step = max(1, TILE // h.shape[1])

        def cosines(pairs: Array) -> Array:
            tiles = torch.split(torch.from_numpy(pairs).to(h.device), step)  # (step, 2) each
            found = [F.cosine_similarity(h[tile[:, 0]].float(), h[tile[:, 1]].float(), dim=1) for tile in tiles]
            joined: Array = torch.cat(found).double().cpu().numpy()
            return joined

        return cosines(same), cosines(different)


def draw_pairs(y: Array, n: int, rng: np.random.Generator, kind: str = "new") -> tuple[Array, Array]:
    """Draws positions (n, 2) of pairs of two images of one class, and of pairs of two classes; classes are drawn evenly.

    Args:
        y: (M,) int64.
        n: pairs of each kind.
        rng: of the draws.
        kind: what the message should call the classes.

    Raises:
        UserError: fewer than two classes, or none with two images.
    """
    order = np.argsort(y, kind="stable")
    classes, first, count = np.unique(y[order], return_index=True, return_counts=True)
    several = np.flatnonzero(count >= 2)
    if len(classes) < 2 or not len(several):
        raise UserError(
            f"verification needs 2 {kind} classes or more, one of them with 2 images, and there are {len(classes)}: "
            "give --data with more classes, or pretrain with another --hold-out-classes"
        )
    one = rng.choice(several, n)
    a = rng.integers(0, count[one])
    b = (a + rng.integers(1, count[one])) % count[one]  # another image of the class
    same = order[np.stack([first[one] + a, first[one] + b], 1)]
    left = rng.integers(0, len(classes), n)
    right = (left + rng.integers(1, len(classes), n)) % len(classes)  # another class
    different = order[np.stack([first[c] + rng.integers(0, count[c]) for c in (left, right)], 1)]
    return same, different
