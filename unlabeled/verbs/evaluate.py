"""The verb `evaluate`: one classifier, one draw of labels, several representations; so that the comparison is fair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.table import Table
from torch import Tensor

from unlabeled import registry
from unlabeled.data import Source, held_out_classes, open_data
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.probes.evaluate import Score, evaluate_features, evaluate_new_classes, parse_amount, parse_protocol
from unlabeled.probes.extract import features, pixels
from unlabeled.recipe import Recipe
from unlabeled.run import Run, environment
from unlabeled.train import initial_encoder, make_fabric

NEW = "new classes"
"""Stands where others have an amount of labels: what is judged on classes whose labels the encoder never saw."""

SUBJECTS = {"pixels": "raw pixels", "random": "untrained encoder", "run": "pretrained encoder"}


@dataclass(frozen=True)
class Evaluation:
    """Scores of several representations of the same images.

    Attributes:
        path: the JSON file written.
        run: folder of the run.
        data: name of the data.
        split: what was tested on, in words.
        scores: (subject, labels as the user wrote them) -> one score for each protocol; those on new classes are under
            `"new classes"`.
        metadata: recipe, versions and hardware.
        new: the classes whose labels the encoder never saw, where any protocol asks for such.
    """

    path: Path
    run: str
    data: str
    split: str
    scores: dict[tuple[str, str], list[Score]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    new: Sequence[str] = ()

    def score(self, subject: str, labels: str, protocol: str) -> Score:
        """One score; subject is `pixels`, `random` or `run`, protocol its name, also with options (`few-shot:shots=5`)."""
        found = self.scores[subject, labels]
        return next(s for name in ("title", "protocol") for s in found if getattr(s, name) == protocol)

    def lines(self) -> Iterator[RenderableType]:
        """What a terminal shows: the tables, then the answer in words, then where it is written."""
        subjects, amounts = (list(dict.fromkeys(keys)) for keys in zip(*self.scores, strict=True))
        places = {s.title: amount for amount in amounts for s in self.scores["run", amount]}
        for protocol, last in places.items():
            yield self._table(protocol, subjects, [last] if last == NEW else [a for a in amounts if a != NEW])
        yield from self._answer(subjects, amounts)
        yield f"written: {self.path}"

    def json(self) -> dict[str, Any]:
        """Everything, in JSON's own types."""
        scores = [{"subject": s, "labels": a, **score.json()} for (s, a), found in self.scores.items() for score in found]
        where = {"split": self.split, **({"new_classes": list(self.new)} if self.new else {})}
        return {"run": self.run, "data": self.data, **where, "scores": scores, **self.metadata}

    def _table(self, protocol: str, subjects: list[str], amounts: list[str]) -> Table:
        where = self.split
        if NEW in amounts:
            tested = self.score("run", NEW, protocol).tested
            where = f"{tested:,} images of {len(self.new)} new classes of {self.split.partition(' of ')[2]}"
        table = Table("labels", "images", "", title=f"{self.data}: {protocol}, {where}", title_justify="left")
        for subject in subjects:
            table.add_column(SUBJECTS[subject], justify="right")
        for amount in amounts:
            row = [self.score(s, amount, protocol) for s in subjects]
            for i, metric in enumerate(row[0].metrics):
                first = (_spell(amount), f"{row[0].labelled[0]:,}") if i == 0 else ("", "")
                table.add_row(*first, metric, *(score.text(metric) for score in row))
        return table

    def _answer(self, subjects: list[str], amounts: list[str]) -> Iterator[str]:
        for rival in (s for s in subjects if s != "run"):
            pairs = [
                (f"{ours.title} {_spell(amount)}", ours, theirs)
                for amount in amounts
                for ours, theirs in zip(self.scores["run", amount], self.scores[rival, amount], strict=True)
            ]
            lost = [where for where, ours, theirs in pairs if ours.mean() <= theirs.mean()]
            close = [where for where, ours, theirs in pairs if where not in lost and not _clearly(ours, theirs)]
            yield _sentence(SUBJECTS[rival], len(pairs), lost, close, any(ours.spread() for _, ours, _ in pairs))
        notes = {note for found in self.scores.values() for score in found for note in score.notes}
        yield from sorted(notes)


def evaluate(
    run: str | Path,
    *,
    data: Any,
    protocol: Sequence[str],
    labels: Sequence[str],
    draws: int,
    against: Sequence[str],
    seed: int,
    root: str | Path | None,
    accelerator: str,
    out: str | Path | None,
) -> Evaluation:
    """See `unlabeled.api.evaluate`."""
    opened_run = Run.open(run)
    recipe = opened_run.recipe
    amounts = {text: parse_amount(text) for text in _several(labels)}
    choices = [parse_protocol(text) for text in _several(protocol)]
    makers = {choice.name: registry.get("probes", choice.name).make for choice in choices}
    fitted = [choice for choice in choices if not getattr(makers[choice.name], "new_classes", False)]
    on_new = [choice for choice in choices if choice not in fitted]
    learns = bool(fitted) or any(getattr(makers[choice.name], "fits", True) for choice in on_new)
    rivals = [name for name in _several(against) if name != "none"]
    path = Path(out) if out else opened_run.path / "evaluation.json"
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r}: make it, or write elsewhere")
    if not amounts or not choices:
        raise UserError("nothing to evaluate: give at least one protocol (knn, linear) and one number of labels (1, 10%)")
    for name in rivals:
        if name not in ("pixels", "random"):
            raise UserError(
                f"cannot compare against {name!r}{registry.nearest(name, SUBJECTS)}; known: pixels, random, none"
            )
    encoder = opened_run.encoder()
    train, test, split = _splits(data, recipe, len(encoder.mean), root)
    if train.channels != len(encoder.mean):
        raise UserError(
            f"{train.name!r} has {train.channels} channel{'s' * (train.channels > 1)}, and the run was trained on images "
            f"with {len(encoder.mean)}: give other --data, or pretrain on such images"
        )
    new = _new_classes(opened_run, train) if on_new else np.empty(0, np.int64)
    device = make_fabric(recipe, accelerator, 1).device

    def untrained() -> Encoder:
        return initial_encoder(recipe, train)

    represent = {
        "pixels": lambda source: pixels(source),
        "random": lambda source: features(untrained().to(device), source, device=device),
        "run": lambda source: features(encoder.to(device), source, device=device),
    }
    scores = {}
    for subject in [s for s in SUBJECTS if s in rivals or s == "run"]:
        learning = labelled(train, represent[subject]) if learns else None
        tested = labelled(test, represent[subject])
        if learning and fitted:
            for text, amount in amounts.items():
                scores[subject, text] = [
                    evaluate_features(*learning, *tested, protocol=choice, amount=amount, draws=draws, seed=seed)
                    for choice in fitted
                ]
        if on_new:
            known, unknown = learning and _of(learning, new, invert=True), _of(tested, new)
            scores[subject, NEW] = [
                evaluate_new_classes(known, unknown, protocol=choice, draws=draws, seed=seed) for choice in on_new
            ]
    metadata = {"recipe": recipe.to_dict(), **environment()}
    made = Evaluation(path, str(run), train.name, split, scores, metadata, [train.classes[c] for c in new])
    write_whole(path, lambda p: p.write_text(json.dumps(made.json(), indent=1) + "\n", encoding="utf-8"))
    return made


def _splits(data: Any, recipe: Recipe, channels: int, root: str | Path | None) -> tuple[Source, Source, str]:
    if data is None and not recipe.data:
        raise UserError("this run was trained on arrays, which it did not keep: give them again as data=")
    named = recipe.data if data is None else data
    opened = open_data(named, image_size=recipe.image_size, channels=channels, root=root, seed=recipe.seed)
    if opened.test is None or opened.test.labels is None or opened.train.labels is None:
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


def _clearly(ours: Score, theirs: Score) -> bool:
    """Whether the means differ by more than either spread; with a single draw, whether they differ."""
    return ours.mean() - theirs.mean() > max(ours.spread() or 0.0, theirs.spread() or 0.0)


def _sentence(rival: str, compared: int, lost: list[str], close: list[str], spread: bool) -> str:
    """Whether the pretrained encoder beats the rival, in words.

    Args:
        rival: in words.
        compared: number of comparisons.
        lost: those in which the rival is at least as good.
        close: those which the pretrained encoder wins by less than a standard deviation.
        spread: whether any comparison has one.
    """
    if len(lost) == compared:
        return (
            f"The pretrained encoder does not beat the {rival}: pretraining did not help here. What usually does: "
            "gentler crops where the object is small, other views, more epochs, another method."
        )
    if lost:
        return f"The pretrained encoder does not beat the {rival} everywhere; not with {', '.join(lost)}."
    everywhere = "in every comparison" if compared > 1 else "here"
    if close:
        return f"The pretrained encoder beats the {rival} {everywhere}, but within the spread with {', '.join(close)}."
    return f"The pretrained encoder beats the {rival} {everywhere}{', by more than the spread' * spread}."


def _several(given: str | int | Sequence[Any]) -> list[str]:
    """One word or several, each once, as text."""
    words = [given] if isinstance(given, str | int) else given
    return list(dict.fromkeys(map(str, words)))


def _spell(amount: str) -> str:
    return f"{amount} per class" if amount.isdecimal() else amount
