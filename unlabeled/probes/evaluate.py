"""One protocol, one amount of labels, several draws of them: the figure in a table, with its spread."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.data import balanced_draw
from unlabeled.errors import UserError
from unlabeled.probes.base import NewClassesProbe, Probe
from unlabeled.registry import Choice, build, get


@dataclass(frozen=True, slots=True)
class Score:
    """What a protocol measured.

    Attributes:
        protocol: its registered name.
        options: the options given with it; the others had their defaults.
        amount: labels used, as `parse_amount` gives it.
        draws: how many draws were made; 1 where all labels are used.
        seed: of the first draw; draw i used seed + i.
        labelled: training images whose label was used, in each draw.
        tested: test images that were scored.
        metrics: name -> one share in [0, 1] for each draw; of the first, more is better.
        notes: what the probes had to say (a fit that did not converge), each once.
        intervals: name -> half the width of the 95% confidence interval, of protocols that draw for themselves.
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

    @property
    def title(self) -> str:
        """The protocol as one asks for it, with the options that are not the defaults: `few-shot:shots=5`."""
        defaults = {name: option.default for name, option in get("probes", self.protocol).options().items()}
        other = [f"{name}={value}" for name, value in self.options.items() if value != defaults.get(name)]
        return self.protocol + ":" * bool(other) + ",".join(other)

    def mean(self, metric: str | None = None) -> float:
        """Mean over the draws; of the first metric unless one is named."""
        return fmean(self.metrics[metric or self._first])

    def std(self, metric: str | None = None) -> float | None:
        """Standard deviation over the draws (n - 1), None for a single one, whose spread is unknown."""
        return stdev(self.metrics[metric or self._first]) if self.draws > 1 else None

    def spread(self, metric: str | None = None) -> float | None:
        """The half interval where there is one, else the standard deviation."""
        return self.intervals.get(metric or self._first, self.std(metric))

    def text(self, metric: str | None = None) -> str:
        """`76.1 ± 5.1%`, or `96.7%` for a single draw."""
        spread = self.spread(metric)
        return f"{100 * self.mean(metric):.1f}{'' if spread is None else f' ± {100 * spread:.1f}'}%"

    def json(self) -> dict[str, Any]:
        """All attributes as JSON's own types."""
        return {**asdict(self), "options": dict(self.options)}

    @property
    def _first(self) -> str:
        return next(iter(self.metrics))


def evaluate_features(
    train_h: Tensor,
    train_y: Tensor,
    test_h: Tensor,
    test_y: Tensor,
    *,
    protocol: Choice,
    amount: int | float = 1.0,
    draws: int = 10,
    seed: int = 0,
) -> Score:
    """Fits a protocol on class-balanced draws of the labels and scores each on the whole test split.

    All training features, labelled or not, are at the protocol's disposal for statistics; test features and test labels
    reach nothing but `score`. Images with label -1 (unlabelled) are never drawn and never scored.

    Args:
        train_h: (N, D) float.
        train_y: (N,) int64, -1 where unlabelled.
        test_h: (M, D) float.
        test_y: (M,) int64, -1 where unlabelled.
        protocol: name of a probe and its options.
        amount: int, that many images of each class; float in (0, 1], that share of them. 1.0 needs a single draw.
        draws: how often labels are drawn, >= 1; once for a protocol that learns nothing (`fits` is False).
        seed: of the first draw; draw i has seed + i.

    Raises:
        UserError: an unknown protocol or option, a split without labels, features that are not finite, a bad amount.
    """
    probe: Probe = build("probes", protocol)
    _check(train_h, train_y, "training")
    _check(test_h, test_y, "test")
    if draws < 1:
        raise UserError(f"draws = {draws}: must be at least 1")
    everything = isinstance(amount, float) and amount == 1.0
    labelled = torch.nonzero(train_y >= 0).squeeze(1).cpu()
    labels = train_y.cpu()[labelled].numpy()
    scored = test_y >= 0
    test_h, test_y = test_h[scored.to(test_h.device)], test_y[scored]

    metrics: dict[str, list[float]] = {}
    notes: dict[str, None] = {}
    used = []
    for draw in range(1 if everything or not getattr(probe, "fits", True) else draws):
        chosen = labelled if everything else labelled[_tensor(balanced_draw(labels, amount, seed + draw))]
        probe.fit(train_h[chosen.to(train_h.device)], train_y[chosen.to(train_y.device)], reference=train_h)
        used.append(len(chosen))
        for name, value in probe.score(test_h, test_y).items():
            metrics.setdefault(name, []).append(value)
        notes.update(dict.fromkeys(probe.notes_))
    return Score(protocol.name, protocol.options, amount, len(used), seed, used, len(test_y), metrics, list(notes))


def evaluate_new_classes(
    known: tuple[Tensor, Tensor] | None, new: tuple[Tensor, Tensor], *, protocol: Choice, draws: int = 10, seed: int = 0
) -> Score:
    """Fits a protocol on known classes and scores it on new ones, once for each draw.

    Args:
        known: features (N, D) and labels (N,) int64 of training images; None for a protocol that fits nothing.
        new: features (M, D) and labels (M,) of test images of other classes.
        protocol: name of a `NewClassesProbe` and its options.
        draws: how often, >= 1; once if the protocol draws for itself.
        seed: of the first draw; draw i has seed + i.

    Raises:
        UserError: an unknown protocol or option, features that are not finite, too few classes or images.
    """
    probe: NewClassesProbe = build("probes", protocol)
    if draws < 1:
        raise UserError(f"draws = {draws}: must be at least 1")
    for split, (h, _) in {**({"training": known} if known else {}), "test": new}.items():
        _check_finite(h, split)
    metrics: dict[str, list[float]] = {}
    intervals: dict[str, float] = {}
    done = 0
    while done < draws and not intervals:
        if known is not None:
            probe.fit(*known, seed=seed + done)
        for name, figure in probe.score(*new, seed=seed + done).items():
            metrics.setdefault(name, []).append(figure.value)
            intervals |= {} if figure.interval is None else {name: figure.interval}
        done += 1
    used, notes = [probe.labelled_] * done, list(probe.notes_)
    return Score(protocol.name, protocol.options, 1.0, done, seed, used, len(new[1]), metrics, notes, intervals)


def parse_protocol(text: str) -> Choice:
    """`"few-shot"`, or `"few-shot:ways=10,shots=5"`, with every option.

    Raises:
        UserError: an unknown protocol or option, or options that are not written so.
    """
    name, _, rest = text.partition(":")
    entry = get("probes", name)
    options: dict[str, str] = {}
    for part in re.split(r",(?=[^,]*=)", rest) if rest else ():  # a value may hold commas
        option, _, value = part.partition("=")
        if not value:
            raise UserError(f"protocol {text!r}: write its options as {name}:OPTION=VALUE, with commas between several")
        options[option.strip().replace("-", "_")] = value.strip()
    return entry.resolve(options)


def parse_amount(text: str) -> int | float:
    """`"1"` is one image of each class, `"5"` five; `"1%"` is 0.01 of the labels, `"100%"` is 1.0.

    Raises:
        UserError: neither a whole number >= 1 nor a percentage in (0, 100].
    """
    if re.fullmatch(r"[0-9]+", text) and int(text) >= 1:
        return int(text)
    percent = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)%", text)
    if percent and 0 < float(percent[1]) <= 100:
        return float(percent[1]) / 100
    raise UserError(
        f"labels {text!r}: write a whole number of images per class (1, 5) or a percentage of the labels (1%, 100%)"
    )


def _check(h: Tensor, y: Tensor, split: str) -> None:
    if not bool((y >= 0).any()):
        raise UserError(f"the {split} split has no labels: evaluation needs some")
    _check_finite(h, split)


def _check_finite(h: Tensor, split: str) -> None:
    if not bool(h.isfinite().all()):
        raise UserError(
            f"the features of the {split} split are not finite (NaN or infinity): the run diverged; "
            "use an earlier checkpoint, or pretrain again with a smaller learning rate"
        )


def _tensor(positions: Any) -> Tensor:
    return torch.as_tensor(np.asarray(positions), dtype=torch.int64)
