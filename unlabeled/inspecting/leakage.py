"""Which images of a data set are there twice, within a split and across: what a test split must not share with training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlabeled.inspecting.census import Census
from unlabeled.inspecting.duplicates import Near, first_of, near

CLEARLY = 3.0
"""Standard deviations by which a share lies above chance where it is clearly above it. Ours."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that are one.

    Attributes:
        ratio: 0 for equal pixels; otherwise see `unlabeled.inspecting.duplicates.Near`.
        splits: of both.
        paths: of both, as their reader names them.
        indices: of both, in their splits.
        classes: of both, None where unlabelled.
    """

    exact: bool
    ratio: float
    splits: tuple[str, str]
    paths: tuple[str, str]
    indices: tuple[int, int]
    classes: tuple[str | None, str | None]

    @property
    def across(self) -> bool:
        """Whether the images are in different splits."""
        return self.splits[0] != self.splits[1]

    @property
    def contradicts(self) -> bool:
        """Whether the images have different labels."""
        a, b = self.classes
        return a is not None and b is not None and a != b


@dataclass(frozen=True)
class Copies:
    """Images that are there twice.

    Attributes:
        pairs: across splits first, then exact ones, then by ratio. A group of exact copies is listed as its first image
            (of train, if it is there) with each of the others; near-duplicates as pairs of first images.
        leaked: images of the second split that are in the first: exactly, and nearly (not counted twice).
        near: how near-duplicates were found; None where there are too few different images.
        telling: whether images that look alike share a label clearly more often than chance has it: else labels that differ
            say nothing against one.
    """

    pairs: list[Pair]
    leaked: tuple[int, int]
    near: Near | None
    telling: bool = False

    @property
    def wrong(self) -> int:
        """Counts pairs of which one label is wrong, if they are copies: near ones only where labels go with looks."""
        return sum(pair.contradicts and (pair.exact or self.telling) for pair in self.pairs)

    def some(self, count: int) -> list[Pair]:
        """Returns at most so many pairs, in their order: half of them near ones, which want looking at, where there are
        enough."""
        kinds = [[i for i, pair in enumerate(self.pairs) if pair.exact == exact] for exact in (True, False)]
        near = min(len(kinds[1]), max(count // 2, count - len(kinds[0])))
        return [self.pairs[i] for i in sorted([*kinds[0][: count - near], *kinds[1][:near]])]

    def count(self, exact: bool, *splits: str) -> int:
        """Counts pairs of one kind with one image in each of two splits, or both in one."""
        return sum(pair.exact == exact and set(pair.splits) == set(splits) for pair in self.pairs)


def find(censuses: Mapping[str, Census], tell: Callable[[int], None] = lambda done: None) -> Copies:
    """Compares every image of one or two splits with every other.

    Args:
        censuses: by the name of the split, the training split first; their thumbnails in the same components.
        tell: called now and then with how many images are done.
    """
    names, found = list(censuses), list(censuses.values())
    split = np.repeat(np.arange(len(found)), [len(census) for census in found])
    place = np.concatenate([np.arange(len(census)) for census in found])
    first = first_of([key for census in found for key in census.digests])
    copies = np.flatnonzero(first != np.arange(len(first)))
    different = np.flatnonzero(first == np.arange(len(first)))
    nearly = near(np.concatenate([census.points for census in found])[different], tell)

    def pair(a: int, b: int, ratio: float, exact: bool) -> Pair:
        at = [(found[split[i]], int(place[i])) for i in (a, b)]
        labels = [int(census.labels[i]) for census, i in at]
        indices = [int(census.positions[i]) for census, i in at]
        said = [c.source.classes[y] if y >= 0 else None for (c, _), y in zip(at, labels, strict=True)]
        paths = [c.source.path(i) for (c, _), i in zip(at, indices, strict=True)]
        splits = (names[split[a]], names[split[b]])
        return Pair(exact, ratio, splits, (paths[0], paths[1]), (indices[0], indices[1]), (said[0], said[1]))

    pairs = [pair(int(first[i]), int(i), 0.0, True) for i in copies]
    alike = np.zeros(len(first), bool)  # has a near-duplicate in the training split
    if nearly:
        for (a, b), ratio in zip(different[nearly.pairs].tolist(), nearly.ratio.tolist(), strict=True):
            pairs.append(pair(a, b, ratio, False))
            alike[b] |= split[a] == 0
    pairs.sort(key=lambda p: (not p.across, not p.exact, p.ratio))
    tested = split == 1
    exactly = tested & (split[first] == 0)
    leaked = int(exactly.sum()), int((tested & ~exactly & alike[first]).sum())
    labels = np.concatenate([census.labels for census in found])[different]
    return Copies(pairs, leaked, nearly, nearly is not None and _goes_with_looks(labels, nearly.nearest))


def _goes_with_looks(labels: Array, nearest: Array) -> bool:
    """Whether nearest images (n,) share a label (n,), -1 where there is none, more often than two at random, by `CLEARLY`
    standard deviations."""
    both = (labels >= 0) & (labels[nearest] >= 0)
    shares = np.bincount(labels[both]) / max(1, both.sum())
    chance = float((shares**2).sum())
    share = float((labels[both] == labels[nearest[both]]).mean()) if both.any() else 0.0
    return bool(share - chance > CLEARLY * np.sqrt(chance * (1 - chance) / max(1, both.sum())))
