"""THE loop. It knows no method: it fetches batches, lets `Step` take the steps, and saves and tells."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from threading import Event
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric

from unlabeled.batch import seed_of
from unlabeled.data import Data
from unlabeled.distributed import any_process, rank, wait_for_all, world
from unlabeled.recipe import Recipe
from unlabeled.run import Run
from unlabeled.training.batches import batches
from unlabeled.training.checkpoints import restore, save, tell_changes
from unlabeled.training.failing import explained
from unlabeled.training.interrupt import stoppable
from unlabeled.training.keep import Keeper
from unlabeled.training.monitor import Monitor
from unlabeled.training.setup import Setup, extractor, make_fabric, set_up
from unlabeled.training.step import Step

SAVE_EVERY = 60.0
"""Seconds between checkpoints."""


def train(
    recipe: Recipe,
    data: Data,
    run: Run,
    about: Mapping[str, Any],
    *,
    accelerator: str = "auto",
    devices: int = 1,
    loggers: Sequence[Any] = (),
    watch: Callable[[int], bool] | None = None,
    begin: int = 0,
) -> bool:
    """Trains the recipe's method on the data, from the run's last checkpoint if it has one.

    Args:
        recipe: resolved, with an image size.
        data: opened.
        run: where to; its folder is made once everything else has been built, so that a mistake leaves nothing behind.
        about: what the run keeps of its environment, unless it has a checkpoint.
        accelerator: Fabric's name of the hardware.
        devices: processes, one a device.
        loggers: of Fabric, beside the run's own metrics.
        watch: of a trial, of whose training nobody is told that it goes wrong: called before each step, and again after what
            the method does before an epoch; True before a step ends the training there and then, without a checkpoint.
        begin: epoch with which a run without a checkpoint begins, as if those before it were over: for trials of what
            comes late.

    Returns:
        Whether the run is finished (it is not after Ctrl-C; it is where patience ended it early).

    Raises:
        UserError: a loss that is not finite, a batch larger than the data, hardware that is not there, and what method
            and views refuse.
    """
    fabric = make_fabric(recipe, accelerator, devices, loggers)
    with explained(recipe, fabric):
        fabric.launch()
        return _train(recipe, data, run, about, fabric, watch, begin)


def _train(
    recipe: Recipe,
    data: Data,
    run: Run,
    about: Mapping[str, Any],
    fabric: Fabric,
    watch: Callable[[int], bool] | None,
    begin: int,
) -> bool:
    state = run.read_checkpoint()
    made = set_up(recipe, data.train, fabric, resumed=state is not None)
    method, clock = made.method, made.clock
    monitor = Monitor(fabric, recipe, run, data, clock.total, clock.per_epoch, trial=watch is not None)
    optimizers = made.step.optimizers if made.step else None
    taken = restore(state, method, optimizers, made.ema, clock.total)
    keeper = Keeper(made, recipe, run, monitor, state)
    start = taken or begin * clock.per_epoch
    if state is None and rank() == 0:
        run.start(recipe, {**about, **({"start": asdict(made.origin)} if made.origin else {})})
    with made.speed.eager():
        monitor.begin(method, made.judged, taken, made.schedule)
    if state is not None and rank() == 0:
        tell_changes(run, recipe, state)
        if recipe.epochs != run.recipe.epochs:
            run.prolong(recipe, {**state, "total": clock.total, "finished": False}, about["command"])
    with stoppable() as stop:
        done = _take_steps(made, made.step, recipe, run, monitor, keeper, watch, start, stop) if made.step else 0
        if done is None:
            return False
        monitor.check(method, done)
        with made.speed.eager():
            encoder, kept = keeper.end(done)
            monitor.end(encoder, clock.at(max(0, done - 1)), kept)
        save(run, made, keeper, done, encoder, kept, finished=True)
        wait_for_all()
    return True


def _take_steps(
    made: Setup, step: Step, recipe: Recipe, run: Run, monitor: Monitor, keeper: Keeper, watch: Callable[[int], bool] | None,
    start: int, stop: Event,
) -> int | None:  # fmt: skip
    """Takes the steps from `start` on until `stop` is set; returns how many the run has at its end, early or not, None if it
    was stopped."""
    method, clock = made.method, made.clock
    if keeper.over(start):
        return start
    saved = time.monotonic()

    extract = extractor(made.source, made.chosen, made.fabric, made.speed)
    coming_batches = batches(
        recipe, made.source, made.chosen, clock, start, method.sampling, made.speed.workers, made.fabric.device,
        np.flatnonzero(made.labels >= 0), method.labelled_beside(recipe.batch_size),
    )  # fmt: skip
    with coming_batches as coming, monitor:
        for number in range(start, clock.total):
            at = clock.at(number)
            if watch and watch(number):
                return None
            if number % clock.per_epoch == 0:
                torch.manual_seed(seed_of(recipe.seed, at.epoch, 2))
                with torch.no_grad():
                    method.before_epoch(at, extract)
                if watch:
                    watch(number)
            drawn, labelled = next(coming)
            loss = step(drawn, at, made.labels, labelled)
            done = number + 1
            monitor.step(loss, at, step.optimizers.lr)
            if monitor.watches(done):
                with made.speed.eager():
                    monitor.look(made.judged, loss, at)
            stopped = (world() == 1 or monitor.due(done)) and any_process(stop.is_set())
            if done % clock.per_epoch == 0 and keeper.epoch(at):
                return done
            if stopped or (time.monotonic() - saved > SAVE_EVERY):
                monitor.check(method, done)
                save(run, made, keeper, done, keeper.encoder(), keeper.record(done))
                saved = time.monotonic()
            if stopped:
                wait_for_all()
                monitor.interrupted(done)
                return None
    return clock.total
