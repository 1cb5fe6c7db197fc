"""UMAP: another map of the test images, where its package is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.probes import maps
from unlabeled.probes.base import Array, Shown
from unlabeled.registry import Range, register


@register("umap")
class UMAP:
    """Uniform manifold approximation and projection (McInnes, Healy and Melville 2018) of the test images' features.

    By the package umap-learn, which is not installed unless asked for, on features of unit length as in the other protocols.

    Args:
        neighbours: of each image that the map is made from (15: umap-learn); fewer where there are fewer images.
        images: test images in the map, at most, drawn evenly.
        seed: of drawing them, and of the map.
    """

    fits: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False

    def __init__(
        self,
        *,
        neighbours: Annotated[int, Range(2)] = 15,
        images: Annotated[int, Range(maps.FEWEST)] = 2000,
        seed: Annotated[int, Range(0)] = 0,
    ) -> None:
        self.neighbours, self.images, self.seed = neighbours, images, seed
        self.notes_: list[str] = []

    def fit(self, h: Tensor, y: Tensor, *, reference: Tensor | None = None) -> Self:
        """Nothing is learned from training images.

        Raises:
            UserError: umap-learn is not installed.
        """
        _package()
        return self

    def predict(self, h: Tensor) -> Tensor:
        """Places of h (m, D), finite, in the plane: (m, 2) float64. They are one map: others would move them.

        Raises:
            UserError: umap-learn is not installed.
        """
        return torch.from_numpy(self._embed(torch.nn.functional.normalize(h.cpu().float(), dim=1).numpy()))

    def score(self, h: Tensor, y: Tensor) -> dict[str, float]:
        """The figures of `maps.faithfulness`, on a map of h (M, D) with labels y (M,): `knn_map` first.

        Raises:
            UserError: umap-learn is not installed, or fewer than 5 images.
            ValueError: wrong shapes, or features that are not finite.
        """
        self.map_ = maps.make(h, y, self.images, self.seed, self._embed, "umap")
        self.intervals_ = self.map_.intervals
        return self.map_.figures

    def draw(self, folder: Path, train: Shown, test: Shown) -> list[Path]:
        """Writes `umap.png` and `umap.json`: see `maps.draw`."""
        title = f"UMAP of {len(self.map_.xy):,} test images, {self.neighbours} neighbours"
        return maps.draw(folder, "umap", title, self.map_, test, {"neighbours": self.neighbours})

    def _embed(self, unit: Array) -> Array:
        neighbours = min(self.neighbours, len(unit) - 1)
        fitted = _package().UMAP(n_neighbors=neighbours, random_state=self.seed, n_jobs=1)
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
