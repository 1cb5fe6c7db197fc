"""The figures of an evaluation, as tables; and what differs between runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from unlabeled.evaluating.answer import BALANCED, SUBJECTS, answer, below, called, differences, spell
from unlabeled.evaluating.evaluation import NONE, images_of, kind_of, lacks_supervised, looked_at
from unlabeled.evaluating.transfer import TRANSFER
from unlabeled.probes.score import Score
from unlabeled.reporting.glance import explained, glance
from unlabeled.run import Run

VERDICT = "health of the run encoder: "
"""What the note of protocol `health` on a run begins with."""


@dataclass(frozen=True)
class Table:
    """Text in rows and columns; `numeric` columns are set to the right, `strong` is the column that matters, `below` are
    lines that stand under it."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    numeric: int
    strong: int | None = None
    below: tuple[str, ...] = ()


def tables(evaluation: Mapping[str, Any]) -> list[Table]:
    """Returns one table for each protocol, that of the answer first, those without labels last; figures in the subjects'
    columns, with their spread, the run's first: on a phone it is seen without scrolling."""
    scores = [(line["subject"], line["labels"], Score.of(line)) for line in evaluation.get("scores", [])]
    subjects = sorted({s for s, _, _ in scores}, key=lambda s: (s != "run", s))
    found = []
    first = glance(evaluation)
    weighed = sorted(scores, key=lambda one: (first is None or one[2].title not in first.title, one[1] == NONE))
    for title in dict.fromkeys(score.title for _, _, score in weighed):
        of_title = [(s, amount, score) for s, amount, score in scores if score.title == title]
        rows, guessed = [], any(BALANCED in score.metrics for _, _, score in of_title)
        for amount in dict.fromkeys(amount for _, amount, _ in of_title):
            of = {s: score for s, a, score in of_title if a == amount}
            for metric in dict.fromkeys(m for score in of.values() for m in score.metrics):
                values = [of[s].text(metric) if s in of and metric in of[s].metrics else "" for s in subjects]
                one = next(iter(of.values()))
                guess = next((score.guess[metric] for score in of.values() if metric in score.guess), None)
                values += ["" if guess is None else f"{100 * guess:.1f}%"] * guessed
                rows.append([spell(amount), f"{images_of(one, amount):,}", metric, *values])
        heads = [*map(called, subjects), *["largest class"] * guessed]
        columns = ["labels", kind_of(evaluation).nouns, "figure", *heads]
        split = str(evaluation.get("split", ""))
        where = looked_at(split, (score for _, _, score in of_title))
        by: dict[tuple[str, str], list[Score]] = {(s, amount): [score] for s, amount, score in of_title}
        head = title + f", {where}" * (bool(split) and where != split)
        means = explained(metric for _, _, score in of_title for metric in score.metrics)
        lines = *filter(None, [means]), *below(by, title, evaluation.get("classes", ()))
        found.append(Table(head, columns, rows, 3, 3 if "run" in subjects else None, lines))
    return found


def transfer_table(evaluations: Sequence[Mapping[str, Any]]) -> Table:
    """Returns one table of several sets of images: a row for each set (and amount of labels, where there are several), the
    first figure of each protocol in a column for each encoder: the run's, those pretrained with labels, others,
    untrained."""
    cells: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    supervised = list(dict.fromkeys(str(name) for one in evaluations for name in one.get("saw_labels", [])))
    for one in evaluations:
        for line in one.get("scores", []):
            score = Score.of(line)
            row = cells.setdefault((str(one.get("data")), line["labels"]), {})
            row.setdefault((score.title, line["subject"]), score.text())
    order = ["run", *supervised]
    found = dict.fromkeys(column for row in cells.values() for column in row)
    protocols = list(dict.fromkeys(title for title, _ in found))
    columns = sorted(
        found,
        key=lambda c: (protocols.index(c[0]), order.index(c[1]) if c[1] in order else len(order) + (c[1] in SUBJECTS), c[1]),
    )
    heads = [f"{TRANSFER.get(title, title)}, {_encoder(subject, supervised)}" for title, subject in columns]
    several = len({labels for _, labels in cells}) > 1
    rows = [
        [data, *([spell(labels)] if several else []), *(row.get(column, "") for column in columns)]
        for (data, labels), row in cells.items()
    ]
    first = ["data", *(["labels"] if several else [])]
    return Table("Transfer to other images", [*first, *heads], rows, len(first))


def _encoder(subject: str, supervised: Sequence[str]) -> str:
    if subject in supervised:
        return "supervised pretraining" + f" ({subject})" * (len(supervised) > 1)
    return called(subject)


def notes(evaluation: Mapping[str, Any]) -> list[str]:
    """Returns what the protocols had to say, each once, and of whom; but for the verdicts."""
    said: dict[str, list[str]] = {}
    for line in evaluation.get("scores", []):
        for note in line.get("notes", []):
            if not note.startswith(VERDICT):
                said.setdefault(str(note), []).append(called(line["subject"]))
    return sorted(f"{note} ({', '.join(dict.fromkeys(subjects))})" for note, subjects in said.items())


def unsupervised(evaluation: Mapping[str, Any]) -> bool:
    """Tells whether a supervised rival is missing; False for an older file, which does not say what its rivals saw."""
    asked = [line.get("protocol", "") for line in evaluation.get("scores", [])]
    return "saw_labels" in evaluation and lacks_supervised(asked, evaluation["saw_labels"])


def verdicts(evaluation: Mapping[str, Any]) -> list[str]:
    """Returns what `health` says of the pretrained encoder."""
    every = [str(note) for line in evaluation.get("scores", []) for note in line.get("notes", [])]
    return [f"Health: {note.removeprefix(VERDICT)}" for note in every if note.startswith(VERDICT)]


def sentences(evaluation: Mapping[str, Any]) -> list[str]:
    """Returns what the evaluation opens with; found anew where an older file has none."""
    if opening := evaluation.get("answer"):
        return [opening] if isinstance(opening, str) else list(opening)
    scores: dict[tuple[str, str], list[Score]] = {}
    for line in evaluation.get("scores", []):
        scores.setdefault((line["subject"], line["labels"]), []).append(Score.of(line))
    titles = list({score.title for (_, labels), found in scores.items() if labels != NONE for score in found})
    said = answer(scores, titles, kind_of(evaluation))
    return [said] if said else []


def side_by_side(runs: Mapping[str, Run], evaluations: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns what the runs ended with and what their recipes differ in: a column for each run."""
    ends = {name: _ends(run) | _headlines(evaluations.get(name, {})) for name, run in runs.items()}
    flat = {name: _flat(run.recipe.to_dict() | {"about": None}) for name, run in runs.items()}
    keys = dict.fromkeys(key for values in ends.values() for key in values)
    rows = [[key, *(values.get(key, "") for values in ends.values())] for key in keys]
    for key in dict.fromkeys(key for options in flat.values() for key in options):
        said = [options.get(key, "") for options in flat.values()]
        if key == "method" or len(set(said)) > 1:
            rows.append([key, *said])
    title = "What the runs ended with, and what their recipes differ in"
    return Table(title, ["", *runs], rows, 1, below=tuple(_between(evaluations)))


def _between(evaluations: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """By how much each run is above each later one, sample by sample, where both were judged on the same images."""
    judged = {name: one for name, one in evaluations.items() if one.get("identity")}
    for (name, one), (other, its) in combinations(judged.items(), 2):
        if str(one["identity"]).split()[1:] != str(its["identity"]).split()[1:]:  # the first word is the encoder's
            continue
        scores: dict[tuple[str, str], list[Score]] = {}
        for subject, found in (("run", one), (repr(other), its)):
            for line in found.get("scores", []):
                if line["subject"] == "run":
                    scores.setdefault((subject, line["labels"]), []).append(Score.of(line))
        for title in dict.fromkeys(score.title for found in scores.values() for score in found):
            yield from (f"{name!r} {said}, by {title}" for said in differences(scores, title))


def _ends(run: Run) -> dict[str, str]:
    history = run.history
    named = {
        "epoch": "epochs trained",
        "loss": "last loss",
        "knn": "last kNN, within the training split",
        "h_rank": "rank of h",
    }
    found = {}
    for metric, name in named.items():
        value = next((line[metric] for line in reversed(history) if line.get(metric) is not None), None)
        if value is not None:
            found[name] = f"{100 * value:.1f}%" if metric == "knn" else f"{value:.4g}"
    return found


def _headlines(evaluation: Mapping[str, Any]) -> dict[str, str]:
    found = {"judged on": str(evaluation["data"])} if evaluation.get("data") else {}
    for line in evaluation.get("scores", []):
        if line["subject"] == "run":
            score = Score.of(line)
            metric = next(iter(score.metrics))
            found[f"{score.title}, {spell(line['labels'])}: {metric}"] = score.text(metric)
    return found


def _flat(plain: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for key, value in plain.items():
        if isinstance(value, Mapping):
            found[key] = str(value.get("name", ""))
            found |= {f"{key}.{option}": _text(v) for option, v in value.items() if option != "name"}
        elif key != "about":
            found[key] = _text(value)
    return found


def _text(value: Any) -> str:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return "" if value is None else str(value)
    return ", ".join(map(str, value))
