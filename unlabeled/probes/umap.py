"""UMAP: another map of the test images, where its package is installed."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np

from unlabeled.errors import UserError
from unlabeled.probes import maps
from unlabeled.probes.base import Array
from unlabeled.registry import Range, register


@register("umap")
class UMAP(maps.Layout):
    """Uniform manifold approximation and projection (McInnes, Healy and Melville 2018) of the test images' features.

    By the package umap-learn, which is not installed unless asked for, on features of unit length as in the other protocols.

    Args:
        neighbours: of each image that the map is made from (15: umap-learn); fewer where there are fewer images.
        images: test images in the map, at most, drawn evenly.
        seed: of drawing them, and of the map.
    """

    protocol = "umap"
    called = "UMAP"

    def __init__(
        self,
        *,
        neighbours: Annotated[int, Range(2)] = 15,
        images: Annotated[int, Range(maps.FEWEST)] = 2000,
        seed: Annotated[int, Range(0)] = 0,
    ) -> None:
        self.neighbours, self.images, self.seed = neighbours, images, seed
        self.notes_ = []

    def _made_with(self) -> dict[str, float]:
        return {"neighbours": self.neighbours_}

    def _embed(self, unit: Array) -> Array:
        self.neighbours_ = min(self.neighbours, len(unit) - 1)
        fitted = _package().UMAP(n_neighbors=self.neighbours_, random_state=self.seed, n_jobs=1)
        return np.asarray(fitted.fit_transform(unit), np.float64)


def _package() -> Any:
    try:
        import umap
    except ImportError as error:
        raise UserError(
            "protocol umap needs the package umap-learn, which is not installed: pip install 'unlabeled[umap]', "
            "or use --protocol tsne"
        ) from error
    return umap
