"""All samples of some data, numbered from one split to the next, with the features that a run has for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from unlabeled.batch import Fields
from unlabeled.data import Source, open_data
from unlabeled.data.kinds.kind import Form, build
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.evaluating.splits import tell_other, tell_place
from unlabeled.evaluating.subjects import FEATURES
from unlabeled.probes.subject import Subject
from unlabeled.recipe import Roles
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric
from unlabeled.words import counted


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

    def number_of(self, path: Path) -> int | None:
        """Finds the number of a file that is one of the samples; None of one that is not."""
        there = (i for i in range(len(self)) if Path(self.path(i)).name == path.name)
        return next((i for i in there if Path(self.path(i)).resolve() == path.resolve()), None)

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


def open_samples(run: Run, encoder: Encoder, data: Any, roles: Roles, root: Any) -> Samples:
    """Opens data as the encoder of a run takes it; of nothing, what the run was trained on, saying so if that has changed.

    Raises:
        UserError: arrays that were not kept, samples of other channels, or anything else wrong with the data.
    """
    recipe = run.recipe
    if data is None and not recipe.data:
        raise UserError("this run was trained on arrays, which it did not keep: give them again as data=")
    channels, kind = encoder.front.channels, build(recipe.kind)
    named = run.data if data is None else data
    opened = open_data(named, kind=recipe.kind, channels=channels, root=root, seed=None, roles=roles)
    opened.tell()
    if data is None:
        tell_place(run)
        if run.environment["data"].get("whole", opened.train.whole) != opened.train.whole:
            tell_other(opened.train)
    if opened.train.channels != channels:
        raise UserError(
            f"{opened.train.name!r} has {counted(opened.train.channels, 'channels')}, and the run was "
            f"trained on {kind.nouns} with {channels}: give other --data"
        )
    return Samples([source for source in (opened.train, opened.test) if source is not None])


def represented(run: Run, encoder: Encoder, samples: Samples, accelerator: str) -> tuple[Tensor, Encoder]:
    """Returns the features (n, D) of all samples, of length 1, on the CPU, and the encoder on the device where it computed
    them; those that cannot be read have some, too."""
    device = make_fabric(run.recipe, accelerator, 1).device
    encoder = encoder.to(device)
    subject = Subject("run", encoder, device=device, cache=run.path / FEATURES)
    return F.normalize(torch.cat([subject.features(source) for source in samples.sources]), dim=1), encoder
