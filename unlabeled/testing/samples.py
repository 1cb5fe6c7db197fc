"""Synthetic samples, a function for each kind of data: clusters that a method finds and an untrained encoder hardly sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.batch import DataShape, Fields, Progress
from unlabeled.data.kinds.kind import build
from unlabeled.registry import Choice

CLASSES = 8


@dataclass(frozen=True, eq=False)
class Samples:
    """A source in memory, as `features` reads it.

    Attributes:
        fields: each (n, ...); the first is the one that the encoder sees.
        labels: (n,) int64, the clusters.
        kind: with the options by which they are made.
        invariances: see `DataShape`.
    """

    fields: Fields
    labels: Tensor
    kind: Choice
    invariances: frozenset[str]

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, index: np.ndarray) -> Fields:
        """The samples at `index` (B,), each field (B, ...)."""
        return {name: values[torch.from_numpy(index)] for name, values in self.fields.items()}

    def seen(self, index: np.ndarray) -> Tensor:
        """What an encoder sees of the samples at `index` (B,)."""
        return self.fields[self.kind.name][torch.from_numpy(index)]

    @property
    def shape(self) -> DataShape:
        """What methods and views may know of them."""
        first = self.fields[self.kind.name]
        size = build(self.kind).view_size(Progress(1, 1, 0))
        return DataShape(len(self), first.shape[1], size, CLASSES, self.invariances, self.kind.name)


@dataclass(frozen=True)
class Synthetic:
    """How the contract tests a kind of data.

    Attributes:
        draw: (n, seed, the encoder that will see them) -> samples of `CLASSES` clusters.
        networks: by a word in an encoder's name, a small encoder like it.
        mild: options of views, where they have them, that leave something of so small a sample.
    """

    draw: Callable[[int, int, Choice], Samples]
    networks: Mapping[str, Choice]
    mild: Mapping[str, Any]


def images(n: int, seed: int, encoder: Choice) -> Samples:
    """Images (n, 3, 16, 16) uint8: one of 8 patterns each, shifted, under noise.

    The noise is what an untrained encoder sees as well as the pattern, and what two crops do not share. The pattern is grey;
    for an encoder of lightness and colours apart, it is in the colours as well as in the lightness.
    """
    size = 16
    patterns = np.random.default_rng(0).normal(size=(CLASSES, 4, 4))
    patterns -= patterns.mean((1, 2), keepdims=True)
    patterns /= patterns.std((1, 2), keepdims=True)
    large = np.kron(patterns, np.ones((size // 4, size // 4)))
    numbers = np.random.default_rng([1, seed])
    y = numbers.integers(0, CLASSES, n)
    shifted = np.stack([np.roll(large[c], tuple(numbers.integers(0, 3, 2)), (0, 1)) for c in y])
    grey = numbers.uniform(0.45, 0.55, (n, 1, 1, 1))
    tint = np.array([0.6, 0.6, -0.6] if "streams" in encoder.options else [1.0] * 3).reshape(3, 1, 1)
    x = grey + 0.15 * tint * shifted[:, None] + 0.2 * numbers.normal(size=(n, 3, size, size))
    pixels = torch.from_numpy((255 * x.clip(0, 1)).astype(np.uint8))
    kind = Choice("image", {"size": size})
    return Samples({"image": pixels}, torch.from_numpy(y), kind, frozenset({"colour", "intensity"}))


def sounds(n: int, seed: int, encoder: Choice) -> Samples:
    """Recordings (n, 1, 640) int16 at 1,000 Hz, some of them shorter: one of 8 melodies each, from any of its notes on,
    under noise.

    A note is a wave of 8 samples, again and again. All melodies have the same five, in another order: an average over time,
    as an untrained encoder has it, hears them much alike, and what comes next tells them apart.
    """
    rate, size, wave, note, notes = 1000, 640, 8, 32, 5
    waves = np.random.default_rng(0).normal(size=(notes, wave))
    waves -= waves.mean(1, keepdims=True)
    waves /= waves.std(1, keepdims=True)
    orders = np.array([[0, *np.random.default_rng([2, c]).permutation(np.arange(1, notes))] for c in range(CLASSES)])
    numbers = np.random.default_rng([3, seed])
    y = numbers.integers(0, CLASSES, n)
    first = numbers.integers(0, notes, n)
    played = np.stack([np.resize(np.roll(orders[c], -at), size // note) for c, at in zip(y, first, strict=True)])  # (n, 20)
    x = np.tile(waves[played], (1, 1, note // wave)).reshape(n, size)
    x = 0.15 * (x + 0.9 * numbers.normal(size=(n, size)))
    length = np.where(numbers.random(n) < 0.2, size * 3 // 4, size)
    x[np.arange(size) >= length[:, None]] = 0
    sound = torch.from_numpy(np.rint(32767 * x.clip(-1, 1)).astype(np.int16))[:, None]
    kind = Choice("sound", {"rate": rate, "seconds": size / rate})
    return Samples({"sound": sound, "length": torch.from_numpy(length)}, torch.from_numpy(y), kind, frozenset())


RESNET = Choice("resnet10t", {"width": 4})
VIT = Choice("vit_tiny_patch16_224", {"embed_dim": 32, "depth": 1, "num_heads": 2})
CPC = Choice("cpc", {"width": 32, "context": 32, "strides": (4, 4)})

MILD = {"scale": (0.5, 1.0), "small_scale": (0.3, 0.6), "permutations": 10}

KINDS = {
    "image": Synthetic(images, {"resnet": RESNET, "vit": VIT}, MILD),
    "sound": Synthetic(sounds, {"cpc": CPC}, {"samples": 640}),
}
"""A new kind of data is one line here. (Mild: a 16-pixel texture does not survive a crop of a twelfth, and a few steps teach
few orders of tiles.)"""


@cache
def _drawn(kind: str, n: int, seed: int, name: str, options: frozenset[tuple[str, Any]]) -> Samples:
    return KINDS[kind].draw(n, seed, Choice(name, dict(options)))


def samples(kind: str, n: int, seed: int, encoder: Choice) -> Samples:
    """n samples of that kind for an encoder, drawn once."""
    return _drawn(kind, n, seed, encoder.name, frozenset(encoder.options.items()))
