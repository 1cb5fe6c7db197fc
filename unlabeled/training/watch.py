"""Sees a training go wrong: by h, what its encoder gives, by z, what its objective sees, by the loss, and by the samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.data import Source
from unlabeled.encoders import Encoder
from unlabeled.probes.extract import features
from unlabeled.probes.health import ONE, Look, collapse, fewest_dimensions, look
from unlabeled.training.remedy import SAME

LOOKED = 512
"""Samples whose h is looked at."""
EVERY, LEAST = 50, 10
"""Steps between two looks at h, at most; and looks of a run, at least."""
EARLY = 0.05
"""Share of the run within which nothing is called wrong: a queue of random keys or a cold head looks like it at first."""
FIRST = 0.1
"""Share of the run whose losses are its first ones."""
EXPLODED = 100
"""Times that a loss is above all of its first ones, and above 1, when it is said to have exploded."""
LESS = {"h": 0.8, "z": 0.5}
"""Of the untrained network's rank, what is little where the learning rate is far above the method's own."""
STILL = 0.9
"""Of the first loss, what is no fall in such a run."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is wrong.

    Attributes:
        kind: the same for the same at another step.
        seen: in words.
        few: whether dimensions are lacking, rather than all of it.
    """

    kind: str
    seen: str
    few: bool = False


class Watch:
    """Looks at samples of the training split, in evaluation mode, as users of the encoder will; changes nothing. What is
    seen is compared with the same of the untrained network, at the run's own start.

    Args:
        source: the training split.
        seed: of the draw of samples.
        total: steps of the run.
        told: classes that the method learns from labels, 0 for none.
        fast: whether the learning rate is far above the method's own: then it is doubted sooner.
        device: where the encoder is.
        precision: that it computes in.
        history: metrics of the run so far, where it goes on.
    """

    def __init__(
        self,
        source: Source,
        seed: int,
        total: int,
        told: int,
        fast: bool,
        device: torch.device,
        precision: torch.dtype,
        history: Sequence[Mapping[str, Any]],
    ) -> None:
        taken = np.sort(np.random.default_rng(seed).permutation(len(source))[:LOOKED])
        self.noun, self.n, self.told, self.fast = source.kind.nouns, len(source), told, fast
        self.samples = _Drawn(source.seen(taken))
        self.device, self.precision = device, precision
        self.total, self.every = total, max(1, min(EVERY, total // LEAST))
        self.untrained = {name: _first(history, name) for name in ("h", "z")}
        self.first = max((abs(x["loss"]) for x in history if "loss" in x and self._early(x["step"], FIRST)), default=0.0)
        self.suspected = ""

    def look(self, encoder: Encoder) -> Look:
        """Looks at h of the samples."""
        h = features(encoder, self.samples, device=self.device, precision=self.precision)
        return look(h.to(self.device))

    def begin(self, encoder: Encoder) -> tuple[Look, Alarm | None]:
        """Looks at the untrained encoder, and at the samples themselves."""
        h = self.look(encoder)
        self.untrained["h"] = h
        return h, self.same

    @cached_property
    def same(self) -> Alarm | None:
        """Tells where all samples are one, up to a step of their scale."""
        x = self.samples.fields
        if len(x) < 2 or bool(((x[1:].float() - x[0].float()).abs() > 1).any()):
            return None
        where = f"all {self.n:,}" if len(x) == self.n else f"{len(x):,} of {self.n:,}, drawn at random, all"
        return Alarm(SAME, f"the {self.noun} are the same: {where} show one and the same, from which nothing can be learned")

    def due(self, done: int) -> bool:
        """Tells whether h is looked at after so many steps."""
        return done % self.every == 0 or done in (1, self.total)

    def judge(self, done: int, loss: float, h: Look, z: Look | None) -> Alarm | None:
        """Says what is wrong, once two looks in a row have seen it and the first steps are over."""
        if z is not None and self.untrained["z"] is None:
            self.untrained["z"] = z
        if self._early(done, FIRST):
            self.first = max(self.first, abs(loss))
        found = self.same or self._collapsed(h, z)
        if found is None and abs(loss) > EXPLODED * max(1.0, self.first):
            found = Alarm("loss", f"the loss exploded: it is {loss:.3g}, and was {self.first:.3g} at most at first")
        if found is None and self.fast and z is None and abs(loss) > STILL * self.first and done > self.total / 2:
            found = Alarm("loss", f"the loss does not fall: it is {loss:.3g}, and was {self.first:.3g} at most at first")
        before, self.suspected = self.suspected, found.kind if found else ""
        if found is None or found.kind == SAME:
            return found
        return found if found.kind == before and not self._early(done, EARLY) else None

    def _early(self, done: int, share: float) -> bool:
        return done <= max(1.0, share * self.total)

    def _collapsed(self, h: Look, z: Look | None) -> Alarm | None:
        found = []
        for name, own in (("h", h), ("z", z)):
            if own is None:
                continue
            untrained = self.untrained[name]
            found.append((name, collapse(name, own, untrained, self._least(name, own, untrained))))
        for kind in ("complete collapse", "dimensional collapse"):
            for name, one in found:
                if one is not None and one.kind == kind:
                    return Alarm(f"{kind} of {name}", f"{kind}: {one.seen}", few=kind != "complete collapse")
        return None

    def _least(self, name: str, own: Look, untrained: Look | None) -> float:
        """The rank below which there is a collapse: half of the untrained network's where that has few dimensions itself."""
        least = fewest_dimensions(own.dim, self.told)
        if untrained is not None:
            least = min(least, untrained.rank / 2)
            if self.fast and not self.told:
                least = max(least, LESS[name] * untrained.rank)
        # two classes that fall on two points have rank 1
        return least if self.told == 2 else max(least, min(ONE, own.dim / 2))


@dataclass(frozen=True)
class _Drawn:
    """Samples that are held."""

    fields: Tensor

    def __len__(self) -> int:
        return len(self.fields)

    def seen(self, indices: Any) -> Tensor:
        return self.fields[torch.from_numpy(np.asarray(indices))]


def _first(history: Sequence[Mapping[str, Any]], name: str) -> Look | None:
    """What the run's first look at an output gave."""
    spread, dims = {"h": ("h_std", "h_dims"), "z": ("z_std", "z_rank")}[name]
    line = next((x for x in history if spread in x and dims in x), None)
    if line is None or (name == "h" and line["step"] > 0):
        return None
    return Look(line[spread], line[dims], math.nan, 0)
