"""The verb `evaluate`: one classifier, one draw of labels, several representations; so that the comparison is fair."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from torch import Tensor

from unlabeled import registry
from unlabeled.about import About
from unlabeled.console import console
from unlabeled.data import Source, left_out
from unlabeled.data.kinds.kind import build
from unlabeled.data.split import parse_amount
from unlabeled.errors import UserError
from unlabeled.evaluating.advice import advice
from unlabeled.evaluating.answer import called, spell
from unlabeled.evaluating.evaluation import NEW, NONE, TESTED, Earlier, Evaluation, earlier, identity
from unlabeled.evaluating.keep import KEPT, check_keep, keep
from unlabeled.evaluating.reading import check_channels
from unlabeled.evaluating.splits import new_classes, splits
from unlabeled.evaluating.subjects import subjects
from unlabeled.evaluating.transfer import Transfer, spelled_out, transfer
from unlabeled.files import cannot_write, in_turn, write_whole
from unlabeled.probes.base import Draws, Shown
from unlabeled.probes.classified import Classified
from unlabeled.probes.draws import evaluate_features, evaluate_images, evaluate_new_classes
from unlabeled.probes.paired import Clusters
from unlabeled.probes.score import Score, file_name, of_file
from unlabeled.probes.spelling import Asked, parse_protocol, takes_labels
from unlabeled.probes.subject import Subject
from unlabeled.run import Run, environment

Opened = tuple[Source, Source, str, Clusters | None, np.ndarray]
"""Training and test split; the latter in words, and which of its samples are not independent; and the classes to judge on
that are new to the run."""

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
    accelerator: str,
    out: str | Path | None,
    kept: str | Path | None,
    about: About,
) -> Evaluation | Transfer:
    """Does what `unlabeled.api.evaluate` says."""
    sets = list(data) if isinstance(data, list) and all(isinstance(one, str | Path) for one in data) else [data]
    asked = [text for word in several(protocol) for text in spelled_out(word)]
    opened_run = Run.open(run)
    alone = len(sets) == 1 and asked == several(protocol)
    more = marked(opened_run, about.get("label"))
    file = Path(out) if out else opened_run.path / f"{'evaluation' if alone else 'transfer'}{more}.json"
    question = _Question(
        opened_run, str(run), file, [parse_protocol(text) for text in asked], several(labels),
        _rivals(opened_run, against), draws, seed,
        about,
        None if kept is None else Path(kept),
    )  # fmt: skip
    question.check()
    check_keep(question.keep, question.protocols, question.amounts, len(sets))
    judged = subjects(opened_run, question.rivals, accelerator)
    opened = [question.open(one) for one in sets]
    if alone:
        return _evaluate(question, judged, opened[0], file.with_name(f"{file.stem}-{PICTURES}" if out or more else PICTURES))
    return transfer(file, [_evaluate(question, judged, one, None) for one in opened])


def marked(run: Run, label: str | None) -> str:
    """Returns what stands in the name of a file of figures by another column than the run's; "" by its own."""
    return "" if label in (None, run.recipe.label) else "-" + re.sub(r"[^\w.-]+", "-", str(label))


@dataclass(frozen=True)
class _Question:
    """What is asked of a run, whatever the images."""

    run: Run
    called: str
    path: Path
    protocols: list[Asked]
    amounts: list[str]
    against: list[str]
    draws: int | None
    seed: int
    about: About
    keep: Path | None = None

    @property
    def rivals(self) -> list[str]:
        return [name for name in self.against if name != "none"]

    def kind(self, item: Asked) -> Any:
        return registry.get("probes", item.choice.name).make

    def flags(self, name: str, default: bool) -> list[bool]:
        """What each protocol says of itself."""
        return [bool(getattr(self.kind(item), name, default)) for item in self.protocols]

    def ready(self, item: Asked) -> Any:
        """A protocol, which is refused where it draws the run's own views, and nobody has these."""
        if getattr(self.kind(item), "own_views", False) and not item.choice.options.get("views"):
            self.run.needs("views")
        return self.kind(item)

    def check(self) -> None:
        """Refuses what cannot be meant, before any image is opened."""
        self.run.check()
        self.run.needs("method")  # which tells whether it saw labels
        for text in self.amounts:
            parse_amount(text)
        if self.draws is not None and self.draws < 1:
            raise UserError(f"draws = {self.draws}: must be at least 1")
        if not self.path.parent.is_dir():
            raise UserError(f"there is no folder {str(self.path.parent)!r}: make it, or write elsewhere")
        if not os.access(self.path.parent, os.W_OK):
            raise UserError(f"{str(self.path.parent)!r} cannot be written to: give a file elsewhere as --out")
        if self.path.is_dir():
            raise UserError(f"{str(self.path)!r} is a folder: give the name of a JSON file as --out")
        if "none" in self.against and self.rivals:
            raise UserError(f"--against none, and against {', '.join(self.rivals)}: give either")
        if not self.amounts or not self.protocols:
            raise UserError(
                "nothing to evaluate: give at least one protocol (knn, linear) and one number of labels (1, 10%)"
            )

    def open(self, data: Any) -> Opened:
        """The data, as the protocols need them."""
        channels = self.run.encoder().front.channels
        labelled = all(self.flags("needs_labels", True))
        train, test, words, clusters = splits(data, self.run, channels, labelled, self.about)
        check_channels(train, channels)
        new = new_classes(self.run, train) if any(self.flags("new_classes", False)) else np.empty(0, np.int64)
        return train, test, words, clusters, new


def _evaluate(question: _Question, judged: Sequence[Any], opened: Opened, pictures: Path | None) -> Evaluation:
    """On one set of images; into the question's file, unless it is one of several sets, which draw no `pictures`.

    A protocol that cannot be had is left out and named, as long as another can.
    """
    train, test, split, clusters, new = opened
    same, stamp = identity(question.run.encoder(), train, test), _stamp(question.path)
    before = earlier(question.path, same) if train.lasting and test.lasting else Earlier()
    if pictures and not before.scores:
        _forget(pictures)
    asked = list(question.protocols)
    if test.labels is not None and train.labels is not None and not _answered(question, before.scores):
        asked.append(parse_protocol("knn:100%"))
    scores: dict[tuple[str, str], list[Score]] = {}
    failed: dict[str, UserError] = {}
    drawn, beside, supervised = list[Path](), dict[str, dict[str, Any]](), list[str]()
    columns = (BarColumn(None), TextColumn("{task.fields[said]}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("", total=len(judged) * len(asked), said="")
        for make in judged:
            subject = make(train)
            supervised += [subject.name] if subject.saw_labels and subject.name != "run" else []
            drawer = _drawer(question, pictures, subject, train, test, drawn, beside)
            judge = _Judge(subject, train, test, new, clusters, question.draws, question.seed, drawer)
            for item in asked:
                bar.update(task, said=f"{called(subject.name)}: {item.choice.name}")
                try:
                    for text, score in judge(item, question.ready(item), question.amounts):
                        if subject.saw_labels and subject.name != "run":
                            told = f"pretrained with {spell(subject.saw_labels)} of the labels, in every row"
                            score.notes.append(told)
                        scores.setdefault((subject.name, text), []).append(score)
                except UserError as error:
                    failed.setdefault(item.choice.name, error)
                bar.advance(task)
    if not {item.choice.name for item in question.protocols} - set(failed):
        raise next(iter(failed.values()))
    names, reasons = [train.classes[c] for c in new], {name: str(error) for name, error in failed.items()}
    with in_turn(question.path.parent):
        if _stamp(question.path) != stamp and train.lasting and test.lasting:  # another process wrote meanwhile
            before = earlier(question.path, same)
        metadata = {"identity": same, "recipe": question.run.recipe.to_dict(), **_about(question, train, before)}
        made = Evaluation(
            question.path, question.called, train.name, split, scores, metadata, names, drawn, before.scores, reasons,
            list(dict.fromkeys([*before.saw_labels, *supervised])), left_out(train, test),
        )  # fmt: skip
        if pictures:
            write_whole(made.path, lambda p: p.write_text(json.dumps(made.json(), indent=1) + "\n", encoding="utf-8"))
    return made


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells one state of a file from another; None where there is none."""
    return (path.stat().st_ino, path.stat().st_mtime_ns) if path.is_file() else None


def _about(question: _Question, train: Source, before: Earlier) -> dict[str, Any]:
    """What an evaluation says of the run and of itself."""
    about, run = environment(), question.run
    commands = [*(words for words in before.commands if words != about["command"]), about["command"]]
    said: dict[str, Any] = {"learned": run.learned, "advice": advice(run, question.called), "classes": list(train.classes)}
    which = run.kept.said if run.kept else ""
    state = {"unfinished": run.unfinished, "kept": which, "alarm": run.alarm}
    said |= {name: words for name, words in state.items() if words}
    return {**about, "commands": commands, **said}


def _rivals(run: Run, against: Sequence[str]) -> list[str]:
    """The features without an encoder by the name that the kind of data has for them."""
    raw = build(run.recipe.kind).raw
    return several([raw if name in ("raw", "pixels") else name for name in several(against)])


def _answered(question: _Question, before: Mapping[tuple[str, str], Sequence[Score]]) -> bool:
    """Whether what is asked, or was before, compares with all rivals by labels: else nothing can be said first."""
    judged = {subject for (subject, labels), found in before.items() if labels != NONE and found}
    full = any(takes_labels(kind) and not hasattr(kind, "on_images") for kind in map(question.kind, question.protocols))
    return not question.rivals or full or {*question.rivals, "run"} <= judged


def _forget(pictures: Path) -> None:
    """Removes what protocols drew of other images, or of another encoder; nothing else that stands there."""
    for path in pictures.glob("*"):
        if path.is_file() and of_file(path.stem)[0] in registry.names("probes"):
            path.unlink()


class _Judge:
    """All protocols on one subject."""

    def __init__(
        self, subject: Subject, train: Source, test: Source, new: np.ndarray, clusters: Clusters | None, draws: int | None,
        seed: int, then: Any,
    ) -> None:  # fmt: skip
        self.subject, self.train, self.test, self.new, self.clusters = subject, train, test, new, clusters
        self.draws, self.seed, self.then = draws, seed, then

    def __call__(self, item: Asked, kind: Any, amounts: Sequence[str]) -> list[tuple[str, Score]]:
        """Scores by the amount of labels; none where raw features cannot be judged."""
        shared: dict[str, Any] = {"protocol": item.choice, "seed": self.seed}
        sees = getattr(kind, "sees", (self.train.kind.name,))
        if self.train.kind.name not in sees:
            raise UserError(f"protocol {item.choice.name!r} is for data of kind {', '.join(sees)}: leave it out")
        texts = [item.labels] if item.labels else amounts
        if getattr(kind, "new_classes", False):
            learning = labelled(self.train, self.subject.features) if getattr(kind, "fits", True) else None
            known = learning and _of(learning, self.new, invert=True)
            tested = _of(labelled(self.test, self.subject.features), self.new)
            return [(NEW, evaluate_new_classes(known, tested, draws=self.draws or 10, **shared))]
        if getattr(kind, "on_images", False):
            if kind.needs_encoder and self.subject.encoder is None:
                return []
            if getattr(kind, "needs_classifier", False) and self.subject.name != "run" and self.subject.classifier is None:
                return []
            texts = texts if kind.needs_labels else [NONE]
            return [
                (
                    text,
                    evaluate_images(
                        self.subject, self.train, self.test, draws=self.draws,
                        then=partial(self.then, item, text, None), amount=_amount(text), clusters=self.clusters, **shared,
                    ),
                )
                for text in texts
            ]  # fmt: skip
        if not getattr(kind, "fits", True):
            texts = [TESTED if getattr(kind, "needs_labels", True) else NONE]
        splits = [*labelled(self.train, self.subject.features), *labelled(self.test, self.subject.features)]
        rows = _good(self.train), _good(self.test)
        clusters = self.clusters and self.clusters.at(rows[1])
        return [
            (
                text,
                evaluate_features(
                    *splits, draws=self.draws or 10, amount=_amount(text),
                    then=partial(self.then, item, text, rows), clusters=clusters, **shared,
                ),
            )
            for text in texts
        ]  # fmt: skip


def _amount(text: str) -> int | float:
    return 1.0 if text in (NONE, TESTED) else parse_amount(text)


def _drawn_as(item: Asked, text: str) -> str:
    """What its pictures are called: by the amount of labels, too, unless that is all of them or none."""
    return file_name(item.choice, None if text in (NONE, TESTED, "100%") else text)


def _drawer(
    question: _Question, folder: Path | None, subject: Subject, train: Source, test: Source, drawn: list[Path],
    beside: dict[str, dict[str, Any]],
) -> Callable[..., None]:  # fmt: skip
    """Lets a protocol draw what it saw of the pretrained encoder, into a folder if there is one; keeps the encoder that it
    fine-tuned, if asked.

    A protocol that shows other encoders, too, has a `beside_`; `beside` holds what it saw of those, which come first, by
    the name of its pictures.

    What it returns takes the protocol and its amount of labels, the positions of the rows of features, if it works on those,
    the probe, and what it was fitted and scored on.
    """

    def then(
        item: Asked,
        text: str,
        rows: tuple[np.ndarray, np.ndarray] | None,
        probe: Any,
        fitted: np.ndarray,
        scored: np.ndarray,
    ) -> None:
        if question.keep and subject.name == "run" and item.choice.name == KEPT:
            keep(question.keep, question.run, question.called, item, text, probe, train, fitted)
        name = _drawn_as(item, text)
        if hasattr(probe, "beside_"):
            probe.beside_ = beside.setdefault(name, {})
            if subject.name != "run":
                beside[name][called(subject.name)] = probe
        said: Classified | None = getattr(probe, "classified_", None)
        if said is not None and text != (item.labels or question.amounts[-1]):
            said = None  # one confusion matrix is enough: of the last amount of labels that was asked for
        if folder is None or subject.name != "run" or not (said or isinstance(probe, Draws)):
            return
        if rows is not None:
            fitted, scored = rows[0][fitted], rows[1][scored]
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(folder, error) from error
        shown = [Shown(s, at, _labels(s)[at]) for s, at in ((train, fitted), (test, scored))]
        files = said.draw(folder, name, shown[1]) if said else []
        files += probe.draw(folder, name, *shown) if isinstance(probe, Draws) else []
        drawn.extend(path for path in files if path not in drawn and path.suffix != ".json")

    return then


def _labels(source: Source) -> np.ndarray:
    return np.full(len(source), -1, np.int64) if source.labels is None else source.labels


def _good(source: Source) -> np.ndarray:
    return np.flatnonzero(source.good())


def _of(labelled: tuple[Tensor, Tensor], classes: np.ndarray, *, invert: bool = False) -> tuple[Tensor, Tensor]:
    """The images of these classes, or of all others; without unlabelled ones."""
    x, y = labelled
    kept = torch.isin(y, torch.from_numpy(classes), invert=invert) & (y >= 0)
    return x[kept], y[kept]


def labelled(source: Source, represent: Any) -> tuple[Tensor, Tensor]:
    """Returns the representation (n, D) and labels (n,), -1 where there is none, of the images that can be read."""
    x = represent(source)
    good = torch.from_numpy(source.good())
    return x[good], torch.from_numpy(_labels(source))[good]


def several(given: str | int | Path | Sequence[Any]) -> list[str]:
    """Takes one word or several, each once, as text."""
    words = [given] if isinstance(given, str | int | Path) else given
    return list(dict.fromkeys(map(str, words)))
