"""The figure in a table, with its spread."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from statistics import fmean, stdev
from typing import Any

from unlabeled.forms import SCORE, FormError, check
from unlabeled.probes.paired import apart, unpacked
from unlabeled.registry import Choice, get

SHARES = ("top1", "top5")
"""Figures that are shares of independent test images."""

LONGEST = 100
"""Letters of a file's name, which file systems limit to 255 bytes."""


@dataclass(frozen=True, slots=True)
class Score:
    """What a protocol measured.

    Attributes:
        protocol: its registered name.
        options: the options given with it; the others had their defaults.
        amount: labels used, as `parse_amount` gives it.
        draws: how many draws were made; 1 where all labels are used.
        seed: of the first draw; draw i used seed + i.
        labelled: training images whose label was used, in each draw: 0 by a protocol that needs none.
        tested: test images that were looked at, which may be fewer than there are.
        metrics: name -> one figure for each draw; of the first, more is better.
        notes: what the probes had to say (a fit that did not converge), each once.
        intervals: name -> half the width of the 95% confidence interval, where there is a single draw; for shares of the
            test images, that of `unlabeled.probes.base.binomial`.
        plain: names of figures that are not shares in [0, 1].
        each: of each draw, the first figure of each test sample (`unlabeled.probes.paired.packed`); empty where a protocol
            has none.
        guess: name -> what the figure is of who always names the largest class; empty of what finds no classes.
        confusion: how many test samples of each class (rows) were given each (columns), in all draws together; empty of
            what finds no classes, and of more than 100.
        also: name -> likewise `each`, of other figures that are known for each sample.
        constant: whether all draws named one class whatever the sample, which is no answer.
        chosen: option that was left to the protocol -> what each draw chose; empty where nothing was chosen.
        clusters: packed likewise, which test samples are not independent of each other; "" where each stands alone.
    """

    protocol: str
    options: Mapping[str, Any]
    amount: int | float
    draws: int
    seed: int
    labelled: list[int]
    tested: int
    metrics: dict[str, list[float]]
    notes: list[str]
    intervals: dict[str, float] = field(default_factory=dict)
    plain: list[str] = field(default_factory=list)
    each: list[str] = field(default_factory=list)
    guess: dict[str, float] = field(default_factory=dict)
    confusion: list[list[int]] = field(default_factory=list)
    also: dict[str, list[str]] = field(default_factory=dict)
    constant: bool = False
    chosen: dict[str, list[float]] = field(default_factory=dict)
    clusters: str = ""

    @property
    def title(self) -> str:
        """The protocol as one asks for it, with the options that are not the defaults: `few-shot:shots=5`."""
        return title(Choice(self.protocol, self.options))

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Score:
        """Reads what `json` returned, of this version or of an older one.

        Raises:
            FormError: it is no score.
        """
        check(line, SCORE)
        score = cls(**{f.name: line[f.name] for f in fields(cls) if f.name in line})
        if not score.metrics or not score.labelled or any(len(each) != score.draws for each in score.metrics.values()):
            raise FormError(f"a score of {score.draws} draws has figures of others")
        for values in itertools.chain(score.each, *score.also.values(), filter(None, [score.clusters])):
            unpacked(values)
        return score

    def mean(self, metric: str | None = None) -> float:
        """Returns the mean over the draws; of the first metric unless one is named."""
        return fmean(self.metrics[metric or self._first])

    def std(self, metric: str | None = None) -> float | None:
        """Returns the standard deviation over the draws (n - 1), None for a single one, whose spread is unknown."""
        return stdev(self.metrics[metric or self._first]) if self.draws > 1 else None

    def spread(self, metric: str | None = None) -> float | None:
        """Returns the half interval where there is one, else the standard deviation."""
        return self.intervals.get(metric or self._first, self.std(metric))

    @property
    def leading(self) -> str:
        """The figure that says most: the first; but where classes are uneven, so that accuracy says little, the area under
        the ROC curve of two, which does not hang on where a classifier draws the line between them, and of more the balanced
        accuracy."""
        order = ("auroc", "balanced") if "balanced" in self.metrics else ()
        return next((name for name in order if name in self.metrics), self._first)

    @property
    def paired(self) -> tuple[str, ...]:
        """Figures that are known for each sample: by them two encoders are compared. The first always is one."""
        return self._first, *(name for name in self.also if name != self._first)

    def above(self, other: Score, metric: str | None = None) -> tuple[float, float | None]:
        """Returns by how much a figure, the first unless one is named, is above another's, and half the width of the 95%
        confidence interval of that; None where it is not known.

        Sample by sample, where both were found on the same draws of the labels; else as if the two were independent.
        """
        gap, spreads = self.mean(metric) - other.mean(metric), [self.spread(metric), other.spread(metric)]
        ours, theirs = (
            (score.also.get(metric, []) if metric in score.paired[1:] else score.each) for score in (self, other)
        )
        asked = [(score.amount, score.seed, score.labelled, score.tested) for score in (self, other)]
        if ours and asked[0] == asked[1] and len(ours) == len(theirs):
            with suppress(ValueError):  # of other samples
                spread = apart(tuple(ours), tuple(theirs), self.clusters)[1]
                return gap, None if math.isinf(spread) else spread
        return gap, None if None in spreads else math.hypot(*(spread or 0.0 for spread in spreads))

    def text(self, metric: str | None = None) -> str:
        """Returns `76.1 ± 5.1%`; `3.14 ± 0.02` for a figure that is no share; `96.7%` where the spread is unknown."""
        spread = self.spread(metric)
        if (metric or self._first) in self.plain:
            return f"{self.mean(metric):.3g}" + ("" if spread is None else f" ± {spread:.2g}")
        return f"{100 * self.mean(metric):.1f}{'' if spread is None else f' ± {100 * spread:.1f}'}%"

    def json(self) -> dict[str, Any]:
        """Returns all attributes as JSON's own types."""
        return {**asdict(self), "options": dict(self.options)}

    @property
    def _first(self) -> str:
        return next(iter(self.metrics))


def title(protocol: Choice) -> str:
    """Returns a protocol as one asks for it, with the options that are not the defaults."""
    defaults = {name: option.default for name, option in get("probes", protocol.name).options().items()}
    other = [f"{name}={_asked(value)}" for name, value in protocol.options.items() if value != defaults.get(name)]
    return protocol.name + ":" * bool(other) + ",".join(other)


def file_name(protocol: Choice, labels: str | None = None) -> str:
    """Returns the title, and the amount of labels if one is given, as a file can be called, without suffix:
    `tsne-perplexity=200`, `retrieval-labels=10%`. One that is long ends in its digest."""
    asked = title(protocol)
    if labels is not None:
        asked += f"{',' if ':' in asked else ':'}labels={labels}"
    safe = re.sub(r"[^\w.,=()+%-]", "-", asked)
    return safe if len(safe) <= LONGEST else f"{safe[:LONGEST]}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"


def of_file(name: str) -> tuple[str, str]:
    """Returns the protocol and its options that a file (its name without suffix) was called after.

    >>> of_file("linear-layers-C=1,k=5"), of_file("tsne")
    (('linear-layers', 'C=1,k=5'), ('tsne', ''))
    """
    found = re.fullmatch(r"(.*?)(?:-(\w+=.*))?", name, re.DOTALL)
    assert found is not None
    return found[1], found[2] or ""


def _asked(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
