"""Where in the network the classes become linear: a linear probe and kNN after each of its stages."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.data import Source, balanced_draw
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.probes.base import Figure, Probe, binomial, top1
from unlabeled.probes.knn import KNN
from unlabeled.probes.linear import Linear
from unlabeled.probes.subject import Subject
from unlabeled.registry import register
from unlabeled.words import counted

Array = np.ndarray[Any, Any]

BATCH = 256


@register("linear-layers")
class LinearLayers:
    """A linear probe and kNN on the map of each stage, after Zhang et al. 2016, "Colorful Image Colorization", and 2017,
    "Split-Brain Autoencoders": maps are average-pooled to grids of about equally many numbers, so that a stage is not
    better for being larger.

    A ResNet's stages are `conv1`, its stem, to `conv5` (He et al. 2016, table 1), a ViT's its blocks, `block1` and on; other
    networks have `stage1` and on. Figures are shares in [0, 1] of right classes, `conv5 linear`, `conv5 knn` and so on, with
    the reach of their 95% confidence interval for the number of test images (Wilson 1927, see `binomial`).

    The last stage comes first, since it is what the encoder gives: to put forward the best one would be to choose it on the
    test images. Where another is better, `notes_` says so. The last figures are not those of `linear` and `knn`: those see
    one mean over the map (a ViT: its class token), and here its places stay apart, and fewer images are seen.

    Args:
        dimensions: numbers of a pooled map at most; of more channels than that, each one's mean.
        train_images: to fit on, evenly over the classes; all if there are fewer.
        test_images: to score on, drawn from all; all if there are fewer.
        C: of the linear probe, see `linear`; chosen for each stage by default, as the features are of many kinds.
        k: neighbours of kNN, see `knn`.
    """

    on_images: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = True
    needs_encoder: ClassVar[bool] = True
    sees: ClassVar[tuple[str, ...]] = ("image",)
    draws: ClassVar[int] = 3

    def __init__(
        self,
        *,
        dimensions: int = 10_000,
        train_images: int = 5_000,
        test_images: int = 2_000,
        C: float | Literal["auto"] = "auto",
        k: int = 200,
    ) -> None:
        self.dimensions, self.train_images, self.test_images, self.C, self.k = dimensions, train_images, test_images, C, k
        self.notes_: list[str] = []
        self.chosen_: dict[str, float] = {}

    def fit(self, subject: Subject, source: Source, indices: Array, y: Array, *, seed: int) -> Self:
        """Learns from images at `indices` (N,) of the training split, of classes y (N,); their choice is drawn by `seed`.

        Raises:
            UserError: an option out of range, raw features, or an encoder that does not show its stages.
        """
        for name, least in (("dimensions", 1), ("train_images", 2), ("test_images", 1)):
            if getattr(self, name) < least:
                raise UserError(f"linear-layers: {name} is {getattr(self, name)}, and must be at least {least}")
        if subject.encoder is None:
            raise UserError(f"linear-layers: {subject.name} has no stages: it judges encoders only")
        self.subject_, self.seed_ = subject, seed
        drawn = np.arange(len(y))
        if len(y) > self.train_images:
            drawn = balanced_draw(y, max(self.train_images / len(y), 1e-9), seed)
        self.fitted_ = len(drawn)
        target = torch.from_numpy(np.asarray(y, np.int64)[drawn])
        maps = self._pooled(subject.encoder, source, np.asarray(indices)[drawn])
        self.probes_: dict[str, tuple[Probe, Probe]] = {}
        self.notes_ = [
            f"linear-layers: fitted on {counted(len(drawn), 'images')}; ± is the 95% confidence interval for the "
            "images tested"
        ]
        self.chosen_ = {}
        for stage in list(maps):
            h = maps.pop(stage)
            linear = Linear(C=self.C).fit(h, target)
            self.chosen_ |= {f"{option} of {stage}": value for option, value in linear.chosen_.items()}
            self.probes_[stage] = linear, KNN(k=self.k).fit(h, target)
            self.notes_ += [f"{stage}, {note}" for probe in self.probes_[stage] for note in probe.notes_]
        return self

    def predict(self, source: Source, indices: Array) -> Array:
        """Returns the class of the images at `indices` (M,) by the linear probe on the last stage: (M,) int64."""
        maps = self._pooled(self._encoder, source, np.asarray(indices))
        last = next(reversed(self.probes_))
        found: Array = self.probes_[last][0].predict(maps[last]).numpy()
        return found

    def score(self, source: Source, indices: Array, y: Array) -> dict[str, Figure]:
        """Returns shares of right classes for images at `indices` (M,) of the test split, of classes y (M,); last stage
        first."""
        drawn = np.arange(len(y))
        if len(y) > self.test_images:
            drawn = np.sort(np.random.default_rng(self.seed_).choice(len(y), self.test_images, replace=False))
        target = torch.from_numpy(np.asarray(y, np.int64)[drawn])
        self.scored_ = len(drawn)
        maps = self._pooled(self._encoder, source, np.asarray(indices)[drawn])
        found = {
            f"{stage} {name}": Figure(share, binomial(share, len(target)))
            for stage in reversed(self.probes_)
            for name, probe in zip(("linear", "knn"), self.probes_[stage], strict=True)
            for share in [top1(probe.predict(maps[stage]), target)]
        }
        stages = {name: figure for name, figure in found.items() if name.endswith("linear")}
        last, best = next(iter(stages)), max(stages, key=lambda name: stages[name].value)
        self.notes_ = [note for note in self.notes_ if "is the best stage" not in note]
        if stages[best].value > stages[last].value + (stages[last].interval or 0.0):
            self.notes_.append(
                f"linear-layers: {best.split()[0]} is the best stage, with {100 * stages[best].value:.1f}%; "
                f"the last, {last.split()[0]}, has {100 * stages[last].value:.1f}%"
            )
        return found

    @property
    def _encoder(self) -> Encoder:
        assert self.subject_.encoder is not None
        return self.subject_.encoder

    def _pooled(self, encoder: Encoder, source: Source, indices: Array) -> dict[str, Tensor]:
        """The stages' maps of the images at `indices` (n,), pooled and flattened: (n, D) float32 on the CPU each."""
        encoder.eval()
        device = self.subject_.device
        found: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, len(indices), BATCH):
                _, maps = encoder.local(source.seen(indices[start : start + BATCH]).to(device))
                for at, pooled in enumerate(pool(stage.float(), self.dimensions).flatten(1) for stage in maps):
                    if start == 0:
                        found.append(torch.empty(len(indices), pooled.shape[1]))
                    found[at][start : start + BATCH] = pooled
        return dict(zip(stage_names(encoder, len(found)), found, strict=True))


def pool(x: Tensor, dim: int) -> Tensor:
    """Average-pools maps (B, C, H, W) to (B, C, h, w), C h w <= dim with the largest grid that allows it, as square as the
    map; 1×1 at least."""
    channels, height, width = x.shape[1:]
    shrink = min(1.0, math.sqrt(dim / (channels * height * width)))
    grid = max(1, math.floor(height * shrink + 1e-9)), max(1, math.floor(width * shrink + 1e-9))
    pooled: Tensor = F.adaptive_avg_pool2d(x, grid)
    return pooled


def stage_names(encoder: Encoder, count: int) -> list[str]:
    """Returns what the stages of a backbone with `count` maps are called, first to last."""
    backbone: Any = getattr(encoder.backbone, "lightness", encoder.backbone)
    blocks = isinstance(getattr(backbone, "blocks", None), torch.nn.Sequential) and len(backbone.blocks) == count
    word = "conv" if hasattr(backbone, "layer1") else "block" if blocks else "stage"
    return [f"{word}{i}" for i in range(1, count + 1)]
