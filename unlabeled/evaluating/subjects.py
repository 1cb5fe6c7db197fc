"""What a run is compared with: raw features, the same network untrained, other runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from unlabeled import registry
from unlabeled.batch import DataShape, Progress
from unlabeled.compute.speed import usual
from unlabeled.console import console
from unlabeled.data import Source
from unlabeled.data.kinds.kind import Kind, build
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.evaluating.answer import SUBJECTS
from unlabeled.methods.base import Method
from unlabeled.probes.extract import precision_of
from unlabeled.probes.subject import Subject
from unlabeled.run import CLASSIFIER, RECIPE, Run
from unlabeled.training.setup import chosen_images, finished_encoder, initial_encoder, label_columns, make_fabric
from unlabeled.words import counted

FEATURES = "features"
"""Folder of a run that keeps extracted features."""


def subjects(run: Run, rivals: Sequence[str], accelerator: str) -> list[Callable[[Source], Subject]]:
    """Returns makers of the subjects, rivals first and the run last; each takes the training images, by which an untrained
    encoder is initialised.

    Args:
        run: what is judged.
        rivals: the kind's raw features (`pixels`), `random`, or folders of other runs.
        accelerator: auto, cpu, cuda, mps.

    Raises:
        UserError: a rival that is neither, or of another number of channels; hardware that is not there.
    """
    fabric = make_fabric(run.recipe, accelerator, 1)
    shared = Subject("run", None, None, fabric.device, precision_of(fabric), run.path / FEATURES, run.recipe.views)
    judged = run.encoder()
    kind = build(judged.front.kind)
    layout = usual(fabric.device).layout

    def placed(encoder: Encoder) -> Encoder:
        return encoder.to(fabric.device).to(memory_format=layout)

    def fresh(of: Run, source: Source) -> Callable[[int], Encoder]:
        return lambda seed: initial_encoder(replace(of.recipe, seed=seed), source).to(memory_format=layout)

    def trained(name: str, of: Run) -> Callable[[Source], Subject]:
        encoder = of.encoder()
        _check_alike(name, encoder, judged, kind)
        _tell_torn(name, of, run)
        return lambda source: replace(
            shared, name=name, encoder=placed(encoder), method=lambda: whole(of, encoder, source).to(fabric.device),
            saw_labels=of.recipe.labels if learned_from_labels(of) else "", fresh=fresh(of, source),
            classifier=of.classifier if (of.path / CLASSIFIER).is_file() else None, trained=of.learned,
        )  # fmt: skip

    def untrained(source: Source) -> Subject:
        fresh_one, images = placed(initial_encoder(run.recipe, source)), np.arange(len(source))
        encoder = finished_encoder(
            fresh_one, source, images, fabric, tta=judged.front.tta, whiten=judged.whitening is not None
        ).eval()
        return replace(
            shared, name="random", encoder=encoder, fresh=fresh(run, source), trained=False,
            method=lambda: whole(run, encoder, source, trained=False).to(fabric.device),
        )  # fmt: skip

    made: list[Callable[[Source], Subject]] = []
    for name in [*(r for r in SUBJECTS if r in rivals), *(r for r in rivals if r not in SUBJECTS)]:
        if name == kind.raw:
            made.append(lambda source: replace(shared, name=kind.raw))
        elif name == "random":
            made.append(untrained)
        else:
            made.append(trained(f"./{name}" if name in SUBJECTS else name, _rival(name, kind)))
    return [*made, trained("run", run)]


def _rival(name: str, kind: Kind) -> Run:
    """Another run."""
    if not (Path(name) / RECIPE).is_file():
        raise UserError(
            f"cannot compare against {name!r}{registry.nearest(name, (kind.raw, 'random'))}; known: {kind.raw}, random, "
            "none, or the folder of another run"
        )
    return Run.judged(name)


def _check_alike(name: str, encoder: Encoder, judged: Encoder, kind: Kind) -> None:
    """Refuses a rival that cannot see what the run sees."""
    theirs, ours = encoder.front, judged.front
    if theirs.kind.name != ours.kind.name:
        raise UserError(
            f"{name!r} was trained on data of kind {theirs.kind.name}, and the run on {kind.nouns}: leave it out"
        )
    if theirs.channels != ours.channels:
        raise UserError(
            f"{name!r} was trained on {kind.nouns} with {counted(theirs.channels, 'channels')}, and the run on "
            f"{kind.nouns} with {ours.channels}: leave it out"
        )


def _tell_torn(name: str, rival: Run, run: Run) -> None:
    """Says so where a rival held out other samples of the same data, and is judged on what it was trained on."""
    theirs, ours = rival.environment["data"], run.environment["data"]
    held = [(of.recipe.seed, of.recipe.group, of.split) for of in (rival, run)]
    if theirs["held_out"] and rival.recipe.data and rival.recipe.data == run.recipe.data and held[0] != held[1]:
        console().print(
            f"{name!r} held out other samples of {ours['name']!r} than the run, and is judged on some that it learned from: "
            f"pretrain it with --seed {run.recipe.seed}" + f" --group {run.recipe.group}" * bool(run.recipe.group),
            soft_wrap=True,
        )


def learned_from_labels(run: Run) -> bool:
    """Tells whether the run's method saw labels."""
    run.needs("method")
    learner = registry.get("methods", run.recipe.method.name).make
    return bool(getattr(learner, "needs_labels", False) or run.recipe.more_labels)


def whole(run: Run, encoder: Encoder, source: Source, *, trained: bool = True) -> Method:
    """Rebuilds the method of a run with its heads, around a copy of an encoder, on the CPU, in evaluation mode.

    Args:
        run: what the method is of.
        encoder: trained or not.
        source: images; where they are those that the run was trained on, they tell how many it chose of them.
        trained: whether with the weights of the run's checkpoint, those of the epoch that it gives.

    Raises:
        UserError: there is no checkpoint, or it is not of this method.
    """
    run.needs("method")
    recipe, data = run.recipe, run.environment["data"]
    same, told = source.same_as(data), source.labelled_by(recipe.label)
    n = data["train"] if same is False else len(chosen_images(recipe, told)[0])
    size = build(recipe.kind).view_size(Progress(1, 1, 0))
    invariances = frozenset(data["invariances"])
    columns = tuple((name, len(labelled.classes)) for name, labelled in label_columns(recipe, told).items())
    shape = DataShape(n, data["channels"], size, len(data["classes"]), invariances, recipe.kind.name, columns)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        method: Method = registry.build("methods", recipe.method, encoder.plain().cpu(), shape)
    if trained:
        state = run.read_checkpoint()
        if state is None:
            raise UserError(
                f"{str(run.path)!r} has no checkpoint, and its heads are asked for: evaluate with its checkpoint.pt"
            )
        try:
            method.load_state_dict(state.get("kept", {}).get("weights", {}).get("method") or state["method"])
        except RuntimeError as error:
            raise UserError(f"the checkpoint of {str(run.path)!r} does not fit its recipe: start a new run") from error
    return method.eval()
