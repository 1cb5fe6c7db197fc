"""t-SNE: a map of the test images that keeps neighbours together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from unlabeled.probes import maps
from unlabeled.probes.base import Array, Shown
from unlabeled.registry import Range, register


@register("tsne")
class TSNE:
    """t-distributed stochastic neighbour embedding (van der Maaten and Hinton 2008) of the test images' features.

    By openTSNE, from the two principal components (Kobak and Berens 2019), with exact neighbours, on features of unit
    length as in the other protocols. The same seed gives the same map on one machine. Distances between far-off groups and
    the groups' sizes mean little.

    Args:
        perplexity: about how many neighbours each image keeps (30: openTSNE; 200 shows the larger structure). At most a
            third of the images, less one.
        images: test images in the map, at most, drawn evenly. Time and memory grow with their square.
        seed: of drawing them, and of the map.
    """

    fits: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False

    def __init__(
        self,
        *,
        perplexity: Annotated[int, Range(2)] = 30,
        images: Annotated[int, Range(maps.FEWEST)] = 2000,
        seed: Annotated[int, Range(0)] = 0,
    ) -> None:
        self.perplexity, self.images, self.seed = perplexity, images, seed
        self.notes_: list[str] = []

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Nothing is learned from training images."""
        return self

    def predict(self, h: Tensor) -> Tensor:
        """Places of h (m, D), finite, in the plane: (m, 2) float64. They are one map: others would move them."""
        return torch.from_numpy(self._embed(torch.nn.functional.normalize(h.cpu().float(), dim=1).numpy()))

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """The figures of `maps.faithfulness`, on a map of h (M, D) with labels y (M,): `knn_map` first.

        Raises:
            UserError: fewer than 5 images.
            ValueError: wrong shapes, or features that are not finite.
        """
        self.map_ = maps.make(h, y, self.images, self.seed, self._embed, "tsne")
        few = f"tsne: perplexity {self.perplexity_:.0f} instead of {self.perplexity}, for {len(self.map_.xy):,} images"
        self.notes_ = [few] if self.perplexity_ < self.perplexity else []
        self.intervals_ = self.map_.intervals
        return self.map_.figures

    def draw(self, folder: Path, train: Shown, test: Shown) -> list[Path]:
        """Writes `tsne.png` and `tsne.json`: see `maps.draw`."""
        title = f"t-SNE of {len(self.map_.xy):,} test images, perplexity {self.perplexity_:.0f}"
        return maps.draw(folder, "tsne", title, self.map_, test, {"perplexity": self.perplexity_})

    def _embed(self, unit: Array) -> Array:
        import openTSNE

        self.perplexity_ = min(float(self.perplexity), (len(unit) - 1) / 3)
        alike = bool((np.ptp(unit, axis=0) < 1e-6).all())  # no principal component to begin with
        begin = openTSNE.initialization.random if alike else openTSNE.initialization.pca
        fitted = openTSNE.TSNE(
            perplexity=self.perplexity_,
            initialization=begin(unit, random_state=self.seed),
            neighbors="exact",
            n_jobs=1,
            random_state=self.seed,
        )
        return np.asarray(fitted.fit(unit))
