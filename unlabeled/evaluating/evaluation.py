"""What an evaluation found: the sentence, the tables, the JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from unlabeled.console import console, text
from unlabeled.data import Source, told
from unlabeled.data.kinds.kind import Kind, build
from unlabeled.encoders import Encoder
from unlabeled.evaluating.answer import BALANCED, answer, below, called, spell
from unlabeled.forms import EVALUATION, FormError, check, read_json
from unlabeled.notebook import html
from unlabeled.probes.score import Score
from unlabeled.probes.subject import weights
from unlabeled.registry import Choice
from unlabeled.words import counted

NEW = "new classes"
"""Stands where others have an amount of labels: what is judged on classes whose labels the encoder never saw."""
NONE = "no labels"
"""Likewise: what is judged without labels."""
TESTED = "test labels"
"""Likewise: what learns from no label, and is judged by those of the test images."""

UNSUPERVISED = (
    "Not compared with supervised pretraining: run unlabeled pretrain DATA --method supervised --out runs/supervised on "
    "what this run was trained on, and evaluate with --against random --against runs/supervised."
)
"""What to say where no rival learned from labels."""


def identity(encoder: Encoder, train: Source, test: Source) -> str:
    """Returns the same for the same encoder, images, labels and names of classes; the encoder's part comes first."""
    return f"{weights(encoder)} {train.fingerprint} {test.fingerprint} {told(train, test)}"


@dataclass(frozen=True)
class Earlier:
    """What a file holds of the same identity: scores, the commands that they came from, subjects that saw labels."""

    scores: Mapping[tuple[str, str], Sequence[Score]] = field(default_factory=dict)
    commands: Sequence[list[str]] = ()
    saw_labels: Sequence[str] = ()


def held(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Returns the evaluations in a file: one of one set of images, and those of several that share a table; none if there is
    no such file.

    Raises:
        FormError: it is damaged.
    """
    if not path.is_file():
        return [], []
    found = read_json(path, dict)
    check(found, {"transfer": [EVALUATION]} if "transfer" in found else EVALUATION)
    alone, several = ([], found["transfer"]) if "transfer" in found else ([found], [])
    for one in [*alone, *several]:
        for line in one["scores"]:
            Score.of(line)
    return alone, several


def recovered(path: Path) -> list[dict[str, Any]]:
    """Returns all that a file holds that is about to be written anew; if it is damaged, that is said."""
    try:
        return [one for every in held(path) for one in every]
    except FormError as error:
        console().print(f"{str(path)!r} is damaged ({error}): what it held is not kept", soft_wrap=True)
        return []


def earlier(path: Path, identity: str) -> Earlier:
    """Returns what a file holds of this identity; nothing if it is of another encoder, other images or other labels, or no
    such."""
    one = next((one for one in recovered(path) if one.get("identity") == identity), None)
    if one is None:
        return Earlier()
    found: dict[tuple[str, str], list[Score]] = {}
    for line in one["scores"]:
        found.setdefault((line["subject"], line["labels"]), []).append(Score.of(line))
    return Earlier(found, one.get("commands", [one.get("command", [])]), one.get("saw_labels", []))


def lacks_supervised(protocols: Iterable[str], saw_labels: Sequence[str]) -> bool:
    """Tells whether it was asked for what supervised pretraining is the measure of, fine-tuning, and none was compared
    with."""
    return "finetune" in protocols and not saw_labels


@dataclass(frozen=True)
class Evaluation:
    """Scores of several representations of the same images.

    Attributes:
        path: the JSON file written.
        run: folder of the run.
        data: name of the data.
        split: what was tested on, in words.
        scores: (subject, labels as the user wrote them) -> one score for each protocol; those on new classes are under
            `"new classes"`, those that need no labels under `"no labels"`, those that only the labels of test images judge
            under `"test labels"`.
        metadata: recipe, versions and hardware; whether the run `learned` anything, `advice` on what to try, and how far it
            came where it is `unfinished`, of which epoch the encoder is that was `kept`, where not of the last, and the
            `alarm` where it went wrong.
        new: the classes whose labels the encoder never saw, where any protocol asks for such.
        pictures: files that protocols drew.
        earlier: likewise `scores`, those of other protocols or labels that the file held of the same encoder and labelled
            images.
        failed: protocol -> why it could not be had, of some subject at least.
        skipped: a line of the samples that cannot be read, if any.
        saw_labels: the other runs among the subjects whose method learned from labels.
    """

    path: Path
    run: str
    data: str
    split: str
    scores: dict[tuple[str, str], list[Score]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    new: Sequence[str] = ()
    pictures: Sequence[Path] = ()
    earlier: Mapping[tuple[str, str], Sequence[Score]] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    saw_labels: Sequence[str] = ()
    skipped: Sequence[str] = ()

    def score(self, subject: str, labels: str, protocol: str) -> Score:
        """Returns one score; subject is `pixels`, `random` or `run`, protocol its name, also with options
        (`few-shot:shots=5`)."""
        found = self.scores[subject, labels]
        return next(s for name in ("title", "protocol") for s in found if getattr(s, name) == protocol)

    @property
    def answer(self) -> str | None:
        """Whether pretraining helped, in one sentence; None if nothing was compared by labels."""
        every = self.every
        titles = list({s.title for (_, labels), found in every.items() if labels != NONE for s in found})
        learned, advice = self.metadata.get("learned", True), self.metadata.get("advice", "")
        return answer(every, titles, kind_of(self.metadata), learned=learned, advice=advice)

    @property
    def opening(self) -> list[str]:
        """What is said first: that the run is not finished, of which epoch its encoder is where that is not the last, that
        it went wrong, and whether pretraining helped."""
        about = [str(self.metadata.get(name, "")) for name in ("unfinished", "kept", "alarm")]
        return [*(f"{said[0].upper()}{said[1:]}" for said in about if said), *([self.answer] if self.answer else [])]

    @property
    def every(self) -> dict[tuple[str, str], list[Score]]:
        """All scores that are written: those of this call, then earlier ones that it did not repeat."""
        merged = {key: list(found) for key, found in self.scores.items()}
        for key, found in self.earlier.items():
            titles = {score.title for score in merged.get(key, ())}
            merged.setdefault(key, []).extend(score for score in found if score.title not in titles)
        return merged

    def __str__(self) -> str:
        return text(self.lines())

    def _repr_html_(self) -> str:
        return html(self.lines())

    def lines(self) -> Iterator[RenderableType]:
        """Returns what a terminal shows: the answer in words, the tables, what the protocols had to say, and where it is
        written."""
        yield from self.opening
        for title in dict.fromkeys(s.title for found in self.scores.values() for s in found):
            yield self._table(title)
            yield from below(self.scores, title, self.metadata.get("classes", ()))
        notes = {
            (called(subject), note) for (subject, _), found in self.scores.items() for score in found for note in score.notes
        }
        said: dict[str, list[str]] = {}
        for subject, note in sorted(notes):
            said.setdefault(note, []).append(subject)
        yield from (f"{note} ({', '.join(subjects)})" for note, subjects in said.items())
        if lacks_supervised((score.protocol for found in self.scores.values() for score in found), self.saw_labels):
            yield UNSUPERVISED
        yield from self.left_out()
        yield from self.skipped
        yield from (f"written: {path}" for path in [*self.pictures, self.path])

    def left_out(self) -> Iterator[str]:
        """Returns a line for each protocol that could not be had."""
        yield from (f"not judged by {name}: {reason}" for name, reason in self.failed.items())

    def json(self) -> dict[str, Any]:
        """Returns everything, in JSON's own types."""
        scores = [{"subject": s, "labels": a, **score.json()} for (s, a), found in self.every.items() for score in found]
        where = {
            "split": self.split,
            "saw_labels": list(self.saw_labels),
            **({"skipped": list(self.skipped)} if self.skipped else {}),
            **({"new_classes": list(self.new)} if self.new else {}),
        }
        failed = {"failed": dict(self.failed)} if self.failed else {}
        return {
            "answer": self.opening,
            "run": self.run,
            "data": self.data,
            **where,
            "scores": scores,
            **failed,
            **self.metadata,
        }

    def _table(self, title: str) -> Table:
        found = {key: score for key, scores in self.scores.items() for score in scores if score.title == title}
        subjects = list(dict.fromkeys(subject for subject, _ in found))
        guessed = any(BALANCED in score.metrics for score in found.values())
        amounts = list(dict.fromkeys(labels for _, labels in found))
        where = looked_at(self.split, found.values())
        nouns = kind_of(self.metadata).nouns
        if amounts == [NEW]:
            tested = next(iter(found.values())).tested
            where = (
                f"{counted(tested, nouns)} of {counted(len(self.new), 'new classes')} of {self.split.partition(' of ')[2]}"
            )
        table = Table("labels", nouns, "", title=f"{self.data}: {title}, {where}", title_justify="left")
        if guessed:
            table.add_column("largest class", justify="right")
        for subject in subjects:
            table.add_column(called(subject), justify="right")
        for amount in amounts:
            row = [found.get((subject, amount)) for subject in subjects]
            metrics = dict.fromkeys(metric for score in row if score for metric in score.metrics)
            images = next(f"{images_of(score, amount):,}" for score in row if score)
            for i, metric in enumerate(metrics):
                first = (spell(amount), images) if i == 0 else ("", "")
                guess = next((s.guess[metric] for s in row if s and metric in s.guess), None)
                beside = ["" if guess is None else f"{100 * guess:.1f}%"] * guessed
                table.add_row(*first, metric, *beside, *(s.text(metric) if s and metric in s.metrics else "" for s in row))
        return table


def kind_of(metadata: Mapping[str, Any]) -> Kind:
    """Returns the kind of data of an evaluation's recipe; images, of an older file that does not say."""
    return build(Choice(metadata.get("recipe", {}).get("kind", {}).get("name", "image")))


def looked_at(split: str, scores: Iterable[Score]) -> str:
    """Returns a split in words, with how many of its images were looked at where not all: `2,000 of 10,000 images of
    ...`."""
    tested = f"{max(score.tested for score in scores):,}"
    return split if split.startswith(f"{tested} ") else f"{tested} of {split}"


def images_of(score: Score, labels: str) -> int:
    """Tells how many images stand beside a figure: those learned from, or tested where no label is learned from."""
    return score.tested if labels in (NONE, TESTED) else score.labelled[0]
