"""The linear probe: multinomial logistic regression on frozen features."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Literal, Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from unlabeled.data import hold_out
from unlabeled.errors import UserError
from unlabeled.probes.base import check_fit
from unlabeled.probes.classified import Classified, classified
from unlabeled.probes.softmax import minimise
from unlabeled.registry import register
from unlabeled.words import counted

LARGE = 4_000_000_000
"""Features × samples × classes, the multiplications of one look at all data, from which on SGD takes the place of L-BFGS:
about the first second on one core. CIFAR-10 with a ResNet-50 is below, ImageNet above."""

CANDIDATES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
ROUGH = 100
"""L-BFGS iterations at most where candidates are compared, each beginning where the one before it ended."""
FEW, FOLDS = 2000, 5
"""Labels below which C is chosen by cross-validation, and how often each candidate is then fitted. A single fifth of so few
is some dozens of samples, which tell candidates apart by chance; of more, fitting five times as often costs more than it
tells."""
FALLBACK = 1.0
SEED = 0
"""Of which samples are held out to choose C, and of the order in which SGD sees them: the same labels, the same figure."""


@register("linear")
class Linear:
    """L2-regularised multinomial logistic regression, without augmentation: by L-BFGS (scikit-learn), and for large sets
    (`LARGE`) by stochastic gradient descent on the same objective (`unlabeled.probes.softmax`).

    Features are made comparable first, in the same way for pixels, untrained and trained encoders: each is brought to
    unit length, centred, and divided by the geometric mean of its own and the overall standard deviation ("Pareto
    scaling", van den Berg et al. 2006, "Centering, scaling, and transformations"). Mean and deviations come from all
    training features, labelled or not.

    This was chosen on scikit-learn's digits, on pixels, an untrained and a SimCLR-trained small network alike, from
    one label a class to all: dividing by each feature's own deviation is bad for pixels, leaving out the unit length for
    untrained encoders.

    Args:
        C: inverse strength of the regularisation: weight of the summed log-loss against half the squared weights. `auto`
            takes the best of `CANDIDATES` on a fifth of the labelled training samples, held out evenly over the classes,
            and then fits on all of them; where fewer than `FEW` are labelled, on each fifth in turn. Where too few are
            labelled to hold any out, it is 1, and `notes_` says so.
        max_iter: L-BFGS iterations at most; reaching it is said in `notes_`.

    Attributes:
        C_: what was fitted with.
        chosen_: the same by the name of the option, where it was chosen from the labels.
    """

    def __init__(self, *, C: float | Literal["auto"] = "auto", max_iter: int = 2000) -> None:
        self.C = C
        self.max_iter = max_iter
        self.notes_: list[str] = []
        self.chosen_: dict[str, float] = {}
        self.classified_: Classified

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Fits on h (N, D) with y (N,) int64; mean and deviations from `reference` (R, D), or from h if there is none.

        Raises:
            UserError: an option out of range.
            ValueError: wrong shapes, no sample, or features that are not finite.
        """
        if (self.C != "auto" if isinstance(self.C, str) else not self.C > 0) or self.max_iter < 1:
            raise UserError(f"linear: C must be above 0 or auto, max_iter at least 1, got {self.C} and {self.max_iter}")
        check_fit(h, y)
        unit = F.normalize((h if reference is None else reference).float(), dim=1)
        self.mean_, self.scale_ = unit.mean(dim=0), _pareto_scale(unit)
        del unit
        classes, target = np.unique(y.cpu().numpy(), return_inverse=True)
        self.classes_ = torch.from_numpy(classes).to(h.device)
        self.notes_, self.chosen_ = [], {}
        self.C_ = self._choice(h, target) if isinstance(self.C, str) else self.C
        if len(classes) == 1:
            self.weight_, self.bias_ = h.new_zeros(1, h.shape[1]), h.new_zeros(1)
        else:
            ((weight, bias),) = self._path(h, target, [self.C_])
            self.weight_, self.bias_ = weight.to(self.mean_), bias.to(self.mean_)  # (K, D), (K,)
        return self

    def predict_log_proba(self, h: Tensor) -> Tensor:
        """Returns log-probabilities (M, K) of `classes_` for h (M, D), on the device of `h`."""
        return F.log_softmax(F.linear(self._scaled(h), self.weight_, self.bias_), dim=1).to(h.device)

    def predict(self, h: Tensor) -> Tensor:
        """Returns the most probable class of each of h (M, D): (M,) int64 on the device of `h`."""
        return self.classes_.to(h.device)[self.predict_log_proba(h).argmax(dim=1)]

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """Returns shares in [0, 1]: `top1`, and with more than 5 classes `top5`, the label being among the 5 most
        probable."""
        log_probability = self.predict_log_proba(h)
        self.classified_ = classified(y, log_probability.double().exp(), self.classes_)
        metrics = {"top1": float(self.classified_.right.mean())}
        if len(self.classes_) > 5:
            guesses = self.classes_.to(h.device)[log_probability.topk(5, dim=1).indices]  # (M, 5)
            metrics["top5"] = float((guesses == y.to(h.device)[:, None]).any(dim=1).double().mean())
        return metrics

    def _scaled(self, h: Tensor) -> Tensor:
        return (F.normalize(h.to(self.mean_.device).float(), dim=1) - self.mean_) / self.scale_

    def _choice(self, h: Tensor, target: np.ndarray) -> float:
        """The best of `CANDIDATES` on held-out samples of h (N, D), target (N,) in [0, K): the highest share of right
        classes, and of equal ones the smallest mean log-loss.

        With many labels it ends at the first that is worse than one before it by more than the standard error: weaker
        regularisation takes longest to fit, and would be worse still. With few, shares within a standard error of the
        highest count as equal (Breiman et al. 1984, "Classification and Regression Trees", section 3.4.3).
        """
        few = len(target) < FEW
        parts = _folds(target) if few else _fifth(target)
        if not parts or len(np.unique(target)) == 1:
            self.notes_ = [f"linear: too few labels to hold some out, so C is {FALLBACK:g} and was not chosen"]
            return FALLBACK
        n = sum(len(held) for _, held in parts)
        shares, losses = [], []
        for fits in zip(*(self._tried(h, target, *part) for part in parts), strict=True):
            right, loss = (sum(found) / n for found in zip(*fits, strict=True))
            shares.append(right)
            losses.append(loss)
            error = math.sqrt(max(shares) * (1 - max(shares)) / n)
            if right < max(shares) - error and not few:
                break
        near = [i for i, share in enumerate(shares) if share >= max(shares) - error * few]
        self.chosen_ = {"C": CANDIDATES[min(near, key=lambda i: losses[i])]}
        return self.chosen_["C"]

    def _tried(self, h: Tensor, target: np.ndarray, kept: np.ndarray, held: np.ndarray) -> Iterator[tuple[float, float]]:
        """How many held-out samples get their class, and their summed log-loss, with each of `CANDIDATES` fitted on those
        kept, which are of all classes."""
        x, y = self._scaled(h[torch.from_numpy(held).to(h.device)]), torch.from_numpy(target[held]).to(self.mean_.device)
        for weight, bias in self._path(h[torch.from_numpy(kept).to(h.device)], target[kept], CANDIDATES):
            logits = F.linear(x, weight.to(x), bias.to(x))
            yield float((logits.argmax(dim=1) == y).sum()), float(F.cross_entropy(logits, y, reduction="sum"))

    def _path(self, h: Tensor, target: np.ndarray, candidates: Sequence[float]) -> Iterator[tuple[Tensor, Tensor]]:
        """Weights (K, D) and biases (K,) for h (N, D) and target (N,) in [0, K), K >= 2, with each C, smallest first."""
        classes = int(target.max()) + 1
        if h.numel() * classes >= LARGE:
            y = torch.from_numpy(target).to(self.mean_.device)
            for C in candidates:
                weighs = C / 2 if classes == 2 else C  # scikit-learn has one logit for two classes, not two opposite halves
                yield minimise(lambda rows: self._scaled(h[rows.to(h.device)]), y, classes, h.shape[1], C=weighs, seed=SEED)
            return
        x = self._scaled(h).cpu().numpy()
        rough = len(candidates) > 1
        model = LogisticRegression(max_iter=min(self.max_iter, ROUGH) if rough else self.max_iter, warm_start=True)
        for C in candidates:
            model.set_params(C=C)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                model.fit(x, target)
            if model.n_iter_.max() >= self.max_iter and not rough:
                self.notes_.append(f"linear: not converged after max_iter = {counted(self.max_iter, 'iterations')}")
            weight, bias = torch.from_numpy(model.coef_), torch.from_numpy(model.intercept_)
            if classes == 2:  # scikit-learn gives the logit of the second alone
                weight, bias = torch.cat([0 * weight, weight]), torch.cat([0 * bias, bias])
            yield weight, bias


def _fifth(target: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions kept and held out, once; in no way where almost every one of (N,) classes has a single sample."""
    try:
        return [hold_out(len(target), target, SEED, "linear")]
    except UserError:
        return []


def _folds(target: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions kept and held out, in as many ways as `FOLDS` or fewer: each sample of (N,) classes once, in an order that
    `SEED` draws, but for those of a class with a single one; the next fold is always the next sample's, so that each has its
    part of every class and no class is held out as a whole."""
    rng = np.random.default_rng(SEED)
    fold, turn = np.full(len(target), -1), 0
    for c, count in zip(*np.unique(target, return_counts=True), strict=True):
        if count > 1:
            fold[rng.permutation(np.flatnonzero(target == c))] = (turn + np.arange(count)) % FOLDS
            turn += count
    return [(np.flatnonzero(fold != at), np.flatnonzero(fold == at)) for at in range(FOLDS) if (fold == at).any()]


def _pareto_scale(unit: Tensor) -> Tensor:
    """What to divide each column of (R, D) by: sqrt(own std × overall std); 1 where that is nothing but rounding."""
    variance = unit.var(dim=0, unbiased=False)
    scale = (variance * variance.mean()).pow(0.25)
    return torch.where(scale > 1e-6, scale, torch.ones_like(scale))
