"""The linear probe: multinomial logistic regression on frozen features."""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.probes.base import check_fit, top1
from unlabeled.registry import register


@register("linear")
class Linear:
    """L2-regularised multinomial logistic regression by L-BFGS (scikit-learn), without augmentation.

    Features are made comparable first, in the same way for pixels, untrained and trained encoders: each is brought to
    unit length, centred, and divided by the geometric mean of its own and the overall standard deviation ("Pareto
    scaling", van den Berg et al. 2006, "Centering, scaling, and transformations"). Mean and deviations come from all
    training features, labelled or not.

    This and `C` were chosen on scikit-learn's digits, on pixels, an untrained and a SimCLR-trained small network alike, from
    one label a class to all: dividing by each feature's own deviation is bad for pixels, leaving out the unit length for
    untrained encoders.

    Args:
        C: inverse strength of the regularisation: weight of the summed log-loss against half the squared weights.
        max_iter: L-BFGS iterations at most; reaching it is said in `notes_`.
    """

    def __init__(self, *, C: float = 1.0, max_iter: int = 2000) -> None:
        self.C = C
        self.max_iter = max_iter
        self.notes_: list[str] = []

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Fits on h (N, D) with y (N,) int64; mean and deviations from `reference` (R, D), or from h if there is none.

        Raises:
            UserError: an option out of range.
            ValueError: wrong shapes, no sample, or features that are not finite.
        """
        if self.C <= 0 or self.max_iter < 1:
            raise UserError(f"linear: C must be above 0 and max_iter at least 1, got {self.C} and {self.max_iter}")
        check_fit(h, y)
        unit = F.normalize((h if reference is None else reference).float(), dim=1)
        self.mean_, self.scale_ = unit.mean(dim=0), _pareto_scale(unit)
        del unit
        classes, target = np.unique(y.cpu().numpy(), return_inverse=True)
        self.classes_ = torch.from_numpy(classes).to(h.device)
        self.notes_ = []
        if len(classes) == 1:
            weight, bias = np.zeros((1, h.shape[1])), np.zeros(1)
        else:
            weight, bias = self._solve(self._scaled(h).cpu().numpy(), target)
        self.weight_ = torch.from_numpy(weight).to(self.mean_)  # (K, D)
        self.bias_ = torch.from_numpy(bias).to(self.mean_)  # (K,)
        return self

    def predict_log_proba(self, h: Tensor) -> Tensor:
        """Log-probabilities (M, K) of `classes_` for h (M, D), on the device of `h`."""
        return F.log_softmax(F.linear(self._scaled(h), self.weight_, self.bias_), dim=1).to(h.device)

    def predict(self, h: Tensor) -> Tensor:
        """The most probable class of each of h (M, D): (M,) int64 on the device of `h`."""
        return self.classes_.to(h.device)[self.predict_log_proba(h).argmax(dim=1)]

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """Shares in [0, 1]: `top1`, and with more than 5 classes `top5`, the label being among the 5 most probable."""
        ranked = self.predict_log_proba(h).topk(min(5, len(self.classes_)), dim=1).indices
        guesses = self.classes_.to(h.device)[ranked]  # (M, up to 5)
        metrics = {"top1": top1(guesses[:, 0], y)}
        if len(self.classes_) > 5:
            metrics["top5"] = float((guesses == y.to(h.device)[:, None]).any(dim=1).double().mean())
        return metrics

    def _scaled(self, h: Tensor) -> Tensor:
        return (F.normalize(h.to(self.mean_.device).float(), dim=1) - self.mean_) / self.scale_

    def _solve(self, x: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (K, D) and biases (K,) for x (N, D) and target (N,) in [0, K), K >= 2."""
        model = LogisticRegression(C=self.C, max_iter=self.max_iter)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, target)
        if model.n_iter_.max() >= self.max_iter:
            self.notes_ = [f"linear: not converged after max_iter = {self.max_iter} iterations"]
        weight, bias = model.coef_, model.intercept_
        if len(weight) == 1:  # two classes: scikit-learn gives the logit of the second alone
            weight, bias = np.concatenate([0 * weight, weight]), np.concatenate([0 * bias, bias])
        return weight, bias


def _pareto_scale(unit: Tensor) -> Tensor:
    """What to divide each column of (R, D) by: sqrt(own std × overall std); 1 where that is nothing but rounding."""
    variance = unit.var(dim=0, unbiased=False)
    scale = (variance * variance.mean()).pow(0.25)
    return torch.where(scale > 1e-6, scale, torch.ones_like(scale))
