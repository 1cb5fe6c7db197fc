"""What h keeps of how an image was shown, and z = g(h) throws away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from unlabeled.data import Source
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.probes.base import Figure, binomial
from unlabeled.probes.linear import Linear
from unlabeled.probes.projection import project, projector_of
from unlabeled.probes.subject import Subject
from unlabeled.registry import Count, Positive, register
from unlabeled.views import ops
from unlabeled.words import counted

Array = np.ndarray[Any, Any]

Transform = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Images (B, C, S, S) in [0, 1], which version of each is wanted (B,) int64, randomness on the CPU -> images likewise."""

BATCH = 256


@register("invariance")
class Invariance:
    """Can a linear probe on h, and on z = g(h), tell in which version an image is shown?

    The question of Chen et al. 2020 (SimCLR), section 4.2, table 3, where z had lost much of what h still held: colour or
    grey, rotation by 0, 90, 180 or 270 degrees, original or corrupted by noise, original or filtered by Sobel. There, MLPs
    were asked, and the last three were added to the views of pretraining; here the probe is that of the protocol `linear`,
    and the run is as it is. Each image is shown in one version, drawn evenly. The probe is fitted on images of the training
    split and judged on those of the test split.

    Figures are shares in [0, 1] of test images whose version is recognised, `rotation h`, `rotation z` and so on, each with
    its 95% confidence interval; chance is 1/2, for the rotation 1/4. More means that the representation keeps it, which is
    good where a task needs it, and costs nothing elsewhere. Without a projector there is only h.

    Grey needs three channels. Rotation is asked for on any square image: it is a question to the encoder, not a view that it
    should learn from; where it would be no fair question, as the data declares itself invariant to it and so has no upright
    position, it is left out. `notes_` says so.

    Args:
        images: of either split, at most.
        noise: standard deviation of Gaussian noise on images in [0, 1] (0.1: our choice).
    """

    on_images: ClassVar[bool] = True
    needs_labels: ClassVar[bool] = False
    needs_encoder: ClassVar[bool] = True
    sees: ClassVar[tuple[str, ...]] = ("image",)

    def __init__(self, *, images: Count = 2000, noise: Positive = 0.1) -> None:
        self.images, self.noise = images, noise
        self.notes_: list[str] = []

    def fit(self, subject: Subject, source: Source, indices: Array, y: Array, *, seed: int) -> Self:
        """Fits a probe for each transformation and representation on images at `indices` (N,). `y` is not read.

        Raises:
            UserError: raw features, which have no network, or too few images.
        """
        if subject.encoder is None:
            raise UserError("invariance judges an encoder, and raw features have none: leave out --against raw")
        self.encoder_, self.projector_, self.device_ = subject.encoder.plain(), projector_of(subject), subject.device
        self.seed_, self.notes_ = seed, []
        self.probes_: dict[str, Linear] = {}
        self.asked_ = self._questions(source)
        for name, h, version in self._shown(source, indices, train=True):
            probe = Linear(C=1.0).fit(h, version)
            self.probes_[name] = probe
            self.notes_ += [f"invariance, {name}: {note}" for note in probe.notes_]
        if self.projector_ is None:
            self.notes_.append("invariance: the method has no projector, so only h is judged")
        chances = ", ".join(f"{name} {1 / versions:.0%}" for name, (versions, _) in self.asked_.items())
        self.notes_.append(f"invariance: chance is {chances}")
        return self

    def score(self, source: Source, indices: Array, y: Array) -> Mapping[str, Figure]:
        """Returns shares of the images at `indices` (M,) whose version is told. `y` is not read.

        Raises:
            UserError: too few images.
        """
        figures = {}
        for name, h, version in self._shown(source, indices, train=False):
            share = self.probes_[name].score(h, version)["top1"]
            figures[name] = Figure(share, binomial(share, len(h)))
            self.scored_ = len(h)
        return figures

    def _questions(self, source: Source) -> dict[str, tuple[int, Transform]]:
        """Transformations by name, with the number of versions of each, that make sense on these images."""
        asked: dict[str, tuple[int, Transform]] = {}
        if source.channels == 3:
            asked["colour"] = 2, lambda x, version, _: _either(x, grey(x), version)
        else:
            self.notes_.append("invariance: images without colour, so colour or grey is not asked")
        if "rotation" not in source.invariances:
            asked["rotation"] = 4, lambda x, version, _: ops.quarter_turns(x, version)
        else:
            self.notes_.append("invariance: these images have no upright position, so rotation is not asked")
        asked["noise"] = 2, lambda x, version, generator: _either(x, noisy(x, self.noise, generator), version)
        asked["sobel"] = 2, lambda x, version, _: _either(x, ops.edges(x), version)
        return asked

    def _shown(self, source: Source, indices: Array, *, train: bool) -> Iterator[tuple[str, Tensor, Tensor]]:
        """For each question, on h and on z: its name, the representation (n, D), the version shown of each image (n,)."""
        taken = np.sort(np.random.default_rng(self.seed_).permutation(indices)[: self.images])
        for name, (versions, transform) in self.asked_.items():
            if len(taken) < 2 * versions:
                raise UserError(
                    f"invariance: {counted(len(taken), 'images', 'are')} too few to tell {counted(versions, 'versions')} "
                    "apart; give more"
                )
            generator = torch.Generator().manual_seed(2 * self.seed_ + train)
            even = torch.arange(len(taken)) % versions
            version = even[torch.randperm(len(taken), generator=generator)]
            h = self._features(source, taken, version, transform, generator)
            yield f"{name} h", h, version
            if self.projector_ is not None:
                yield f"{name} z", project(self.projector_, h, self.device_), version

    def _features(
        self, source: Source, taken: Array, version: Tensor, transform: Transform, generator: torch.Generator
    ) -> Tensor:
        encoder: Encoder = self.encoder_
        parts = []
        with torch.no_grad():
            for start in range(0, len(taken), BATCH):
                x = source.fetch(taken[start : start + BATCH])[source.field].to(self.device_).float() / 255
                shown = transform(x, version[start : start + BATCH].to(self.device_), generator)
                parts.append(encoder(shown).float().cpu())
        return torch.cat(parts)


def grey(x: Tensor) -> Tensor:
    """Returns the luma of RGB images (B, 3, H, W), in all three channels."""
    return torch.einsum("bchw,c->bhw", x, x.new_tensor(ops.LUMA)).unsqueeze(1).expand_as(x)


def noisy(x: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Returns images in [0, 1] with Gaussian noise, clipped to that range."""
    return (x + deviation * torch.randn(x.shape, generator=generator).to(x.device)).clamp(0, 1)


def _either(x: Tensor, other: Tensor, version: Tensor) -> Tensor:
    return torch.where(version.view(-1, 1, 1, 1) == 1, other, x)
