"""t-SNE: a map of the test images that keeps neighbours together."""

from __future__ import annotations

from typing import Annotated

import numpy as np

from unlabeled.probes import maps
from unlabeled.probes.base import Array
from unlabeled.registry import Range, register
from unlabeled.words import counted


@register("tsne")
class TSNE(maps.Layout):
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

    protocol = "tsne"
    called = "t-SNE"

    def __init__(
        self,
        *,
        perplexity: Annotated[int, Range(2)] = 30,
        images: Annotated[int, Range(maps.FEWEST)] = 2000,
        seed: Annotated[int, Range(0)] = 0,
    ) -> None:
        self.perplexity, self.images, self.seed = perplexity, images, seed
        self.notes_ = []

    def _made_with(self) -> dict[str, float]:
        return {"perplexity": self.perplexity_}

    def _embed(self, unit: Array) -> Array:
        import openTSNE

        self.perplexity_ = min(float(self.perplexity), (len(unit) - 1) / 3)
        few = f"tsne: perplexity {self.perplexity_:.3g} instead of {self.perplexity}, for {counted(len(unit), 'images')}"
        self.notes_ = [few] if self.perplexity_ < self.perplexity else []
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
