"""The verb `compare`: several methods with one encoder, one budget and one protocol, in one table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from unlabeled import plots, registry
from unlabeled.comparing.arrays import hand_over, name_for_rows
from unlabeled.comparing.board import Board, Row, budget_of
from unlabeled.comparing.judge import DRAWS, Judge, identity, open_labelled
from unlabeled.comparing.remarks import UNTRAINED, hardware, off_budget, remarks, short
from unlabeled.comparing.table import Tabled, figure, for_terminal, grid, markdown, number, write
from unlabeled.data import Data
from unlabeled.encoders.own import AS_GIVEN
from unlabeled.errors import UserError
from unlabeled.recipe import Recipe, compose, is_recipe, locate, read
from unlabeled.registry import Choice
from unlabeled.run import RECIPE, Run, environment
from unlabeled.training.defaults import composed
from unlabeled.training.given import name_method
from unlabeled.training.setup import chosen_images, resolved
from unlabeled.words import counted

SHARED = ("label", "group", "columns", "encoder", "kind", "tta", "whiten", "batch_size", "hold_out_classes", "precision")
"""What all rows have in common, beside data, seed and budget."""

LABELS = "supervised"
"""With UNTRAINED the baselines that every table has: two methods, this one with few labels and with all."""

COLUMNS = [
    number("row", "name", "{}"),
    figure("kNN 1%", "knn_few"),
    figure("fine-tuned 1%", "finetuned_few"),
    figure("kNN 100%", "knn"),
    figure("linear top-1", "linear"),
    figure("linear top-5", "linear_top5"),
    number("minutes", "minutes"),
    number("epochs", "epochs", "{:,}"),
    number("s/epoch", "seconds_per_epoch", best=min),
    number("samples/s", "images_per_s", "{:,.0f}", max),
    number("peak memory, MiB", "peak_memory_mib", "{:,.0f}", min, lambda row: bool(row.get("images_per_s"))),
]
TERMINAL = 7
"""Columns that a terminal shows: it has 80 characters."""


def compare(
    data: Any,
    *,
    method: Any,
    layer: Mapping[str, Any],
    minutes: float | None,
    out: Path,
    recipe_file: str | Path | None,
    root: str | Path | None,
    accelerator: str,
) -> Tabled:
    """Does what `unlabeled.api.compare` says; `layer` is what the user gave of the recipe."""
    alone = isinstance(method, str | Path | type) or (isinstance(method, tuple) and isinstance(method[-1], Mapping))
    methods = [_spelled(one) for one in ([method] if alone else method)]
    if layer.get("start") == AS_GIVEN:
        raise UserError(
            f"encoder {layer['encoder']!r} is a module with weights, and all rows begin with noise: give its class, or "
            "pretrain with it and give the run's folder as a method"
        )
    limited = budget_of(minutes, layer)
    base = [*([_base(read(recipe_file), f"recipe {str(recipe_file)!r}")] if recipe_file else []), _base(layer, "an option")]
    stated = [recipe for text in methods if (recipe := _stated(str(text)))]
    layers = [*[_shared(recipe) for recipe in stated[:1]], *base]
    common = compose(*layers)
    name = name_for_rows(data, out)
    opened, judged = open_labelled(common.data if data is None else data, common, root)
    name = opened.train.name if data is None else name
    common = resolved(composed(opened.train, *layers, {"data": name}), opened.train)
    rows = _rows([str(text) for text in methods], base, common, opened, minutes)
    budget = limited or {"epochs": common.epochs}
    judge = Judge(judged, few=True, seed=common.seed, accelerator=accelerator)
    question = {
        "verb": "compare", "data": identity(opened), "protocol": judge.protocol, "budget": budget, "seed": common.seed,
        "views": opened.train.kind.views(), **{name: v for name, v in common.to_dict().items() if name in SHARED},
    }  # fmt: skip
    order = [row.name for row in rows]
    board = Board(
        out, question, judge, lambda found: _publish(out, question, found, order), minutes=minutes, root=root,
        accelerator=accelerator,
    )  # fmt: skip
    board.claim(rows, opened.train)
    hand_over(data, out)
    finished = board.fill(rows)
    found = _sorted(board.finished(), order)
    short = COLUMNS[:TERMINAL]
    cells = grid(short, found, _competes)
    failed = {row["name"]: row["failed"] for row in found if "failed" in row}
    shown: list[RenderableType] = [_setting(question, found), for_terminal(short, cells), *remarks(found)] if found else []
    return Tabled(out / "table.md", found, finished, failed, shown)


def _spelled(given: Any) -> str:
    """A row as it is typed: a method, by its name or its class, or such a one with options."""
    thing, options = given if isinstance(given, tuple) else (given, {})
    name = str(thing) if isinstance(thing, Path) else name_method(thing)
    return name + ":" * bool(options) + ",".join(f"{option}={value}" for option, value in options.items())


def _base(layer: Mapping[str, Any], what: str) -> dict[str, Any]:
    """A layer that holds for rows of all methods.

    Raises:
        UserError: it names a method or its views, which are each row's own.
    """
    for key in layer:
        field = str(key).partition(".")[0]
        if field in ("method", "views", "labels"):
            raise UserError(
                f"{what} gives {key} for all rows, and each has its own: write --method NAME:OPTION=VALUE, or a recipe "
                "file for the row, and give that as --method"
            )
    return dict(layer)


def _stated(text: str) -> Recipe | None:
    """The recipe that a recipe file or a run gives on its own; None for a method's name."""
    if _is_run(text):
        run = Run.open(text)
        if not run.finished:
            raise UserError(f"the run {text!r} is not finished: finish it with `unlabeled pretrain ... --resume`")
        run.needs("method")
        return run.recipe
    return compose(read(text)) if is_recipe(text) else None


def _shared(recipe: Recipe) -> dict[str, Any]:
    plain = recipe.to_dict()
    return {name: plain[name] for name in (*SHARED, "seed", "epochs", "data")} | {"encoder": _encoder(recipe)}


def _rows(
    methods: Sequence[str], base: list[dict[str, Any]], common: Recipe, data: Data, minutes: float | None
) -> list[Row]:
    plain = common.to_dict()
    fixed = {name: plain[name] for name in (*SHARED, "seed", "data", "epochs")}
    make = partial(composed, data.train, *base, fixed)
    untrained = Row(UNTRAINED, make({"method": UNTRAINED}), {"kind": "baseline"})
    named = [text for text in methods if text not in (UNTRAINED, LABELS)]
    rows = [_row(text, base, fixed, common, data, minutes) for text in named]
    few = make({"method": LABELS, "labels": "1%"})
    images = len(chosen_images(few, data.train)[0])
    more: dict[str, Any] = {"kind": "labels"}
    if images < few.batch_size:
        few = compose(few.to_dict(), {"batch_size": images})
        more["note"] = f"{LABELS} 1%: batches of {counted(images, data.train.kind.nouns)}, which are all that are labelled"
    everything = make({"method": LABELS})
    return [
        untrained, *rows,
        Row(f"{LABELS} 1%", few, more), Row(f"{LABELS} 100%", everything, {"kind": "labels"}),
    ]  # fmt: skip


def _row(
    text: str, base: list[dict[str, Any]], fixed: Mapping[str, Any], common: Recipe, data: Data, minutes: float | None
) -> Row:
    encoder, make = {"encoder": fixed["encoder"]}, partial(composed, data.train)
    if _is_run(text):
        run = Run.open(text)
        row = Row(Path(text).resolve().name, run.recipe, run=Path(text))
        if data.same_as(run.environment["data"]) is False:
            others = f"other {data.train.kind.nouns} than {data.train.name!r}"
            raise UserError(f"the run {text!r} was trained on {others}: leave it out")
        _same(text, run.recipe, common, (*SHARED, *(["seed"] * data.held_out), *([] if minutes else ["epochs"])))
    elif is_recipe(text):
        recipe = make(*base, encoder, read(text), base[-1], {"data": fixed["data"]})
        said = {option: value for option, value in recipe.kind.options.items() if value is not None}
        recipe = compose(recipe.to_dict(), {"kind": {**fixed["kind"], **said}})  # what it leaves open is as the data say
        _same(text, recipe, common, (*SHARED, "seed"))
        row = Row(locate(text).stem, compose(recipe.to_dict(), {"epochs": fixed["epochs"]}))
    else:
        name, _, rest = text.partition(":")
        registry.get("methods", name)
        row = Row(text, make(*base, {"method": {"name": name, **_options(text, rest)}}, fixed))
    labels = getattr(registry.get("methods", row.recipe.method.name).make, "needs_labels", False)
    return Row(row.name, row.recipe, {"kind": "labels" if labels else "method"}, row.run)


def _options(text: str, rest: str) -> dict[str, str]:
    options = {}
    for part in rest.split(",") if rest else ():
        option, _, value = part.partition("=")
        if not value:
            raise UserError(f"method {text!r}: write its options as NAME:OPTION=VALUE, with commas between several")
        options[option.strip().replace("-", "_")] = value.strip()
    return options


def _same(text: str, recipe: Recipe, common: Recipe, fields: Sequence[str]) -> None:
    """Refuses a row that would not be compared with its like."""
    ours, theirs = common.to_dict(), recipe.to_dict() | {"encoder": _encoder(recipe)}
    for name in fields:
        if ours[name] != theirs[name] and not (name == "kind" and _alike(recipe.kind, common.kind)):
            option = "--" + name.replace("_", "-")
            raise UserError(
                f"{text!r} has {name} = {theirs[name]}, and the others have {ours[name]}: all rows must share it; give "
                f"{option} or a --recipe that says the same, or leave this row out"
            )


def _alike(a: Choice, b: Choice) -> bool:
    """Whether samples are the same to both: what is left open, or said to be what it is anyway, makes no difference."""
    usual = (None, "type", a.options.get("size"), b.options.get("size"))
    one, two = ({k: v for k, v in kind.options.items() if v not in usual} for kind in (a, b))
    return (a.name, a.options.get("size"), one) == (b.name, b.options.get("size"), two)


def _encoder(recipe: Recipe) -> dict[str, Any]:
    """The encoder less the options that the method prescribes."""
    own = registry.get("methods", recipe.method.name).recipe
    return {k: v for k, v in recipe.to_dict()["encoder"].items() if f"encoder.{k}" not in own}


def _is_run(text: str) -> bool:
    return (Path(text) / RECIPE).is_file()


def _publish(out: Path, question: Mapping[str, Any], rows: list[dict[str, Any]], order: Sequence[str]) -> None:
    """Writes the table of all rows, as Markdown, JSON and a figure."""
    rows = _sorted(rows, order)
    if not rows:
        return
    text = f"# {_title(question)}\n\n" + markdown(COLUMNS, grid(COLUMNS, rows, _competes))
    said = [_setting(question, rows), *remarks(rows), *off_budget(question, rows), _how()]
    text += "\n" + "".join(f"- {line}\n" for line in said)
    write(out / "table.md", text)
    about = {"question": dict(question), "environment": environment(), "rows": rows}
    write(out / "table.json", json.dumps(about, indent=1) + "\n")
    lines = {row["name"]: [(minutes, 100 * knn) for minutes, _, knn in row["curve"]] for row in rows if row.get("curve")}
    trained = {name: points for name, points in lines.items() if points[-1][0] > 0}
    if trained:
        what = "kNN accuracy within the training split, %"
        plots.draw(out / "curves.svg", trained, x="minutes of training", y=what, title=_title(question))


def _sorted(rows: Sequence[dict[str, Any]], order: Sequence[str]) -> list[dict[str, Any]]:
    """The untrained encoder first, then the methods as given, then those of other calls, those told labels last."""
    kinds = ["baseline", "method", "labels"]
    known = {name: i for i, name in enumerate(order)}
    return sorted(rows, key=lambda row: (kinds.index(row["kind"]), known.get(row["name"], len(known)), row["name"]))


def _competes(row: Mapping[str, Any]) -> bool:
    return bool(row["kind"] != "labels" and "failed" not in row)


def _title(question: Mapping[str, Any]) -> str:
    return f"{short(question['data']['name'])}: methods compared"


def _setting(question: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
    encoder = ", ".join(f"{v}" if k == "name" else f"{k} {v}" for k, v in question["encoder"].items())
    ((unit, amount),) = question["budget"].items()
    return (
        f"{question['data']['name']}; {encoder}; views of {question['views']}; batches of {question['batch_size']}; "
        f"{counted(amount, unit)} of training each; {hardware(rows)}; seed {question['seed']}"
    )


def _how() -> str:
    return (
        "Top-1 accuracy on the test split, but for top-5. 1% of the labels are drawn evenly over the classes: "
        f"kNN as mean ± standard deviation of {DRAWS} draws, fine-tuning of one. Bold: the best without labels. Minutes, "
        "s/epoch and samples/s are of training alone."
    )
