"""What to try next, as a command that can be typed, by what the run did."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unlabeled.data.kinds.kind import build
from unlabeled.methods.base import SHORT_RUNS
from unlabeled.recipe import Recipe
from unlabeled.run import Run
from unlabeled.training.remedy import Change, command

LARGE = 1024
"""Samples a batch below which larger steps of LARS are advised than papers take: with 128 and 256 they learned more
(`results/defaults`); where that ends was not measured, and 1,024 is ours."""
COLD = 0.15
"""Temperature up to which few negatives are few (Chen et al. 2020, appendix B.9: 0.5 is best on CIFAR-10)."""
RISE = 0.01
"""Of kNN accuracy, over the second half of the looks: more is still learning."""


def advice(run: Run, called: str) -> str:
    """Returns one sentence: what to try where a run did not help, and the command.

    Views, optimiser and length that this run had are changed where milder, plainer or longer is known to help; if nothing is
    left of these, another method is advised. A run that went wrong has its own remedy (`Run.alarm`), and none of these;
    one that was stopped has its steps before it.

    Args:
        run: that was judged.
        called: its folder as the user calls it.
    """
    if run.alarm:
        return ""
    recipe, folder = run.recipe, called.rstrip("/")
    found = [*_changes(recipe, run.history, not run.unfinished)]
    if found:
        given = {key: value for _, options in found for key, value in options.items()}
        return f"To try: {', '.join(why for why, _ in found)}: {command(recipe, folder, given)}"
    method = build(recipe.kind).method
    if recipe.method.name == method or not recipe.data:
        return "To try: another method; `unlabeled methods` lists them."
    words = ["unlabeled", "pretrain", recipe.data, "--method", method, "--epochs", str(recipe.epochs)]
    words += ["--out", f"{folder}-2"]
    return f"To try: another method than {recipe.method.name}: {shlex.join(words)}"


def _changes(recipe: Recipe, history: Sequence[Mapping[str, Any]], finished: bool) -> Iterator[Change]:
    milder = build(recipe.kind).milder(recipe.views)
    if milder:
        yield milder[0], {f"views.{name}": value for name, value in milder[1].items()}
    trust, larger = recipe.optimizer.options.get("trust"), SHORT_RUNS["optimizer"]
    if trust and trust < larger["trust"] and recipe.batch_size < LARGE:
        change = {f"optimizer.{name}": f"{larger[name]:g}" for name in ("lr", "trust")}
        yield f"larger steps, as a trust of {trust:g} is made for larger batches than {recipe.batch_size}", change
    temperature = recipe.method.options.get("temperature")
    if not milder and isinstance(temperature, float) and temperature <= COLD:
        yield f"a temperature above {temperature:g}", {"method.temperature": f"{2 * temperature:g}"}
    if finished and rising(history):
        yield "more steps, as the accuracy was still rising", {"epochs": str(2 * recipe.epochs)}


def rising(history: Sequence[Mapping[str, Any]]) -> bool:
    """Tells whether kNN accuracy was highest at the end, and rose over the second half of the looks; three are needed."""
    looks = [float(line["knn"]) for line in history if "knn" in line]
    return len(looks) > 2 and looks[-1] == max(looks) and looks[-1] > looks[len(looks) // 2] + RISE
