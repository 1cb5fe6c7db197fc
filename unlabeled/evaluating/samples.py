"""All samples of some data, numbered from one split to the next, with the features that a run has for them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.about import About
from unlabeled.batch import Fields
from unlabeled.data import Source
from unlabeled.data.kinds.kind import Form
from unlabeled.encoders import Encoder
from unlabeled.evaluating.reading import open_for
from unlabeled.evaluating.subjects import FEATURES
from unlabeled.probes.subject import Subject
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric

PART = re.compile(r"\[\w+ \d+\]$")
"""What follows the path of a file where a sample is a part of it: a page, a slice, a tile."""


class Samples:
    """The samples of several splits, numbered from one to the next."""

    def __init__(self, sources: list[Source]) -> None:
        self.sources, self.kind = sources, sources[0].kind
        self._at = [(source, i) for source in sources for i in range(len(source))]

    def __len__(self) -> int:
        return len(self._at)

    @property
    def name(self) -> str:
        """Of the data."""
        return self.sources[0].name

    @property
    def form(self) -> Form:
        """What each sample is."""
        return self.sources[0].form

    def good(self) -> np.ndarray[Any, Any]:
        """Returns (n,) bool, False for those that are known to be bad."""
        return np.concatenate([source.good() for source in self.sources])

    def numbers_of(self, path: str | Path) -> list[int]:
        """Finds the number of a sample by its path as it is printed, such as a member of an archive or a page of a file; or
        those of a file, with all of its parts. None of what is no sample."""
        paths = [self.path(i) for i in range(len(self))]
        if str(path) in paths:
            return [paths.index(str(path))]
        asked = Path(path)
        files = [Path(PART.sub("", found)) for found in paths]
        return [i for i, file in enumerate(files) if file.name == asked.name and file.resolve() == asked.resolve()]

    def equal_to(self, sample: Fields, among: Iterable[int]) -> list[int]:
        """Finds the numbers of samples, of those given, that are the same as one (1, ...), value for value."""
        there = ((i, self.fetch(i)) for i in among)
        return [i for i, found in there if all(torch.equal(found[name], value) for name, value in sample.items())]

    def fetch(self, number: int) -> Fields:
        """Returns one sample, (1, ...) each field."""
        source, i = self._at[number]
        return source.fetch([i])

    def picture(self, number: int) -> Tensor:
        """Draws one sample: uint8 (C, H, W)."""
        source, i = self._at[number]
        return source.pictures([i])[0]

    def path(self, number: int) -> str:
        """Tells where one sample lies."""
        source, i = self._at[number]
        return source.path(i)

    def label(self, number: int) -> str:
        """Returns the name of one sample's class, "" where it has none."""
        source, i = self._at[number]
        return "" if source.labels is None or source.labels[i] < 0 else source.classes[source.labels[i]]


def open_samples(run: Run, encoder: Encoder, data: Any, about: About) -> Samples:
    """Opens data as `open_for` does."""
    opened = open_for(run, encoder.front.channels, data, about)
    return Samples([source for source in (opened.train, opened.test) if source is not None])


def represented(run: Run, encoder: Encoder, samples: Samples, accelerator: str) -> tuple[Tensor, Encoder]:
    """Returns the features (n, D) of all samples, of length 1, on the CPU, and the encoder on the device where it computed
    them; those that cannot be read have some, too."""
    device = make_fabric(run.recipe, accelerator, 1).device
    encoder = encoder.to(device)
    subject = Subject("run", encoder, device=device, cache=run.path / FEATURES)
    return F.normalize(torch.cat([subject.features(source) for source in samples.sources]), dim=1), encoder
