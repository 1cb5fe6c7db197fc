"""The verb `pretrain`: from what the user said to a trained run in a folder."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from unlabeled.compute.speed import Speed
from unlabeled.console import console
from unlabeled.data import Data, Source, open_data, told
from unlabeled.data.opening import is_relative
from unlabeled.data.split import BY_CONTENT
from unlabeled.distributed import launched, rank
from unlabeled.errors import UserError
from unlabeled.files import alone, clear_leftovers
from unlabeled.probes.tasks import judged, spelled
from unlabeled.recipe import Recipe, compose, difference, read
from unlabeled.registry import nearest
from unlabeled.run import CHECKPOINT, FILES, RECIPE, Run, environment
from unlabeled.training.defaults import composed, rests_on
from unlabeled.training.setup import built, capped, chosen_images, resolved
from unlabeled.training.speed_trial import Trial, settled
from unlabeled.training.train import train
from unlabeled.words import counted


@contextmanager
def reserved(out: Path, devices: int | None) -> Iterator[int]:
    """Holds the folder of a run for one training, and tells how many processes take part: as asked for, or as many as the
    launcher made.

    Raises:
        UserError: the folder is another training's, or a file; or the launcher made another number.
    """
    number, processes = launched()
    if devices not in (None, processes) and processes > 1:
        raise UserError(f"--devices {devices}, and the launcher made {counted(processes, 'processes')}: leave --devices out")
    if out.exists() and not out.is_dir():
        raise UserError(f"{str(out)!r} is a file: give a folder as --out")
    with alone(out) if number == 0 else nullcontext():
        if number == 0:
            clear_leftovers(out, FILES)
        yield processes if devices is None else devices


def pretrain(
    data: Any,
    layer: Mapping[str, Any],
    out: Path,
    recipe_file: str | Path | None,
    resume: bool,
    root: str | Path | None,
    accelerator: str,
    devices: int,
    logger: Sequence[str],
) -> Run:
    """Does what `unlabeled.api.pretrain` says; `layer` is what the user gave of the recipe."""
    named = {"data": data if isinstance(data, str | Path) else ""}
    layers = [*([read(recipe_file)] if recipe_file else []), layer, *([named] if data is not None else [])]
    run = Run(out)
    existing = _existing(out, resume)
    writers = _loggers(logger, out)
    recipe = _continued(run, layers) if existing else compose(*layers)
    if existing and run.finished and recipe.epochs == run.recipe.epochs and not _goes_on(run, recipe):
        early = f" ({run.kept.early}; with another, 0 for none, it goes on)" if run.kept and run.kept.early else ""
        console().print(f"{str(out)!r} is finished{early}: nothing is left to do", soft_wrap=True)
        return run
    named_data = recipe.data if data is None else data
    split = run.split if existing else BY_CONTENT
    opened = open_data(named_data, kind=recipe.kind, root=root, seed=recipe.seed, roles=recipe.roles, split=split)
    for remark in opened.remarks(recipe.more_labels):
        console(quiet=rank() > 0).print(remark, soft_wrap=True)
    if not existing:
        paper, recipe = compose(*layers, encoder=opened.train.kind.encoder_name), composed(opened.train, *layers)
        _tell_usual(difference(recipe, paper))
    recipe = resolved(recipe, opened.train, begun=existing)
    if not existing and (said := rests_on(recipe.views, opened.train, recipe.invariances)):
        console(quiet=rank() > 0).print(said, soft_wrap=True)
    folder = {"folder": str(Path.cwd())} if is_relative(recipe.data) else {}
    about = {**environment(), **folder, "data": _identity(opened)}
    if existing:
        _check_same(run, opened, about["data"]["labels"])
        if recipe.patience != run.recipe.patience and rank() == 0:
            run.write_text(RECIPE, recipe.to_yaml())
    if not existing:
        recipe, asked = capped(recipe, opened.train)
        about |= _tell_capped(recipe, asked, opened.train)
        recipe, trial = settled(recipe, opened.train, accelerator, devices)
        about |= {"speed": asdict(trial)} if trial else {}
        _tell_speed(recipe, trial)
    try:
        finished = train(recipe, opened, run, about, accelerator=accelerator, devices=devices, loggers=writers)
    finally:
        if rank() == 0:
            _tell_skipped(run, opened)
    if not finished:
        raise KeyboardInterrupt  # a script that goes on would take what half of a run learned for the whole
    if rank() == 0:
        _tell_columns(Run(out), recipe, opened)
    return Run(out)


def _tell_columns(run: Run, recipe: Recipe, data: Data) -> None:
    """Says what each column's classifier names rightly in the test split, beside a network that learned it alone."""
    if not recipe.more_labels or data.test is None:
        return
    method = built(recipe, data.train, len(chosen_images(recipe, data.train)[0]))
    method.load_state_dict((run.read_checkpoint() or {})["method"])
    for line in spelled(judged(method, data.train, data.test), data.train.kind.nouns):
        console().print(line, soft_wrap=True)


def _check_same(run: Run, data: Data, labels: str) -> None:
    """Refuses to go on with other data than the run began with; says so where that cannot be told."""
    recorded, out, name = run.environment["data"], str(run.path), data.train.name
    same = data.same_as(recorded)
    if same is False:
        raise UserError(
            f"the data {name!r} has changed since {out!r} began, or is other data of that name: give what it began "
            "with, or start a new run with another --out"
        )
    if recorded.get("labels", labels) != labels:
        raise UserError(f"the labels of {name!r} have changed since {out!r} began: start a new run with another --out")
    if same is None:
        so_far = f"{out!r} was begun by an earlier version, which knew files by their times: that {name!r} is what it was"
        console(quiet=rank() > 0).print(f"{so_far} is known by number and labels only", soft_wrap=True)


def _existing(out: Path, resume: bool) -> bool:
    """Whether `out` holds a run to go on with.

    Raises:
        UserError: it holds one, and `resume` was not asked for; or it holds something else.
    """
    if (out / CHECKPOINT).is_file():
        Run.open(out)
        if not resume:
            raise UserError(f"{str(out)!r} already holds a run: add --resume to go on with it, or give another --out")
        return True
    if resume:
        console(quiet=rank() > 0).print(f"nothing to resume in {str(out)!r}: starting", soft_wrap=True)
    if out.is_dir() and any(out.iterdir()) and not (out / RECIPE).is_file():
        raise UserError(f"{str(out)!r} is a folder that holds other things: give a new folder as --out")
    return False


def _continued(run: Run, layers: Sequence[Mapping[str, Any]]) -> Recipe:
    """The recipe of a run to be resumed, once what was said again agrees with it; with the epochs that are asked for now."""
    run.needs("method", "views", "optimizer")
    before = run.recipe.to_dict()
    now = compose(before, *layers).to_dict()
    for option, asked in run.environment.get("capped", {}).items():
        if now["method"].get(option) == asked:  # the same command again
            now["method"][option] = before["method"][option]
    if str(now["kind"].get("range")).endswith("%"):  # of the values, which were measured then
        now["kind"]["range"] = before["kind"].get("range")
    chosen = {"speed"} if now["speed"] == "auto" else set()
    open_ = {name: before["encoder"].get(name) for name, value in now["encoder"].items() if value == "auto"}
    now["encoder"] |= {name: value for name, value in open_.items() if value is not None}
    newer = {"paper"} - read(run.path / RECIPE).keys()  # of a run from before the word, all of whose settings were a paper's
    for name in now.keys() - {"about", "monitor_every", "data", "patience", "epochs"} - chosen - newer:
        if now[name] != before[name]:
            raise UserError(
                f"{str(run.path)!r} began with {name} = {before[name]}, and cannot go on with {now[name]}: "
                "leave it out, or start a new run with another --out"
            )
    return replace(run.recipe, patience=now["patience"], epochs=now["epochs"])


def _goes_on(run: Run, recipe: Recipe) -> bool:
    """Whether a run that patience ended early has more of it now."""
    kept = run.kept
    return kept is not None and kept.patience > 0 and not 0 < recipe.patience <= kept.patience


def _tell_usual(options: Mapping[str, str]) -> None:
    """Says what is not as in the method's paper though nobody asked for it."""
    if options:
        words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in options.items())
        said = f"defaults for such data and batches, in place of the paper's (--paper keeps those): {words}"
        console(quiet=rank() > 0).print(said, soft_wrap=True)


def _tell_capped(recipe: Recipe, asked: Mapping[str, int], source: Source) -> dict[str, Any]:
    """Says what was brought down to the number of training samples; returns what the run keeps of it."""
    for option, value in asked.items():
        said = (
            f"--method.{option.replace('_', '-')} is {recipe.method.options[option]:,} in place of {value:,}: there are no "
            f"more {source.kind.nouns} to train on, and none is to be a negative of itself or to count twice"
        )
        console(quiet=rank() > 0).print(said, soft_wrap=True)
    return {"capped": dict(asked)} if asked else {}


def _tell_speed(recipe: Recipe, trial: Trial | None) -> None:
    if trial:
        gain = trial.gain(Speed.parse(recipe.speed))
        said = f"speed: {recipe.speed}, {gain:.1f} times the slowest way by timed steps; `unlabeled tune` shows them"
        for line in [*trial.warnings(), said]:
            console(quiet=rank() > 0).print(line, soft_wrap=True)


def _identity(data: Data) -> dict[str, Any]:
    def split(source: Source | None) -> int:
        return 0 if source is None else len(source)

    source = data.train
    return {
        "name": source.name,
        "fingerprint": source.fingerprint,
        "whole": source.whole,
        "labels": told(*(split for split in (source, data.test) if split is not None)),
        "train": len(source),
        "test": split(data.test),
        "held_out": data.held_out,
        "split": data.split,
        "channels": source.channels,
        "native": list(source.native),
        "classes": list(source.classes),
        "invariances": sorted(source.invariances),
    }


def _tell_skipped(run: Run, data: Data) -> None:
    """Lists bad samples, and damaged ones that were used, in skipped.csv, and says how many there were."""
    splits = {"train": data.train, **({"test": data.test} if data.test else {})}
    bad = [(name, one) for name, source in splits.items() for one in source.skipped]
    damaged = [(name, one) for name, source in splits.items() for one in source.damaged]
    if not (bad or damaged) or not (run.path / RECIPE).is_file():  # a mistake came before it began: nothing is left behind
        return
    text = io.StringIO()
    rows = [(name, one.path, one.reason) for name, one in [*bad, *damaged]]
    csv.writer(text).writerows([("split", "path", "reason"), *rows])
    path = run.write_text("skipped.csv", text.getvalue())
    for how, found in ((("skipped", "bad"), bad), (("used", "damaged"), damaged)):
        if found:
            said = f"{how[0]} {counted(len(found), f'{how[1]} {data.train.kind.nouns}')}: see {path}"
            console().print(said, soft_wrap=True)


def _loggers(names: Sequence[str], out: Path) -> list[Any]:
    """TensorBoard's, and those asked for, of Fabric and Lightning."""
    from lightning_fabric.loggers.csv_logs import CSVLogger
    from lightning_fabric.loggers.tensorboard import TensorBoardLogger

    made: list[Any] = [TensorBoardLogger(out, name="", version="", sub_dir="tensorboard")]
    lightning = {"wandb": "WandbLogger", "mlflow": "MLFlowLogger"}
    for name in names:
        if name == "csv":
            made.append(CSVLogger(out, name="", version=""))
        elif name in lightning:
            try:
                tracker = importlib.import_module(name)
                module = importlib.import_module("pytorch_lightning.loggers")
            except ImportError as error:
                raise UserError(
                    f"logger {name!r} needs a package that is missing: pip install {name} pytorch-lightning"
                ) from error
            place = {"save_dir": str(out), "project": "unlabeled", "name": out.name}
            if name == "mlflow":
                where = tracker.get_tracking_uri()  # Lightning's own default, a folder, is one that MLflow 3 refuses
                place = {"experiment_name": "unlabeled", "run_name": out.name, "tracking_uri": where}
            try:
                made.append(getattr(module, lightning[name])(**place))
            except Exception as error:
                reason = str(error).splitlines()[0]
                raise UserError(f"logger {name!r} cannot be started ({reason}): leave it out, or see its manual") from error
        elif name != "tensorboard":
            known = ["tensorboard", "csv", *lightning]
            raise UserError(f"unknown logger {name!r}{nearest(name, known)}; known: {', '.join(known)}")
    return made
