"""The verb `evaluate`: one classifier, one draw of labels, several representations; so that the comparison is fair."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from unlabeled import registry
from unlabeled.data import Source, held_out_classes, open_data
from unlabeled.errors import UserError
from unlabeled.files import cannot_write, write_whole
from unlabeled.probes.asked import Asked, parse_amount, parse_protocol
from unlabeled.probes.base import Draws, Shown
from unlabeled.probes.evaluate import evaluate_features, evaluate_images, evaluate_new_classes
from unlabeled.probes.score import Score
from unlabeled.probes.subject import Subject
from unlabeled.recipe import Recipe
from unlabeled.run import Run, environment
from unlabeled.verbs.answer import called
from unlabeled.verbs.evaluation import NEW, NONE, Evaluation
from unlabeled.verbs.subjects import subjects
from unlabeled.verbs.transfer import TRANSFER, Transfer, transfer

PICTURES = "pictures"
"""Folder of a run that protocols draw into."""


def evaluate(
    run: str | Path,
    *,
    data: Any,
    protocol: Sequence[str],
    labels: Sequence[str],
    draws: int | None,
    against: Sequence[str],
    seed: int,
    root: str | Path | None,
    accelerator: str,
    out: str | Path | None,
) -> Evaluation | Transfer:
    """See `unlabeled.api.evaluate`."""
    sets = list(data) if isinstance(data, list) and all(isinstance(one, str | Path) for one in data) else [data]
    asked = [text for word in several(protocol) for text in (TRANSFER if word == "transfer" else (word,))]
    shared: dict[str, Any] = {
        "protocol": asked, "labels": labels, "draws": draws, "against": against, "seed": seed, "root": root,
        "accelerator": accelerator,
    }  # fmt: skip
    path = Path(out) if out else Run.open(run).path / "evaluation.json"
    if len(sets) == 1 and "transfer" not in several(protocol):
        return _evaluate(run, data=sets[0], path=path, **shared)
    path = path if out else path.with_name("transfer.json")
    return transfer(path, sets, lambda one, at: _evaluate(run, data=one, path=at, **shared))


def _evaluate(
    run: str | Path,
    *,
    data: Any,
    protocol: Sequence[str],
    labels: Sequence[str],
    draws: int | None,
    against: Sequence[str],
    seed: int,
    root: str | Path | None,
    accelerator: str,
    path: Path,
) -> Evaluation:
    opened_run = Run.open(run)
    recipe = opened_run.recipe
    amounts = [*several(labels)]
    for text in amounts:
        parse_amount(text)
    asked = [parse_protocol(text) for text in protocol]
    if draws is not None and draws < 1:
        raise UserError(f"draws = {draws}: must be at least 1")
    rivals = [name for name in several(against) if name != "none"]
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r}: make it, or write elsewhere")
    if not amounts or not asked:
        raise UserError("nothing to evaluate: give at least one protocol (knn, linear) and one number of labels (1, 10%)")
    judged = subjects(opened_run, rivals, accelerator)
    kinds = {item.choice.name: registry.get("probes", item.choice.name).make for item in asked}
    on_new = any(getattr(kind, "new_classes", False) for kind in kinds.values())
    needs_labels = any(getattr(kind, "needs_labels", True) for kind in kinds.values())
    channels = len(opened_run.encoder().mean)
    train, test, split = _splits(data, recipe, channels, root, needs_labels)
    if train.channels != channels:
        raise UserError(
            f"{train.name!r} has {train.channels} channel{'s' * (train.channels > 1)}, and the run was trained on images "
            f"with {channels}: give other --data, or pretrain on such images"
        )
    new = _new_classes(opened_run, train) if on_new else np.empty(0, np.int64)
    scores: dict[tuple[str, str], list[Score]] = {}
    pictures: list[Path] = []
    columns = (BarColumn(None), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(highlight=False), transient=True) as bar:
        task = bar.add_task("", total=len(judged) * len(asked), said="")
        for build in judged:
            subject = build(train)
            judge = _Judge(subject, train, test, new, draws, seed, _drawer(opened_run, subject, train, test, pictures))
            for item in asked:
                bar.update(task, said=f"{called(subject.name)}: {item.choice.name}")
                for text, score in judge(item, kinds[item.choice.name], amounts):
                    scores.setdefault((subject.name, text), []).append(score)
                bar.advance(task)
    metadata = {"recipe": recipe.to_dict(), **environment()}
    made = Evaluation(path, str(run), train.name, split, scores, metadata, [train.classes[c] for c in new], pictures)
    write_whole(path, lambda p: p.write_text(json.dumps(made.json(), indent=1) + "\n", encoding="utf-8"))
    return made


class _Judge:
    """All protocols on one subject."""

    def __init__(
        self, subject: Subject, train: Source, test: Source, new: np.ndarray, draws: int | None, seed: int, then: Any
    ) -> None:
        self.subject, self.train, self.test, self.new = subject, train, test, new
        self.draws, self.seed, self.then = draws, seed, then

    def __call__(self, item: Asked, kind: Any, amounts: Sequence[str]) -> list[tuple[str, Score]]:
        """Scores by the amount of labels; none where raw pixels cannot be judged."""
        shared: dict[str, Any] = {"protocol": item.choice, "seed": self.seed}
        texts = [item.labels] if item.labels else amounts
        if getattr(kind, "new_classes", False):
            learning = labelled(self.train, self.subject.features) if getattr(kind, "fits", True) else None
            known = learning and _of(learning, self.new, invert=True)
            tested = _of(labelled(self.test, self.subject.features), self.new)
            return [(NEW, evaluate_new_classes(known, tested, draws=self.draws or 10, **shared))]
        if getattr(kind, "on_images", False):
            if kind.needs_encoder and self.subject.encoder is None:
                return []
            texts = texts if kind.needs_labels else [NONE]
            then = partial(self.then, item.choice.name, None)
            return [
                (
                    text,
                    evaluate_images(
                        self.subject, self.train, self.test, draws=self.draws, then=then,
                        amount=_amount(text), **shared,
                    ),
                )
                for text in texts
            ]  # fmt: skip
        texts = texts if getattr(kind, "fits", True) else [NONE]
        splits = [*labelled(self.train, self.subject.features), *labelled(self.test, self.subject.features)]
        then = partial(self.then, item.choice.name, (_good(self.train), _good(self.test)))
        return [
            (text, evaluate_features(*splits, draws=self.draws or 10, amount=_amount(text), then=then, **shared))
            for text in texts
        ]


def _amount(text: str) -> int | float:
    return 1.0 if text == NONE else parse_amount(text)


def _drawer(run: Run, subject: Subject, train: Source, test: Source, pictures: list[Path]) -> Callable[..., None]:
    """Lets a protocol draw what it saw of the pretrained encoder, into the run's folder.

    What it returns takes the protocol's name, the positions of the rows of features, if it works on those, the probe, and
    what it was fitted and scored on.
    """

    def then(
        name: str, rows: tuple[np.ndarray, np.ndarray] | None, probe: Any, fitted: np.ndarray, scored: np.ndarray
    ) -> None:
        if subject.name != "run" or not isinstance(probe, Draws):
            return
        if rows is not None:
            fitted, scored = rows[0][fitted], rows[1][scored]
        folder = run.path / PICTURES
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        shown = [Shown(s, at, _labels(s)[at]) for s, at in ((train, fitted), (test, scored))]
        pictures.extend(path for path in probe.draw(folder, *shown) if path not in pictures and path.suffix != ".json")

    return then


def _labels(source: Source) -> np.ndarray:
    return np.full(len(source), -1, np.int64) if source.labels is None else source.labels


def _good(source: Source) -> np.ndarray:
    return np.flatnonzero(source.good())


def _splits(
    data: Any, recipe: Recipe, channels: int, root: str | Path | None, needs_labels: bool
) -> tuple[Source, Source, str]:
    if data is None and not recipe.data:
        raise UserError("this run was trained on arrays, which it did not keep: give them again as data=")
    named = recipe.data if data is None else data
    opened = open_data(named, image_size=recipe.image_size, channels=channels, root=root, seed=recipe.seed)
    if opened.test is None or (needs_labels and (opened.test.labels is None or opened.train.labels is None)):
        raise UserError(
            f"{opened.train.name!r} has no labels to evaluate with: give labelled images as --data, for example a folder "
            "with one sub-folder a class"
        )
    held = f"a held-out fifth (seed {recipe.seed})" if opened.held_out else "the test split"
    return opened.train, opened.test, f"{len(opened.test):,} images of {held}"


def _new_classes(run: Run, source: Source) -> np.ndarray:
    """Labels of the classes to judge on, none of which the run's method saw a label of. Where it saw labels of some: all
    others, held out or of names it never met. Where it saw none: those held out, if it used no labels, or a half.

    Raises:
        UserError: there are fewer than two, or fewer than two others.
    """
    recipe, trained = run.recipe, run.environment["data"]["classes"]
    held = {trained[c] for c in held_out_classes(len(trained), recipe.hold_out_classes, recipe.seed)}
    labels = getattr(registry.get("methods", recipe.method.name).make, "needs_labels", False)
    seen = set(trained) - held if labels else set()
    names = np.array(source.classes)
    if len(names) < 4:
        raise UserError(
            f"{source.name!r} has {len(names)} classes, and 4 are needed to judge on new ones, 2 new and 2 others: "
            "give --data with more classes"
        )
    if seen & set(source.classes):
        new = np.flatnonzero(~np.isin(names, list(seen)))
    elif held & set(source.classes) and not labels:
        new = np.flatnonzero(np.isin(names, list(held)))
    else:
        new = held_out_classes(len(names), len(names) // 2, recipe.seed)
    if not 2 <= len(new) <= len(names) - 2:
        raise UserError(
            f"{len(new)} of the {len(names)} classes of {source.name!r} are new to this run, whose method "
            f"{recipe.method.name!r} saw the labels of the others: at least 2 must be, and 2 not; "
            "pretrain with --hold-out-classes, or give --data with other classes"
        )
    return new


def _of(labelled: tuple[Tensor, Tensor], classes: np.ndarray, *, invert: bool = False) -> tuple[Tensor, Tensor]:
    """The images of these classes, or of all others; without unlabelled ones."""
    x, y = labelled
    kept = torch.isin(y, torch.from_numpy(classes), invert=invert) & (y >= 0)
    return x[kept], y[kept]


def labelled(source: Source, represent: Any) -> tuple[Tensor, Tensor]:
    """Representation (n, D) and labels (n,) of the images that can be read."""
    x = represent(source)
    good = torch.from_numpy(source.good())
    assert source.labels is not None
    return x[good], torch.from_numpy(np.asarray(source.labels))[good]


def several(given: str | int | Path | Sequence[Any]) -> list[str]:
    """One word or several, each once, as text."""
    words = [given] if isinstance(given, str | int | Path) else given
    return list(dict.fromkeys(map(str, words)))
