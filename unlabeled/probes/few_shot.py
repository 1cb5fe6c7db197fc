"""Few-shot classification of new classes by the nearest class mean."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.errors import UserError
from unlabeled.probes.base import Figure, check_fit, mean_and_interval
from unlabeled.registry import register
from unlabeled.words import counted

TILE = 1 << 24
"""Numbers of features held at once."""

Array = np.ndarray[Any, Any]


@register("few-shot")
class FewShot:
    """n-way k-shot episodes: a few images of each of a few new classes are shown, others are to be told apart.

    A query gets the class with the nearest mean of shown features, in Euclidean distance (prototypical networks, Snell et
    al. 2017, §2.3; 15 queries of a class: §3.1). Features are brought to unit length first, as in the other protocols
    (SimpleShot, Wang et al. 2019, "L2N").

    Args:
        ways: classes in an episode.
        shots: images shown of each class.
        queries: images of each class to be told apart.
        episodes: drawn, each with classes and images of its own.
    """

    new_classes: ClassVar[bool] = True
    fits: ClassVar[bool] = False

    def __init__(self, *, ways: int = 5, shots: int = 1, queries: int = 15, episodes: int = 1000) -> None:
        self.ways, self.shots, self.queries, self.episodes = ways, shots, queries, episodes
        self.notes_: list[str] = []

    def fit(self, h: Tensor, y: Tensor, *, seed: int) -> FewShot:
        """Learns nothing from known classes."""
        return self

    def predict(self, shown: Tensor, asked: Tensor) -> Tensor:
        """Returns the nearest class of each of `asked` (..., Q, D), given `shown` (..., ways, shots, D): (..., Q) in [0,
        ways)."""
        means = shown.mean(-2)  # (..., ways, D)
        # ‖q - c‖² less ‖q‖², which is the same for all classes
        distance = means.square().sum(-1)[..., None, :] - 2 * asked @ means.transpose(-1, -2)  # (..., Q, ways)
        return distance.argmin(-1)

    def score(self, h: Tensor, y: Tensor, *, seed: int) -> dict[str, Figure]:
        """Returns `accuracy` on h (M, D) and y (M,) of new classes: the mean over the episodes and its 95% confidence
        interval.

        Raises:
            UserError: an option out of range, fewer classes than `ways`, or a class with too few images.
            ValueError: wrong shapes, no sample, or features that are not finite.
        """
        check_fit(h, y)
        drawn = torch.from_numpy(self.draw(y.cpu().numpy(), np.random.default_rng(seed)))
        unit = F.normalize(h.float(), dim=1)
        truth = torch.arange(self.ways, device=h.device).repeat_interleave(self.queries)  # (ways · queries,)
        step = max(1, TILE // (drawn[0].numel() * h.shape[1]))
        right = []
        for tile in torch.split(drawn.to(h.device), step):
            images = unit[tile]  # (e, ways, shots + queries, D)
            asked = images[:, :, self.shots :].flatten(1, 2)  # (e, ways · queries, D)
            right.append((self.predict(images[:, :, : self.shots], asked) == truth).double().mean(1))
        self.labelled_ = self.ways * self.shots
        self.notes_ = [f"few-shot: ± is the 95% confidence interval of the mean over {counted(self.episodes, 'episodes')}"]
        self.each_ = torch.cat(right).cpu().numpy()  # of episodes, which are the same for every encoder
        return {"accuracy": mean_and_interval(self.each_)}

    def draw(self, y: Array, rng: np.random.Generator) -> Array:
        """Draws positions (episodes, ways, shots + queries) in y (M,): each row one class, all different, the shown ones
        first.

        Raises:
            UserError: as `score`.
        """
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1), ("episodes", 2)):
            if getattr(self, name) < least:
                raise UserError(f"few-shot: {name} is {getattr(self, name)}, and must be at least {least}")
        classes = [np.flatnonzero(y == c) for c in np.unique(y)]
        if len(classes) < self.ways:
            raise UserError(
                f"few-shot: an episode of {self.ways} ways needs as many new classes, and there are {len(classes)}: give "
                f"--protocol few-shot:ways={len(classes)}, --data with more classes, or more --hold-out-classes"
            )
        taken = self.shots + self.queries
        scarce = min(classes, key=len)
        if len(scarce) < taken:
            raise UserError(
                f"few-shot: an episode takes {counted(taken, 'images')} of a class (shots + queries), and class "
                f"{y[scarce[0]]} has {len(scarce)}: give --protocol "
                f"few-shot:shots={self.shots},queries={max(1, len(scarce) - self.shots)}, "
                "or data with more images to test"
            )
        return np.stack(
            [
                np.stack([rng.choice(classes[c], taken, replace=False) for c in rng.permutation(len(classes))[: self.ways]])
                for _ in range(self.episodes)
            ]
        )
