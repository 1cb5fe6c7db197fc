"""A method on trial: small, on synthetic samples, with the views of its recipe, and steps as training takes them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.data.kinds.kind import build, sees
from unlabeled.encoders import Encoder
from unlabeled.methods.base import Comparison, Method
from unlabeled.optim.optimizers import Optimizers
from unlabeled.optim.schedules import constant
from unlabeled.probes.extract import features
from unlabeled.registry import Choice, Entry
from unlabeled.testing.samples import KINDS, Samples, Synthetic, samples
from unlabeled.training.batches import Drawn
from unlabeled.training.step import Step
from unlabeled.views.view import Views

Found = TypeVar("Found")

COUNT = 128
"""Samples of a trial; learning takes more."""
TOTAL, PER_EPOCH = 12, 4
"""Steps of a run, and of an epoch."""
AT = Progress(5, TOTAL, 1)
"""Late enough for most of what begins late."""

SMALL = {
    "dim": 32,
    "queue": 64,
    "hardest": 64,
    "mixed": 8,
    "query_mixed": 4,
    "prototypes": 64,
    "noise": 64,
    "negatives": 64,
    "invariance": 30.0,
    "steps": 3,
    "width": 32,
    "depth": 1,
    "heads": 2,
    "permutations": 10,
}
"""Upper bounds of options that make a method small, where it has them. (Hardest: all keys of the queue; with eight clusters
the nearest few would all be of the query's own.)"""
SET = {"hidden": 64, "bottleneck": 16, "clusters": "8", "batch_norm": True}
SET |= {"mix_from": 0, "queue_from": 1, "frozen_epochs": 0, "warm_up": 0.0, "epsilon": 0.01, "pool": 0.5}
SET |= {"tasks": "rotation,colorization"}
"""Options, where it has them, with which a few steps of a small network show everything."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A registered method, or a class that is not, and what it is tried with.

    Attributes:
        entry: of the registry; made up for a class that is in none.
        network: encoder that is given by hand; None: a small one like the one that its recipe prescribes.
        views: policy that is given by hand; None: that of its recipe.
        given: options of the method, given by hand.
    """

    entry: Entry
    network: Choice | None = None
    views: Choice | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """Of the method."""
        return self.entry.name

    @property
    def kind(self) -> Synthetic:
        """The first kind of data that it sees and that can be made up.

        Raises:
            LookupError: it sees none of these.
        """
        return KINDS[self.kind_name]

    @property
    def kind_name(self) -> str:
        """Of the kind."""
        kinds = sees(self.entry.make)
        known = [name for name in kinds if name in KINDS]
        if not known:
            raise LookupError(
                f"{self.name} sees {', '.join(kinds)}, and there are synthetic samples of {', '.join(KINDS)} only"
            )
        return known[0]

    @cached_property
    def networks(self) -> dict[str, Choice]:
        """Small encoders to try it on, by family, the first of them first: those like the one that its recipe prescribes."""
        if self.network:
            return {"given": self.network}
        prescribed = _part(self.entry.prescribed("", {"method": self.options}), "encoder", "")
        fitting = {word: each for word, each in self.kind.networks.items() if not prescribed.name or word in prescribed.name}
        small = fitting or {"prescribed": prescribed}
        return {word: Choice(each.name, {**each.options, **_new(prescribed, each)}) for word, each in small.items()}

    @property
    def encoder(self) -> Choice:
        """The one that it is tried on where it makes no difference."""
        return next(iter(self.networks.values()))

    @property
    def options(self) -> dict[str, Any]:
        """Of the method, that keep it small."""
        known = self.entry.options()
        bounded = {k: min(bound, known[k].default) for k, bound in SMALL.items() if k in known}
        return {**bounded, **{k: v for k, v in SET.items() if k in known}, **self.given}

    def samples(self, n: int = COUNT, seed: int = 0) -> Samples:
        """Synthetic ones that it can learn from."""
        return samples(self.kind_name, n, seed, self.encoder)

    def make(self, seed: int = 0, network: Choice | None = None, n: int = COUNT, **options: Any) -> Method:
        """The untrained method before its first step; `options` count where it has them."""
        method = self._constructed(seed, network, n, **options)
        self.begin_epoch(method, Progress(0, TOTAL, 0))
        return method

    def _constructed(self, seed: int = 0, network: Choice | None = None, n: int = COUNT, **options: Any) -> Method:
        choice, source = network or self.encoder, self.samples(n)
        built, drawn = _encoder(self.kind_name, choice.name, frozenset(choice.options.items()), n, seed)
        known = self.entry.options()
        given = {**self.options, **{k: v for k, v in options.items() if k in known}}
        torch.set_rng_state(drawn)
        method: Method = self.entry.make(copy.deepcopy(built), source.shape, **self.entry.resolve(given).options)
        return method

    def built(self, network: Choice) -> Encoder:
        """An untrained encoder, to look at."""
        return _encoder(self.kind_name, network.name, frozenset(network.options.items()), COUNT, 0)[0]

    @torch.no_grad()
    def begin_epoch(self, method: Method, at: Progress) -> None:
        """What it does before an epoch."""
        source = self.samples(method.shape.n)
        torch.manual_seed(at.epoch)

        def extract(module: nn.Module, rows: Tensor | None = None) -> Tensor:
            return features(module, source, device="cpu", indices=None if rows is None else rows.numpy())

        method.before_epoch(at, extract)

    @cached_property
    def plain(self) -> Method:
        """The untrained method, to look at; it begins no epoch and is never trained."""
        return self._constructed()

    @property
    def learns(self) -> bool:
        """Whether anything in it is trainable."""
        return any(p.requires_grad for p in self.plain.parameters())

    @property
    def compares(self) -> bool:
        """Whether it is a `Comparison`."""
        return isinstance(self.plain, Comparison)

    @property
    def in_pieces(self) -> bool:
        """Whether a batch may come in pieces."""
        return self.compares or self.plain.adds_up

    def holds(self, kind: type) -> bool:
        """Whether it has such a module."""
        return any(isinstance(part, kind) for part in self.plain.modules())

    @cached_property
    def policy(self) -> Views:
        """The given views or its recipe's, milder."""
        mine = self.views or self._views()
        options = dict(registry.get("views", mine.name).resolve(mine.options).options)
        options |= {k: v for k, v in self.kind.mild.items() if k in options}
        if "views" in options:
            options["views"] = min(4, options["views"])
        made: Views = registry.build("views", Choice(mine.name, options), self.shape)
        return made

    def _views(self) -> Choice:
        recipe = self.entry.prescribed(self.encoder.name, {"method": self.options})
        return _part(recipe, "views", build(Choice(self.kind_name)).policy)

    @property
    def shape(self) -> DataShape:
        """Of the samples."""
        return self.samples().shape

    def draw(self, step: int, size: int, n: int = COUNT) -> torch.Tensor:
        """Places (B,) of the samples of a step."""
        return torch.randperm(n, generator=torch.Generator().manual_seed(step))[:size]

    def stepper(self, method: Method, optimizers: Optimizers | None = None, made: type[Step] = Step, **more: Any) -> Step:
        """What takes the method's steps, as training does."""
        return made(method, lambda at: self.policy, optimizers or optimizer(method), **more)

    def take(self, step: Step, number: int, at: Progress, size: int = 16) -> Loss:
        """One step, on samples that its number decides."""
        source = self.samples(step.method.shape.n)
        index = self.draw(number, size, len(source)).numpy()
        return step(Drawn(index, source.fetch(index)), at, source.labels.numpy(), self.beside(step.method, number, size))

    def beside(self, method: Method, number: int, size: int) -> Drawn | None:
        """The labelled samples that go with a batch of so many."""
        source, count = self.samples(method.shape.n), method.labelled_beside(size)
        index = self.draw(1000 + number, count, len(source)).numpy()
        return Drawn(index, source.fetch(index)) if count else None

    def once(self, compute: Callable[[Trial], Found]) -> Found:
        """What a function finds of this trial, computed once."""
        if compute not in self._kept:
            self._kept[compute] = compute(self)
        found: Found = self._kept[compute]
        return found

    def batch(self, step: int, size: int = 16) -> Batch:
        """The batch that a step of that number takes, drawn once."""
        if (step, size) not in self._kept:
            index = self.draw(step, size).numpy()
            source, at = self.samples(), Progress(step, TOTAL, step // PER_EPOCH)
            stepper, labels = self.stepper(self.plain), source.labels.numpy()
            drawn = stepper.batch(Drawn(index, source.fetch(index)), at, labels, self.plain.needs_labels)
            beside = self.beside(self.plain, step, size)
            drawn.labelled = None if beside is None else stepper.batch(beside, at, labels, True, stream=3)
            self._kept[step, size] = drawn
        held: Batch = self._kept[step, size]
        return Batch(list(held.views), held.index, dict(held.targets), held.labelled)

    def train(
        self, step: Step, steps: Iterable[int], *, size: int = 16, total: int = TOTAL, per_epoch: int = PER_EPOCH
    ) -> list[Loss]:
        """Takes steps as the loop does."""
        losses = []
        for number in steps:
            at = Progress(number, total, number // per_epoch)
            if number % per_epoch == 0:
                self.begin_epoch(step.method, at)
            losses.append(self.take(step, number, at, size))
        return losses


def trials(entries: Iterable[Entry], **more: Any) -> list[Trial]:
    """One for each entry that is not another by a second name."""
    distinct: list[Entry] = []
    for entry in entries:
        if not any(_same(entry, other) for other in distinct):
            distinct.append(entry)
    return [Trial(entry, **more) for entry in distinct]


def _same(a: Entry, b: Entry) -> bool:
    return a.make is b.make and (a.preset, a.recipe, a.encoders) == (b.preset, b.recipe, b.encoders)


def optimizer(method: Method, name: str = "adamw", **options: object) -> Optimizers:
    """Of all parts, with constant learning rates."""
    made = Optimizers(method, Choice(name, options), method.parts, scaling="none")
    made.schedules = dict.fromkeys(made.held, constant)
    return made


def forward(method: Method, of: Batch, at: Progress) -> Loss:
    """A forward pass in training mode, whose randomness the step alone decides."""
    method.train()
    torch.manual_seed(1000 + at.step)
    loss: Loss = method(of, at)
    return loss


def gradients(method: Method) -> dict[str, Tensor]:
    """A copy of them, by parameter; the method then has none."""
    found = {n: p.grad.clone() for n, p in method.named_parameters() if p.grad is not None}
    method.zero_grad(set_to_none=True)
    return found


def snapshot(method: Method, *, statistics: bool = True) -> dict[str, Tensor]:
    """A copy of the state; without the running statistics of batch norms unless asked for."""
    running = ("running_mean", "running_var", "num_batches_tracked")
    state = method.state_dict().items()
    return {k: v.clone() for k, v in state if statistics or k.rpartition(".")[2] not in running}


def differing(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> list[str]:
    """Names whose values are not the same bits."""
    return [k for k in {**a, **b} if k not in a or k not in b or not torch.equal(a[k], b[k])]


@cache
def _encoder(kind: str, name: str, options: frozenset[tuple[str, Any]], n: int, seed: int) -> tuple[Encoder, Tensor]:
    """Built once, to be copied, as timm takes longer; and the state of the generator after it, for what is built on it."""
    choice = Choice(name, dict(options))
    source = samples(kind, n, 0, choice)
    torch.manual_seed(seed)
    return build(source.kind).encoder(choice, source.shape.channels, source.fields), torch.get_rng_state()


def _part(prescribed: Mapping[str, Any], part: str, default: str) -> Choice:
    """What a recipe prescribes: a name, a mapping with one, or single options as `part.option`."""
    given = prescribed.get(part, default)
    held = {"name": given} if isinstance(given, str) else {"name": default, **given}
    single = {k.partition(".")[2]: v for k, v in prescribed.items() if k.startswith(f"{part}.")}
    return Choice(held["name"], {**{k: v for k, v in held.items() if k != "name"}, **single})


def _new(prescribed: Choice, small: Choice) -> dict[str, Any]:
    """Options that a recipe prescribes and that do not undo the smallness."""
    return {k: v for k, v in prescribed.options.items() if k not in small.options}
