"""`--speed auto`: a few timed steps say how this machine trains this network fastest."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from unlabeled.compute import openmp
from unlabeled.compute.speed import WORDS, Speed, computes_in_bf16, refusal, usual
from unlabeled.data import Source
from unlabeled.data.store import cache_folder
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.recipe import Recipe
from unlabeled.run import environment
from unlabeled.training.setup import make_fabric, planned_steps
from unlabeled.training.timed_steps import TimedSteps, best_of

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
    """

    steps: dict[str, float]
    fetch: float
    usual: str
    compile: float | None = None
    refused: str = ""

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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        trial = trial or _eager(recipe, source, accelerator)
        best = min(trial.steps.values())
        wanted = planned * best > WORTH_COMPILING if compiling is None else compiling
        if wanted and trial.compile is None and not trial.refused:
            trial = _compiled(trial, recipe, source, accelerator)
    if trial != before:
        with suppress(OSError, UserError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, lambda p: p.write_text(json.dumps(asdict(trial)), encoding="utf-8"))
    return trial


def _eager(recipe: Recipe, source: Source, accelerator: str) -> Trial:
    device = make_fabric(recipe, accelerator, 1).device
    given = Speed(bf16=recipe.precision == "bf16")
    halves = [False, True] if recipe.precision == "auto" and computes_in_bf16(device) else [given.bf16]
    ways = [Speed(bf16=half, channels_last=last) for half in halves for last in (False, True)]
    common = usual(device, recipe.precision)
    timed = {str(way): _timed_steps(recipe, source, accelerator, way) for way in dict.fromkeys([*ways, common])}
    found = best_of({words: _step(r, recipe) for words, r in timed.items()}, ROUNDS)
    if not found:
        said = f"a batch of {recipe.batch_size} {source.kind.nouns} does not fit the memory"
        raise UserError(f"{said}: give a smaller --batch-size")
    best = min(found, key=lambda words: found[words])
    fetch = min(timed[best].fetch(recipe.batch_size) for _ in range(ROUNDS))
    norms = device.type == "cpu" and Speed.parse(best).channels_last and openmp.available()
    further = ["products"] * (device.type == "cpu") + ["norms"] * norms + ["fused"] * (recipe.optimizer.name in FUSABLE)
    for word in further:
        way = replace(Speed.parse(best), **{word: True})
        if str(way) not in found:
            found |= _beside(way, best, found, recipe, source, accelerator)
            best = min(found, key=lambda words: found[words])
    return Trial(found, fetch, str(common))


def _compiled(trial: Trial, recipe: Recipe, source: Source, accelerator: str) -> Trial:
    """With the fastest way compiled, if that can be had."""
    best = min((words for words in trial.steps if not Speed.parse(words).compiled), key=lambda words: trial.steps[words])
    way = replace(Speed.parse(best), norms=False, compiled=True)
    refused = refusal(make_fabric(recipe, accelerator, 1).device.type)
    if refused:
        return replace(trial, refused=refused)
    start = time.perf_counter()
    _step(_timed_steps(recipe, source, accelerator, way), recipe)()
    took = time.perf_counter() - start
    found = _beside(way, best, trial.steps, recipe, source, accelerator)
    return replace(trial, steps={**trial.steps, **found}, compile=took)


def _beside(
    way: Speed, known: str, found: Mapping[str, float], recipe: Recipe, source: Source, accelerator: str
) -> dict[str, float]:
    """Seconds of a step of another way, as its share of one that was timed before, timed again beside it."""
    pair = {words: _timed_steps(recipe, source, accelerator, Speed.parse(words)) for words in (known, str(way))}
    again = best_of({words: _step(timed, recipe) for words, timed in pair.items()}, ROUNDS)
    return {str(way): found[known] * again[str(way)] / again[known]} if len(again) == 2 else {}


def _step(timed: TimedSteps, recipe: Recipe) -> Callable[[], float]:
    return lambda: timed(recipe.batch_size // recipe.accumulate)


def _timed_steps(recipe: Recipe, source: Source, accelerator: str, way: Speed) -> TimedSteps:
    fabric = make_fabric(replace(recipe, speed=str(way)), accelerator, 1)
    return TimedSteps(recipe, source, fabric, way)


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
