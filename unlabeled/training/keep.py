"""Which epoch's encoder a run gives: looks are compared, and the weights of the best are held until the run ends."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from unlabeled import registry
from unlabeled.batch import Progress
from unlabeled.data import Source
from unlabeled.distributed import any_process, rank
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.kept import Kept, Look
from unlabeled.recipe import Recipe
from unlabeled.run import EPOCHS, LAST, Run
from unlabeled.training.monitor import Monitor, looked_at
from unlabeled.training.setup import Setup, finished_encoder

ENOUGH = 100
"""Queries of the kNN monitor by which epochs are told apart unasked: the accuracy of so many is within 5 points in two of
three draws (a binomial's standard deviation is 5 points at most)."""


class Keeper:
    """Compares the looks of a run, by kNN accuracy, or by the rank of h where no labels are seen (Garrido et al. 2023,
    "RankMe"), and holds the best one's weights on the processor.

    Of looks that are equal the later is kept, as it had more training; patience counts from the first. What a method learns
    from labels itself says nothing of an epoch by their help, so there the last is kept.

    Args:
        made: what trains.
        recipe: says which epoch is kept, and how long a run waits for a better one.
        run: its folder.
        monitor: looks.
        checkpoint: of a run that is resumed, which holds `state`, unless an earlier version wrote it; None where one begins.

    Attributes:
        best, last: looks; None before the first.
        weights: `method` and `average` as they were at the best look; none where the last epoch is kept.

    Raises:
        UserError: a run that has nothing to go by.
    """

    def __init__(
        self, made: Setup, recipe: Recipe, run: Run, monitor: Monitor, checkpoint: Mapping[str, Any] | None
    ) -> None:
        self.made, self.recipe, self.run, self.monitor = made, recipe, run, monitor
        asked = f"--patience {recipe.patience}" if recipe.patience else "--keep best" if recipe.keep == "best" else ""
        if asked and not recipe.monitor_every:
            raise UserError(f"{asked} with --monitor-every 0: no epoch is looked at; leave one of both out")
        if asked and made.method.needs_labels:
            raise UserError(
                f"{asked}: method {recipe.method.name!r} learns from labels, so that its own training samples cannot tell "
                "which epoch is best: leave it out"
            )
        began: dict[str, Any] = {"best": None, "last": None, "since": 0, "count": 0, "weights": {}}
        held = checkpoint.get("kept", began) if checkpoint else began
        self.keeps_best = keeps_best(recipe, made.source) and not (checkpoint and held is began)
        self.best, self.last = (Look(**held[name]) if held[name] else None for name in ("best", "last"))
        self.since, self.count, self.weights = held["since"], held["count"], held["weights"]
        for line in run.history if checkpoint and held is began else ():
            if "h_rank" in line and line["step"] <= (checkpoint or {})["step"]:
                self._compare(line, line["step"], line["epoch"])

    def epoch(self, at: Progress) -> bool:
        """Looks at the encoder where it is time to, after an epoch; tells whether the run ends here, early."""
        epoch, every = at.epoch + 1, self.recipe.keep_every
        with self.made.speed.eager():
            if self.monitor.looks(epoch):
                self._compare(self.monitor.epoch(self.made.judged, at), at.step + 1, epoch)
            if every and epoch % every == 0 and rank() == 0:
                kept = self.record(at.step + 1, of_last=True)
                self.run.write_encoder(self.finished(self.made.judged), kept, f"{EPOCHS}/{epoch}.safetensors")
        return self.over(at.step + 1)

    def over(self, done: int) -> bool:
        """Tells whether patience is over by a look after so many steps; alike in all processes."""
        patience, last = self.recipe.patience, self.last
        return bool(patience) and any_process(last is not None and last.step == done and last.epoch - self.since >= patience)

    def encoder(self) -> Encoder:
        """Returns the encoder that is kept so far: as it was at the best look, or as it is."""
        if not self.weights:
            return self.made.judged
        kept = copy.deepcopy(self.made.judged)
        prefix = "module.encoder." if self.weights["average"] else "encoder."
        held = self.weights["average"] or self.weights["method"]
        kept.load_state_dict({k.removeprefix(prefix): v for k, v in held.items() if k.startswith(prefix)})
        return kept

    def finished(self, encoder: Encoder) -> Encoder:
        """Returns an encoder as users get it."""
        made, recipe = self.made, self.recipe
        return finished_encoder(encoder, made.source, made.chosen, made.fabric, tta=recipe.tta, whiten=recipe.whiten)

    def end(self, done: int) -> tuple[Encoder, Kept]:
        """Returns the encoder that the run gives, and of which epoch it is; writes that of the end beside where it is
        another."""
        if self.best is not None and self.best.step == done:
            self.weights = {}
        if rank() == 0 and self.weights:
            self.run.write_encoder(self.finished(self.made.judged), self.record(done, of_last=True), LAST)
        elif rank() == 0:
            (self.run.path / LAST).unlink(missing_ok=True)
        return self.finished(self.encoder()), self.record(done, finished=True)

    def record(self, done: int, *, of_last: bool = False, finished: bool = False) -> Kept:
        """Says of which epoch the encoder is after so many steps: the one that is kept, or the last; and if the run is
        finished, whether early."""
        clock = self.made.clock
        trained = done / clock.per_epoch
        epoch = self.best.epoch if self.best and self.weights and not of_last else trained
        early = finished and done < clock.total
        patience = self.recipe.patience if early else 0
        unasked = not self.keeps_best and not self.recipe.patience and self.best is not None and self.best.by != "knn"
        compared = (self.best, self.last) if self.count > 1 and not unasked else (None, None)
        return Kept(epoch, trained, clock.epochs, *compared, patience)

    def state(self) -> dict[str, Any]:
        """Returns what a resumed run needs."""
        looks = {name: look and asdict(look) for name, look in (("best", self.best), ("last", self.last))}
        return {**looks, "since": self.since, "count": self.count, "weights": self.weights}

    def _compare(self, found: Mapping[str, float], step: int, epoch: int) -> None:
        """Takes a look into account; there is none in other processes than the first."""
        if not found or self.made.method.needs_labels:
            return
        by = "knn" if "knn" in found else "h_rank"
        look = Look(step, epoch, by, found[by])
        self.last, self.count = look, self.count + 1
        if self.best is None or look.value > self.best.value:
            self.since = look.epoch
        if self.best is None or look.value >= self.best.value:
            self.best = look
            if self.keeps_best:
                self.weights = {"method": _held(self.made.method), "average": _held(self.made.ema) if self.made.ema else {}}


def _held(module: nn.Module) -> dict[str, Any]:
    """A copy of a module's state on the processor."""
    return {name: value.to("cpu", copy=True) for name, value in module.state_dict().items()}


def keeps_best(recipe: Recipe, source: Source) -> bool:
    """Tells whether a run gives the encoder of its best epoch: where that is asked for, and unasked where the monitor has
    enough labelled samples to tell, and the method learns from none.

    Args:
        recipe: of the run.
        source: training samples.
    """
    if recipe.keep is not None:
        return recipe.keep == "best"
    learns = getattr(registry.get("methods", recipe.method.name).make, "needs_labels", False)
    return bool(recipe.monitor_every) and not (learns or recipe.more_labels) and looked_at(recipe, source)[1] >= ENOUGH
