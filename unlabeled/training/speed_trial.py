"""`--speed auto`: a few timed steps say how this machine trains this network fastest."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from unlabeled.compute import openmp
from unlabeled.compute.speed import WORDS, Speed, computes_in_bf16, refusal, usual
from unlabeled.console import console
from unlabeled.data import Source
from unlabeled.data.store import cache_folder
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.recipe import Recipe
from unlabeled.run import environment
from unlabeled.training.apart import Tell, apart
from unlabeled.training.setup import make_fabric, planned_steps
from unlabeled.training.timed_steps import TimedSteps, best_of
from unlabeled.words import counted

WORTH_STEPS = 500
"""A shorter run is not tuned: the trial itself takes about 25 of its steps."""
WORTH_COMPILING = 1800.0
"""Seconds of a run for which compiling is tried: the trial alone takes about one minute on two processor cores."""
ROUNDS = 3
FUSABLE = ("sgd", "adamw")
BETTER = 0.95
"""Share of the time of the usual way that another must come below, as timings vary."""


@dataclass(frozen=True)
class Trial:
    """What the ways to compute take here.

    Attributes:
        steps: seconds of a step, by the way's words.
        fetch: seconds that fetching a batch takes.
        compile: seconds that compiling took, None where it was not tried or cannot be had.
        refused: why compiling cannot be had, "" where it can or was not tried.
        usual: the words of what is usually fastest on such hardware.
        died: ways that end their process here, and how.
    """

    steps: dict[str, float]
    fetch: float
    usual: str
    compile: float | None = None
    refused: str = ""
    died: dict[str, str] = field(default_factory=dict)

    def choose(self, planned: int) -> Speed:
        """Chooses the fastest way for so many steps; the usual one unless another is clearly faster; a compiled one only if
        it pays back what compiling takes."""

        def total(words: str) -> float:
            compiled = Speed.parse(words).compiled
            return planned * self.steps[words] + (self.compile or 0.0) * compiled

        best = min(self.steps, key=total)
        if self.usual in self.steps and total(best) >= BETTER * total(self.usual):
            best = self.usual
        return replace(Speed.parse(best), workers=workers(self.fetch, self.steps[best]))

    def warnings(self) -> list[str]:
        """Returns a line for each way that was ruled out, as it ends its process."""
        return [f"the way {words!r} ends its process on this machine ({how}): ruled out" for words, how in self.died.items()]

    def gain(self, speed: Speed) -> float:
        """Tells how many times as fast as the slowest way."""
        return max(self.steps.values()) / self.steps[str(replace(speed, workers=1))]


def workers(fetch: float, step: float) -> int:
    """Returns how many threads keep up: batches that have to be fetched while one step is taken, at most 8.

    >>> workers(fetch=0.5, step=0.2)
    3
    """
    return max(1, min(8, math.ceil(fetch / step)))


def settled(recipe: Recipe, source: Source, accelerator: str, devices: int = 1) -> tuple[Recipe, Trial | None]:
    """Returns the recipe with a `speed` in place of `auto`, and what the choice came from: None where nothing was timed."""
    if recipe.speed != "auto":
        return recipe, None
    planned = planned_steps(recipe, source)
    trial = tuned(recipe, source, accelerator, planned) if devices == 1 else None
    speed = trial.choose(planned) if trial else usual(make_fabric(recipe, accelerator, 1).device, recipe.precision)
    return replace(recipe, speed=str(speed)), trial


def tuned(recipe: Recipe, source: Source, accelerator: str, planned: int, *, compiling: bool | None = None) -> Trial | None:
    """Times the ways to compute, or reads what was found before on this machine for this network.

    Args:
        recipe: with a size of views.
        source: samples.
        accelerator: auto, cpu, cuda, mps.
        planned: steps of the run.
        compiling: whether that is tried too; None: if the run is long enough.

    Returns:
        None for a run too short to be worth a trial.
    """
    if planned < WORTH_STEPS and not compiling:
        return None
    path = cache_folder() / "speed" / f"{_key(recipe, source, accelerator)}.json"
    trial = None
    with suppress(OSError, ValueError, TypeError):
        trial = Trial(**json.loads(path.read_text(encoding="utf-8")))
    before = trial
    if trial is None:
        said = "speed: timing some steps in each way to compute, to take the fastest; --speed fused, say, leaves that out"
        console().print(said, soft_wrap=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        trial = trial or _eager(recipe, source, accelerator)
        best = min(trial.steps.values())
        wanted = planned * best > WORTH_COMPILING if compiling is None else compiling
        if wanted and trial.compile is None and not trial.refused:
            trial = _compiled(trial, recipe, source, accelerator)
    if trial != before and "SIGKILL" not in trial.died.values():  # that is the system's, for memory, or somebody's
        with suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda p: p.write_text(json.dumps(asdict(trial)), encoding="utf-8"))
    return trial


def _eager(recipe: Recipe, source: Source, accelerator: str) -> Trial:
    """The trial of all ways but the compiled, apart from this process; again without the way in which a copy died."""
    device = make_fabric(recipe, accelerator, 1).device
    died: dict[str, str] = {}
    while True:
        ways = _Ways(recipe, source, accelerator, died)
        found = apart(partial(_timed, ways, device), device)
        if isinstance(found, Trial):
            return replace(found, died=died)
        if not found.at or found.at in died:
            raise UserError(
                f"the timed steps of --speed auto cannot be taken here ({found.how}): give --speed, such as fused"
            )
        died[found.at] = found.how


@dataclass(frozen=True)
class _Ways:
    """Makes a step of each way to compute; says which way it begins with."""

    recipe: Recipe
    source: Source
    accelerator: str
    died: Mapping[str, str] = field(default_factory=dict)
    tell: Tell = lambda said: None

    def timed(self, way: Speed) -> TimedSteps:
        self.tell(str(way))
        fabric = make_fabric(replace(self.recipe, speed=str(way)), self.accelerator, 1)
        return TimedSteps(self.recipe, self.source, fabric, way)

    def step(self, words: str, timed: TimedSteps) -> float:
        self.tell(words)
        return timed(self.recipe.batch_size // self.recipe.accumulate)

    def best(self, timed: Mapping[str, TimedSteps]) -> dict[str, float]:
        """Seconds of a step of each."""
        return best_of({words: partial(self.step, words, steps) for words, steps in timed.items()}, ROUNDS)

    def beside(self, way: Speed, known: str, found: Mapping[str, float]) -> dict[str, float]:
        """Seconds of a step of another way, as its share of one that was timed before, timed again beside it."""
        again = self.best({words: self.timed(Speed.parse(words)) for words in (known, str(way))})
        return {str(way): found[known] * again[str(way)] / again[known]} if len(again) == 2 else {}


def _timed(ways: _Ways, device: torch.device, tell: Tell) -> Trial:
    ways, recipe, source = replace(ways, tell=tell), ways.recipe, ways.source
    given = Speed(bf16=recipe.precision == "bf16")
    halves = [False, True] if recipe.precision == "auto" and computes_in_bf16(device) else [given.bf16]
    plain = [Speed(bf16=half, channels_last=last) for half in halves for last in (False, True)]
    common = usual(device, recipe.precision)
    timed = {str(way): ways.timed(way) for way in dict.fromkeys([*plain, common]) if str(way) not in ways.died}
    if not timed:
        raise UserError(f"every way to compute ends its process on this machine ({'; '.join(ways.died)})")
    found = ways.best(timed)
    if not found:
        said = f"a batch of {counted(recipe.batch_size, source.kind.nouns)} does not fit the memory"
        raise UserError(f"{said}: give a smaller --batch-size")
    best = min(found, key=lambda words: found[words])
    fetch = min(timed[best].fetch(recipe.batch_size) for _ in range(ROUNDS))
    norms = device.type == "cpu" and Speed.parse(best).channels_last and openmp.available()
    further = ["products"] * (device.type == "cpu") + ["norms"] * norms + ["fused"] * (recipe.optimizer.name in FUSABLE)
    for word in further:
        way = replace(Speed.parse(best), **{word: True})
        if str(way) not in {**found, **ways.died}:
            found |= ways.beside(way, best, found)
            best = min(found, key=lambda words: found[words])
    return Trial(found, fetch, str(common))


def _compiled(trial: Trial, recipe: Recipe, source: Source, accelerator: str) -> Trial:
    """With the fastest way compiled, if that can be had."""
    best = min((words for words in trial.steps if not Speed.parse(words).compiled), key=lambda words: trial.steps[words])
    way, device = replace(Speed.parse(best), norms=False, compiled=True), make_fabric(recipe, accelerator, 1).device

    def timed(tell: Tell) -> Trial:
        ways = _Ways(recipe, source, accelerator, tell=tell)
        if refused := refusal(device.type):
            return replace(trial, refused=refused)
        start = time.perf_counter()
        ways.step(str(way), ways.timed(way))
        took = time.perf_counter() - start
        found = ways.beside(way, best, trial.steps)
        return replace(trial, steps={**trial.steps, **found}, compile=took)

    found = apart(timed, device)
    return (
        found if isinstance(found, Trial) else replace(trial, refused=f"it ends its process on this machine ({found.how})")
    )


def _key(recipe: Recipe, source: Source, accelerator: str) -> str:
    """All that the timings depend on, but for chance."""
    plain = recipe.to_dict()
    parts: Mapping[str, Any] = {
        **{
            name: plain[name]
            for name in ("method", "encoder", "views", "optimizer", "kind", "batch_size", "accumulate", "precision")
        },
        "ways": WORDS,
        "channels": source.channels,
        "kept_at": source.size,
        "accelerator": accelerator,
        **{name: environment()[name] for name in ("versions", "hardware")},
    }
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=12).hexdigest()
