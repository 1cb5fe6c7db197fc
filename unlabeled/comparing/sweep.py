"""The verb `sweep`: one recipe with every combination of some options, in one table and one figure."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from unlabeled import plots
from unlabeled.comparing import matrix, parabola
from unlabeled.comparing.arrays import hand_over, name_for_rows
from unlabeled.comparing.board import Board, Row, budget_of
from unlabeled.comparing.judge import Judge, identity, mean, open_labelled
from unlabeled.comparing.remarks import constant, hardware, notes, rivals_of_the_best, short, wrong
from unlabeled.comparing.table import Column, Tabled, figure, for_terminal, grid, markdown, number, write
from unlabeled.errors import UserError
from unlabeled.recipe import compose, is_recipe, read
from unlabeled.run import environment
from unlabeled.training.defaults import composed
from unlabeled.training.setup import resolved

FIGURES = [
    figure("kNN 100%", "knn", interval=True),
    figure("linear top-1", "linear", interval=True),
    number("minutes", "minutes"),
    number("s/epoch", "seconds_per_epoch"),
]

TELLING = 0.02
"""Share of an axis by which two points must differ to be told apart."""

Axes = Mapping[str, Sequence[str]]


def sweep(
    recipe_file: Any,
    data: Any,
    *,
    axes: str | Sequence[str],
    layer: Mapping[str, Any],
    minutes: float | None,
    out: Path,
    root: str | Path | None,
    accelerator: str,
) -> Tabled:
    """Does what `unlabeled.api.sweep` says; `layer` is what the user gave of the recipe."""
    words = [axes] if isinstance(axes, str) else list(axes)
    values = parse_grid([axis for word in words for axis in matrix.spelled(word)])
    if data is None and recipe_file is not None and not (isinstance(recipe_file, str | Path) and is_recipe(recipe_file)):
        recipe_file, data = None, recipe_file
    policy = [{"views": {"name": matrix.POLICY}}] if matrix.asked(list(values)) else []
    layers = [*([read(recipe_file)] if recipe_file else []), *policy, layer]
    base = compose(*layers)
    named = base.data if data is None else name_for_rows(data, out)
    opened, judged = open_labelled(base.data if data is None else data, base, root)
    if "seed" in values and opened.held_out:
        raise UserError(
            f"--grid seed=...: {opened.train.name!r} has no test split of its own, and the seed draws which images are held "
            "out, so these rows would be judged on images that others trained on: give train=PATH,test=PATH, or leave it out"
        )
    base = resolved(composed(opened.train, *layers, {"data": named}), opened.train)
    layers.append({name: base.to_dict()[name] for name in ("data", "kind")})
    combinations = [dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())]
    make = partial(composed, opened.train, *layers)
    rows = [Row(_name(chosen), make(chosen), {"values": chosen}) for chosen in combinations]
    budget = budget_of(minutes, {*values, *layer})
    judge = Judge(judged, few=False, seed=base.seed, accelerator=accelerator)
    question = {
        "verb": "sweep", "data": identity(opened), "protocol": judge.protocol, "axes": list(values),
        **_shared(base.to_dict(), [*values, *(["epochs"] if budget else [])]), **budget,
    }  # fmt: skip
    board = Board(
        out, question, judge, lambda found: _publish(out, question, found), minutes=minutes, root=root,
        accelerator=accelerator,
    )  # fmt: skip
    board.claim(rows, opened.train)
    hand_over(data, out)
    finished = board.fill(rows)
    found = _sorted(board.finished())
    columns = _columns(question, found)
    failed = {row["name"]: row["failed"] for row in found if "failed" in row}
    shown: list[RenderableType] = [for_terminal(columns, grid(columns, found, _competes)), *_words(found)] if found else []
    if found and matrix.asked(question["axes"]):
        pairs = matrix.Matrix.of(found)
        shown.append(for_terminal(pairs.columns, pairs.cells()))
    return Tabled(out / "table.md", found, finished, failed, shown)


def parse_grid(words: Sequence[str]) -> dict[str, list[str]]:
    """Returns the values of each axis, in their order.

    Raises:
        UserError: an axis that is not written so, twice, or without a value; or data as an axis.

    >>> parse_grid(["method.temperature=0.1,0.5", "views.scale=0.1,1;0.5,1"])
    {'method.temperature': ['0.1', '0.5'], 'views.scale': ['0.1,1', '0.5,1']}
    """
    axes: dict[str, list[str]] = {}
    for word in words:
        name, _, rest = word.partition("=")
        name = name.strip().removeprefix("--").replace("-", "_")
        values = list(dict.fromkeys(v.strip() for v in rest.split(";" if ";" in rest else ",") if v.strip()))
        if not values or not name:
            raise UserError(
                f"--grid {word!r}: write OPTION=VALUE,VALUE, for example method.temperature=0.1,0.5; "
                "with semicolons between values that hold commas"
            )
        if name in axes:
            raise UserError(f"--grid {name} is given twice: write all its values in one")
        if name in ("data", "about", "monitor_every"):
            raise UserError(f"--grid {name}: this is nothing to compare rows by; sweep an option of the method, say")
        axes[name] = values
    if not axes:
        raise UserError("nothing to sweep: give --grid OPTION=VALUE,VALUE")
    return axes


def _shared(plain: Mapping[str, Any], axes: Iterable[str]) -> dict[str, Any]:
    """What of a recipe all rows have in common.

    >>> _shared({"method": {"name": "byol", "momentum": 0.99, "hidden": 4096}, "epochs": 5}, ["method.momentum", "epochs"])
    {'method': {'name': 'byol', 'hidden': 4096}}
    """
    swept = {*axes, "data", "about", "monitor_every"}
    return {
        part: {k: v for k, v in value.items() if f"{part}.{k}" not in swept} if isinstance(value, dict) else value
        for part, value in plain.items()
        if part not in swept
    }


def _name(values: Mapping[str, str]) -> str:
    return " ".join(f"{axis}={value}" for axis, value in values.items())


def _publish(out: Path, question: Mapping[str, Any], rows: list[dict[str, Any]]) -> None:
    """Writes the table of all rows, as Markdown, JSON and a figure."""
    if not rows:
        return
    rows, columns = _sorted(rows), _columns(question, rows)
    text = f"# {_title(question)}\n\n" + markdown(columns, grid(columns, rows, _competes))
    setting = f"{question['data']['name']}; {hardware(rows)}."
    figures = (
        "Top-1 accuracy on the test split, frozen features, all labels, ± half the 95% interval of so many test "
        "samples. Bold: the best."
    )
    text += "\n" + "".join(f"- {line}\n" for line in [setting, figures, *_words(rows)])
    about = {"question": dict(question), "environment": environment(), "rows": rows}
    if matrix.asked(question["axes"]):
        pairs = matrix.Matrix.of(rows)
        text += f"\n{matrix.CAPTION}\n\n" + markdown(pairs.columns, pairs.cells())
        about["matrix"] = pairs.json()
        matrix.draw(out / "sweep.svg", pairs, title=_title(question))
    elif studied := [row for row in rows if "information" in row]:
        text += f"\n{parabola.CAPTION}\n"
        parabola.draw(out / "sweep.svg", question["axes"], studied, title=_title(question))
    else:
        _draw(out / "sweep.svg", question, [row for row in rows if "figures" in row])
    write(out / "table.md", text)
    write(out / "table.json", json.dumps(about, indent=1) + "\n")


def _draw(path: Path, question: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """kNN accuracy over the first axis, one line for each combination of the others."""
    if not rows:
        return
    first, *others = question["axes"]
    lines: dict[str, list[tuple[Any, float]]] = {}
    for row in rows:
        name = ", ".join(f"{axis.rpartition('.')[2]} {row['values'][axis]}" for axis in others)
        lines.setdefault(name, []).append((row["values"][first], 100 * mean(row["figures"]["knn"])))
    numbers = {row["values"][first]: _number(row["values"][first]) for row in rows}
    found = [n for n in numbers.values() if n is not None]
    log = False
    if len(found) == len(numbers):
        lines = {name: sorted((numbers[at], value) for at, value in points) for name, points in lines.items()}
        log = min(found) > 0 and max(found) > 10 * min(found)
        if _squeezed([math.log(n) if log else n for n in found]):  # side by side, by size
            lines, log = {name: [(f"{at:g}", value) for at, value in points] for name, points in lines.items()}, False
    plots.draw(path, lines, x=first, y="kNN accuracy, %", title=_title(question), log=log)


def _squeezed(values: Sequence[float]) -> bool:
    """Whether some would lie upon each other on one axis."""
    places = sorted(set(values))
    gaps = [b - a for a, b in itertools.pairwise(places)]
    return bool(gaps) and min(gaps) < TELLING * (places[-1] - places[0])


def _columns(question: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    def axis(name: str) -> Column:
        return Column(name, lambda row: 0.0, lambda row: str(row["values"][name]))

    shared = [parabola.COLUMN] if any("information" in row for row in rows) else []
    return [*(axis(name) for name in question["axes"]), *shared, *FIGURES]


def _sorted(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """By the values of the axes, numbers by size."""

    def key(value: str) -> tuple[bool, float, str]:
        found = _number(value)
        return found is None, found or 0.0, value

    return sorted(rows, key=lambda row: [key(value) for value in row["values"].values()])


def _competes(row: Mapping[str, Any]) -> bool:
    return "failed" not in row


def _words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    failed = [f"{row['name']} failed: {row['failed']}" for row in rows if "failed" in row]
    return [*rivals_of_the_best(rows), *constant(rows), *failed, *wrong(rows), *notes(rows)]


def _title(question: Mapping[str, Any]) -> str:
    method = question.get("method", {}).get("name", "recipe")
    return f"{short(question['data']['name'])}: {method}, {' × '.join(question['axes'])}"


def _number(text: str) -> float | None:
    with suppress(ValueError):
        return float(text)
    return None
