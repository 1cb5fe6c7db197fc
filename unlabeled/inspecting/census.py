"""One pass over a split: what is counted, and what copies are found by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.batch import Fields
from unlabeled.data.source import Source
from unlabeled.inspecting.duplicates import Thumbnails, digests

LOOKED_AT = 64
"""Rows and columns of an image that histograms and entropy are taken from, at most, evenly spread."""
SIZES = 2000
"""Images whose native size is read, at most."""
_BYTES = 1 << 22  # of pixels at a time: counting takes eight times that, and is faster in the cache

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Census:
    """What is in a split. Row c of an array by class is class c; the last row is of images without label.

    Attributes:
        source: the split.
        positions: (n,) of its images that can be read.
        labels: (n,) their labels, -1 where unlabelled.
        counts: (K + 1,) images.
        histogram: (K + 1, C, 256) pixels of each value.
        entropy: (K + 1,) bits: of the grey values of an image, in the mean over channels and images; NaN without images.
        blank: images of a single value.
        sizes: (s, 2) native height and width of up to 2,000 images, evenly spread over the split.
        digests: of the pixels of each image.
        points: (n, D) its thumbnails.
    """

    source: Source
    positions: Array
    labels: Array
    counts: Array
    histogram: Array
    entropy: Array
    blank: int
    sizes: Array
    digests: list[bytes]
    points: Array

    def __len__(self) -> int:
        return len(self.positions)


def take(source: Source, thumbnails: Thumbnails, tell: Callable[[int], None] = lambda done: None) -> Census:
    """Looks at every image of a split once.

    Args:
        source: the split.
        thumbnails: fitted.
        tell: called now and then with how many images are done.

    Raises:
        UserError: more than a tenth of the images are bad.
    """
    n, classes = len(source), len(source.classes)
    labels = np.full(n, -1, np.int64) if source.labels is None else source.labels
    histogram = np.zeros((classes + 1, source.channels, 256), np.int64)
    bits = np.zeros(classes + 1)
    positions: list[Array] = []
    keys: list[bytes] = []
    points: list[Array] = []
    blank = 0
    rows = max(1, _BYTES // max(1, sum(math.prod(shape) for _, shape in source.form.fields.values())))
    for start in range(0, n, rows):
        here = np.arange(start, min(n, start + rows))
        fields = source.fetch(here)
        good = source.good()[here]
        here, fields = here[good], {name: values[torch.from_numpy(good)] for name, values in fields.items()}
        images = pictures_of(source, fields)
        counted = histograms(images)
        np.add.at(histogram, labels[here], counted)
        each = entropies(counted)
        np.add.at(bits, labels[here], each)
        blank += int((each == 0).sum())
        keys += digests(fields[source.field])
        points.append(thumbnails(images))
        positions.append(here)
        tell(start + len(good))
    found = np.concatenate(positions)
    counts = np.bincount(labels[found] % (classes + 1), minlength=classes + 1)
    entropy = np.divide(bits, counts, out=np.full(classes + 1, math.nan), where=counts > 0)
    spread = np.unique(np.linspace(0, n - 1, min(n, SIZES)).astype(np.int64))
    return Census(
        source, found, labels[found], counts, histogram, entropy, blank, source.native_sizes(spread), keys,
        np.concatenate(points),
    )  # fmt: skip


def pictures_of(source: Source, fields: Fields) -> Tensor:
    """Returns the samples as pictures with as many channels as they have themselves: uint8 (B, C, H, W)."""
    images = source.kind.pictures(fields, source.form)
    if images.shape[1] != source.channels:  # the colours of a spectrogram mean nothing
        images = images.float().mean(1, keepdim=True).round().to(torch.uint8).expand(-1, source.channels, -1, -1)
    return images


def histograms(images: Tensor) -> Array:
    """Counts the pixels of each value, (B, C, 256) int64, of images (B, C, S, S) uint8; of larger ones every s-th row and
    column."""
    step = max(1, math.ceil(images.shape[-1] / LOOKED_AT))
    b, c = images.shape[:2]
    values = images[:, :, ::step, ::step].reshape(b * c, -1).numpy().astype(np.int64)
    values += 256 * np.arange(b * c)[:, None]
    return np.bincount(values.reshape(-1), minlength=256 * b * c).reshape(b, c, 256)


def entropies(counted: Array) -> Array:
    """Computes the Shannon entropy in bits, 0 to 8, of histograms (B, C, 256), in the mean over channels: (B,) float64."""
    share = counted / counted.sum(-1, keepdims=True).clip(1)
    logs = np.log2(share, out=np.zeros_like(share), where=share > 0)
    entropy: Array = np.abs((share * logs).sum(-1)).mean(-1)
    return entropy
