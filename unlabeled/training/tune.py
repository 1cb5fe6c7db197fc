"""The verb `tune`: what each way to compute takes on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from unlabeled.compute.speed import Speed
from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.recipe import compose, read
from unlabeled.training.defaults import composed
from unlabeled.training.setup import planned_steps, resolved
from unlabeled.training.speed_trial import Trial, tuned
from unlabeled.words import counted


@dataclass(frozen=True)
class Tuned:
    """What was found.

    Attributes:
        trial: the timings.
        batch_size: samples of a step.
        planned: steps of the run that the choice is for.
        nouns: what several samples are called.
    """

    trial: Trial
    batch_size: int
    planned: int
    nouns: str = "samples"

    @property
    def speed(self) -> Speed:
        """The choice."""
        return self.trial.choose(self.planned)

    def lines(self) -> Iterator[RenderableType]:
        """Returns a table, the slowest way first, and the choice."""
        table = Table(
            "way", title=f"views, encoder and optimiser on {counted(self.batch_size, self.nouns)}", title_justify="left"
        )
        for heading in ("ms a step", f"{self.nouns}/s", "gain"):
            table.add_column(heading, justify="right")
        ways = self.trial.steps
        slowest = max(ways.values())
        for words in sorted(ways, key=lambda words: -ways[words]):
            seconds = ways[words]
            said = words.replace(" workers=1", "").replace("workers=1", "plain float32")
            table.add_row(said, f"{1000 * seconds:.1f}", f"{self.batch_size / seconds:,.0f}", f"{slowest / seconds:.2f}")
        yield table
        yield f"fetching a batch takes {1000 * self.trial.fetch:.1f} ms"
        yield from self.trial.warnings()
        if self.trial.compile is not None:
            yield f"compiling takes {self.trial.compile:.0f} s, once a run"
        if self.trial.refused:
            yield f"compiling cannot be had here: {self.trial.refused}"
        yield f"chosen for {counted(self.planned, 'steps')}: --speed '{self.speed}'"

    def json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        return {**asdict(self.trial), "planned": self.planned, "speed": str(self.speed)}


def tune(
    data: Any, layer: Mapping[str, Any], recipe_file: str | Path | None, root: str | Path | None, accelerator: str
) -> Tuned:
    """Does what `unlabeled.api.tune.tune` says."""
    named = [{"data": data if isinstance(data, str | Path) else ""}] if data is not None else []
    layers = [*([read(recipe_file)] if recipe_file else []), layer, *named]
    recipe = compose(*layers)
    if data is None and not recipe.data:
        raise UserError("no data: give a folder, a file or the name of a known set")
    named_data = recipe.data if data is None else data
    opened = open_data(named_data, kind=recipe.kind, root=root, seed=recipe.seed, roles=recipe.roles)
    opened.tell()
    recipe = resolved(composed(opened.train, *layers), opened.train)
    planned = planned_steps(recipe, opened.train)
    trial = tuned(recipe, opened.train, accelerator, planned, compiling=True)
    assert trial is not None
    return Tuned(trial, recipe.batch_size, planned, opened.train.kind.nouns)
