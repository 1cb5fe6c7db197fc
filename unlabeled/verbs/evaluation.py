"""What an evaluation found: the sentence, the tables, the JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from unlabeled.probes.score import Score
from unlabeled.verbs.answer import answer, called, spell

NEW = "new classes"
"""Stands where others have an amount of labels: what is judged on classes whose labels the encoder never saw."""
NONE = "no labels"
"""Likewise: what is judged without labels."""


def earlier(path: Path, identity: str) -> tuple[dict[tuple[str, str], list[Score]], list[list[str]]]:
    """The scores that a file of an evaluation holds, and the commands that they came from; none if it is of another encoder
    or of other images, or is no such."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["identity"] != identity:
            return {}, []
        commands = [list(map(str, words)) for words in held.get("commands", [held["command"]])]
        names = {f.name for f in fields(Score)}
        found: dict[tuple[str, str], list[Score]] = {}
        for line in held["scores"]:
            score = Score(**{name: value for name, value in line.items() if name in names})
            found.setdefault((line["subject"], line["labels"]), []).append(score)
    except (OSError, ValueError, LookupError, TypeError):
        return {}, []
    return found, commands


@dataclass(frozen=True)
class Evaluation:
    """Scores of several representations of the same images.

    Attributes:
        path: the JSON file written.
        run: folder of the run.
        data: name of the data.
        split: what was tested on, in words.
        scores: (subject, labels as the user wrote them) -> one score for each protocol; those on new classes are under
            `"new classes"`, those that need no labels under `"no labels"`.
        metadata: recipe, versions and hardware.
        new: the classes whose labels the encoder never saw, where any protocol asks for such.
        pictures: files that protocols drew.
        earlier: likewise `scores`, those of other protocols or labels that the file held of the same encoder and images.
        failed: protocol -> why it could not be had, of some subject at least.
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

    def score(self, subject: str, labels: str, protocol: str) -> Score:
        """One score; subject is `pixels`, `random` or `run`, protocol its name, also with options (`few-shot:shots=5`)."""
        found = self.scores[subject, labels]
        return next(s for name in ("title", "protocol") for s in found if getattr(s, name) == protocol)

    @property
    def answer(self) -> str | None:
        """Whether pretraining helped, in one sentence; None if nothing was compared by labels."""
        every = self.every
        return answer(every, list({s.title for (_, labels), found in every.items() if labels != NONE for s in found}))

    @property
    def every(self) -> dict[tuple[str, str], list[Score]]:
        """All scores that are written: those of this call, then earlier ones that it did not repeat."""
        merged = {key: list(found) for key, found in self.scores.items()}
        for key, found in self.earlier.items():
            titles = {score.title for score in merged.get(key, ())}
            merged.setdefault(key, []).extend(score for score in found if score.title not in titles)
        return merged

    def lines(self) -> Iterator[RenderableType]:
        """What a terminal shows: the answer in words, the tables, what the protocols had to say, and where it is written."""
        if self.answer:
            yield self.answer
        for title in dict.fromkeys(s.title for found in self.scores.values() for s in found):
            yield self._table(title)
        notes = {
            (called(subject), note) for (subject, _), found in self.scores.items() for score in found for note in score.notes
        }
        said: dict[str, list[str]] = {}
        for subject, note in sorted(notes):
            said.setdefault(note, []).append(subject)
        yield from (f"{note} ({', '.join(subjects)})" for note, subjects in said.items())
        yield from self.left_out()
        yield from (f"written: {path}" for path in [*self.pictures, self.path])

    def left_out(self) -> Iterator[str]:
        """A line for each protocol that could not be had."""
        yield from (f"not judged by {name}: {reason}" for name, reason in self.failed.items())

    def json(self) -> dict[str, Any]:
        """Everything, in JSON's own types."""
        scores = [{"subject": s, "labels": a, **score.json()} for (s, a), found in self.every.items() for score in found]
        where = {
            "split": self.split,
            "saw_labels": list(self.saw_labels),
            **({"new_classes": list(self.new)} if self.new else {}),
        }
        said = [self.answer] if self.answer else []
        failed = {"failed": dict(self.failed)} if self.failed else {}
        return {"answer": said, "run": self.run, "data": self.data, **where, "scores": scores, **failed, **self.metadata}

    def _table(self, title: str) -> Table:
        found = {key: score for key, scores in self.scores.items() for score in scores if score.title == title}
        subjects = list(dict.fromkeys(subject for subject, _ in found))
        amounts = list(dict.fromkeys(labels for _, labels in found))
        where = self.split
        if amounts == [NEW]:
            tested = next(iter(found.values())).tested
            where = f"{tested:,} images of {len(self.new)} new classes of {self.split.partition(' of ')[2]}"
        table = Table("labels", "images", "", title=f"{self.data}: {title}, {where}", title_justify="left")
        for subject in subjects:
            table.add_column(called(subject), justify="right")
        for amount in amounts:
            row = [found.get((subject, amount)) for subject in subjects]
            metrics = dict.fromkeys(metric for score in row if score for metric in score.metrics)
            images = next(f"{score.tested if amount == NONE else score.labelled[0]:,}" for score in row if score)
            for i, metric in enumerate(metrics):
                first = (spell(amount), images) if i == 0 else ("", "")
                table.add_row(*first, metric, *(s.text(metric) if s and metric in s.metrics else "" for s in row))
        return table
