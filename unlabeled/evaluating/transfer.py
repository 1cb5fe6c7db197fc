"""Transfer: one run on several labelled data sets, in one table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from unlabeled import registry
from unlabeled.console import text
from unlabeled.errors import UserError
from unlabeled.evaluating.answer import called, choices, spell
from unlabeled.evaluating.evaluation import UNSUPERVISED, Evaluation, recovered
from unlabeled.files import in_turn, write_whole
from unlabeled.notebook import html

TRANSFER = {"linear": "linear", "finetune": "fine-tuned"}
"""What `--protocol transfer` stands for: a classifier on frozen features, and the whole network (Kornblith et al. 2019); and
what tables call them."""


@dataclass(frozen=True)
class Transfer:
    """Evaluations of one run, one for each set of images.

    Attributes:
        path: the JSON file written.
        evaluations: in the order of the data given.
        kept: what the file held of the same encoder on other data.
    """

    path: Path
    evaluations: Sequence[Evaluation]
    kept: Sequence[Mapping[str, Any]] = ()

    def __str__(self) -> str:
        return text(self.lines())

    def _repr_html_(self) -> str:
        return html(self.lines())

    def lines(self) -> Iterator[RenderableType]:
        """Returns a sentence for each set, then one table: a row for each set and protocol, a column for each encoder."""
        for found in self.evaluations:
            if found.answer:
                yield f"{found.data}: {found.answer}"
        subjects = list(dict.fromkeys(subject for found in self.evaluations for subject, _ in found.scores))
        table = Table("data", "protocol", "labels", title="transfer", title_justify="left")
        for subject in subjects:
            table.add_column(called(subject), justify="right")
        for found in self.evaluations:
            rows = dict.fromkeys((score.title, labels) for (_, labels), scores in found.scores.items() for score in scores)
            for i, (title, labels) in enumerate(rows):
                cells = [self._cell(found, subject, labels, title) for subject in subjects]
                table.add_row(found.data if i == 0 else "", title, spell(labels), *cells)
        yield table
        for found in self.evaluations:
            for title in dict.fromkeys(score.title for scores in found.scores.values() for score in scores):
                yield from (f"{found.data}, {title}: {line}" for line in choices(found.scores, title))
        if not any(found.saw_labels for found in self.evaluations):
            yield UNSUPERVISED
        for found in self.evaluations:
            yield from (f"{found.data}: {line}" for line in found.left_out())
        yield f"written: {self.path}"

    @property
    def failed(self) -> bool:
        """Whether a protocol was left out."""
        return any(found.failed for found in self.evaluations)

    def json(self) -> dict[str, Any]:
        """Returns everything, in JSON's own types."""
        return {"transfer": [*self.kept, *(found.json() for found in self.evaluations)]}

    @staticmethod
    def _cell(found: Evaluation, subject: str, labels: str, title: str) -> str:
        scores = found.scores.get((subject, labels), ())
        return next((score.text() for score in scores if score.title == title), "")


def spelled_out(protocol: str) -> tuple[str, ...]:
    """Returns the protocols that one stands for: `transfer` those with the labels asked for, `transfer:1%` with a hundredth.

    >>> spelled_out("transfer"), spelled_out("transfer:1%")
    (('linear', 'finetune'), ('linear:1%', 'finetune:1%'))

    Raises:
        UserError: an unknown protocol.
    """
    name, colon, labels = protocol.partition(":")
    known = [*registry.names("probes"), "transfer"]
    if name not in known:
        raise UserError(f"unknown protocol {name!r}{registry.nearest(name, known)}; known: {', '.join(known)}")
    return tuple(f"{one}{colon}{labels}" for one in TRANSFER) if name == "transfer" else (protocol,)


def transfer(path: Path, evaluations: Sequence[Evaluation]) -> Transfer:
    """Writes evaluations of one encoder on several sets of images as one JSON file, beside those that it holds on others."""
    encoder, names = evaluations[0].metadata["identity"].split()[0], {found.data for found in evaluations}
    with in_turn(path.parent):
        same = [one for one in recovered(path) if one.get("identity", "").partition(" ")[0] == encoder]
        made = Transfer(path, evaluations, [one for one in same if one.get("data") not in names])
        write_whole(path, lambda p: p.write_text(json.dumps(made.json(), indent=1) + "\n", encoding="utf-8"))
    return made
