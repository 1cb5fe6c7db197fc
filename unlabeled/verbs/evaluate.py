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
from unlabeled.data import Source, open_data
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.probes.evaluate import Score, evaluate_features, parse_amount
from unlabeled.probes.extract import features, pixels
from unlabeled.recipe import Recipe
from unlabeled.run import Run, environment
from unlabeled.train import initial_encoder, make_fabric

SUBJECTS = {"pixels": "raw pixels", "random": "untrained encoder", "run": "pretrained encoder"}


@dataclass(frozen=True)
class Evaluation:
    """Scores of several representations of the same images.

    Attributes:
        path: the JSON file written.
        run: folder of the run.
        data: name of the data.
        split: what was tested on, in words.
        scores: (subject, labels as the user wrote them) -> one score for each protocol.
        metadata: recipe, versions and hardware.
    """

    path: Path
    run: str
    data: str
    split: str
    scores: dict[tuple[str, str], list[Score]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def score(self, subject: str, labels: str, protocol: str) -> Score:
        """One score; subject is `pixels`, `random` or `run`."""
        return next(s for s in self.scores[subject, labels] if s.protocol == protocol)

    def lines(self) -> Iterator[RenderableType]:
        """What a terminal shows: the tables, then the answer in words, then where it is written."""
        subjects, amounts = (list(dict.fromkeys(keys)) for keys in zip(*self.scores, strict=True))
        for at, protocol in enumerate(s.protocol for s in self.scores[subjects[0], amounts[0]]):
            yield self._table(protocol, at, subjects, amounts)
        yield from self._answer(subjects, amounts)
        yield f"written: {self.path}"

    def json(self) -> dict[str, Any]:
        """Everything, in JSON's own types."""
        scores = [{"subject": s, "labels": a, **score.json()} for (s, a), found in self.scores.items() for score in found]
        return {"run": self.run, "data": self.data, "split": self.split, "scores": scores, **self.metadata}

    def _table(self, protocol: str, at: int, subjects: list[str], amounts: list[str]) -> Table:
        table = Table("labels", "images", "", title=f"{self.data}: {protocol}, {self.split}", title_justify="left")
        for subject in subjects:
            table.add_column(SUBJECTS[subject], justify="right")
        for amount in amounts:
            row = [self.scores[s, amount][at] for s in subjects]
            for i, metric in enumerate(row[0].metrics):
                first = (_spell(amount), f"{row[0].labelled[0]:,}") if i == 0 else ("", "")
                table.add_row(*first, metric, *(score.text(metric) for score in row))
        return table

    def _answer(self, subjects: list[str], amounts: list[str]) -> Iterator[str]:
        for rival in (s for s in subjects if s != "run"):
            pairs = [
                (f"{ours.protocol} {_spell(amount)}", ours, theirs)
                for amount in amounts
                for ours, theirs in zip(self.scores["run", amount], self.scores[rival, amount], strict=True)
            ]
            lost = [where for where, ours, theirs in pairs if ours.mean() <= theirs.mean()]
            close = [where for where, ours, theirs in pairs if where not in lost and not _clearly(ours, theirs)]
            yield _sentence(SUBJECTS[rival], len(pairs), lost, close, any(ours.draws > 1 for _, ours, _ in pairs))
        notes = {note for found in self.scores.values() for score in found for note in score.notes}
        yield from sorted(notes)


def evaluate(
    run: str | Path,
    *,
    data: Any = None,
    protocol: Sequence[str] = ("knn", "linear"),
    labels: Sequence[str] = ("100%",),
    draws: int = 10,
    against: Sequence[str] = ("random",),
    seed: int = 0,
    root: str | Path | None = None,
    accelerator: str = "auto",
    out: str | Path | None = None,
) -> Evaluation:
    """See `unlabeled.api.evaluate`."""
    opened_run = Run.open(run)
    recipe = opened_run.recipe
    amounts = {text: parse_amount(text) for text in _several(labels)}
    choices = [registry.get("probes", name).resolve({}) for name in _several(protocol)]
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
    train, test, split = _splits(data, recipe, root)
    if train.channels != len(encoder.mean):
        raise UserError(
            f"{train.name!r} has {train.channels} channel{'s' * (train.channels > 1)}, and the run was trained on images "
            f"with {len(encoder.mean)}: give other --data, or pretrain on such images"
        )
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
        x, y = _labelled(train, represent[subject])
        test_x, test_y = _labelled(test, represent[subject])
        for text, amount in amounts.items():
            scores[subject, text] = [
                evaluate_features(x, y, test_x, test_y, protocol=choice, amount=amount, draws=draws, seed=seed)
                for choice in choices
            ]
    metadata = {"recipe": recipe.to_dict(), **environment()}
    made = Evaluation(path, str(run), train.name, split, scores, metadata)
    write_whole(path, lambda p: p.write_text(json.dumps(made.json(), indent=1) + "\n", encoding="utf-8"))
    return made


def _splits(data: Any, recipe: Recipe, root: str | Path | None) -> tuple[Source, Source, str]:
    if data is None and not recipe.data:
        raise UserError("this run was trained on arrays, which it did not keep: give them again as data=")
    opened = open_data(recipe.data if data is None else data, image_size=recipe.image_size, root=root, seed=recipe.seed)
    if opened.test is None or opened.test.labels is None or opened.train.labels is None:
        raise UserError(
            f"{opened.train.name!r} has no labels to evaluate with: give labelled images as --data, for example a folder "
            "with one sub-folder a class"
        )
    held = f"a held-out fifth (seed {recipe.seed})" if opened.held_out else "the test split"
    return opened.train, opened.test, f"{len(opened.test):,} images of {held}"


def _labelled(source: Source, represent: Any) -> tuple[Tensor, Tensor]:
    """Representation (n, D) and labels (n,) of the images that can be read."""
    x = represent(source)
    good = torch.from_numpy(source.good())
    assert source.labels is not None
    return x[good], torch.from_numpy(np.asarray(source.labels))[good]


def _clearly(ours: Score, theirs: Score) -> bool:
    """Whether the means differ by more than either standard deviation; with a single draw, whether they differ."""
    return ours.mean() - theirs.mean() > max(ours.std() or 0.0, theirs.std() or 0.0)


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
    return amount if amount.endswith("%") else f"{amount} per class"
