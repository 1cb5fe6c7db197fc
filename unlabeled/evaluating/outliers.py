"""The verb `outliers`: the samples of a data set that are least like the others."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from torch import Tensor

from unlabeled.about import About
from unlabeled.console import console
from unlabeled.data import left_out
from unlabeled.errors import UserError
from unlabeled.evaluating.samples import Samples, open_samples, represented
from unlabeled.files import write_whole
from unlabeled.notebook import html
from unlabeled.probes.knn import nearest
from unlabeled.probes.roc import auc
from unlabeled.probes.row_picture import Tile, draw_tiles
from unlabeled.run import Run
from unlabeled.words import counted

MOST = 500
"""Images that a picture shows."""
LISTED = 10
"""Samples and classes that a terminal shows."""
NEIGHBOURS = 20
"""Of scikit-learn's local outlier factor: its default."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Outlier:
    """A sample: its number, where it lies, the name of its class ("" if unlabelled), and by how much it is unlike others."""

    number: int
    path: str
    label: str
    score: float


@dataclass(frozen=True)
class Outliers:
    """The samples that are least like the others.

    Attributes:
        found: the least alike first.
        auroc: class -> name of a score -> how well it tells samples of that class from the others, in [0, 1]; a half is
            chance. Empty without labels.
        sizes: class -> samples.
        path: the CSV file, of all samples.
        picture: the contact sheet, of those found.
        skipped: a line of the samples that cannot be read, if any.
    """

    found: Sequence[Outlier]
    auroc: Mapping[str, Mapping[str, float]]
    sizes: Mapping[str, int]
    path: Path
    picture: Path
    skipped: Sequence[str]

    def _repr_html_(self) -> str:
        return html(self.lines(), self.picture)

    def lines(self) -> Iterator[RenderableType]:
        """Returns what a terminal shows: the first of them, how well the scores tell classes, and where all are."""
        n = len(self.found)
        which = f" (the first {LISTED} of {n:,}, which the picture shows; the CSV has all samples)" * (n > LISTED)
        table = Table("number", "path", "label", title=f"least like the others{which}", title_justify="left")
        table.columns[0].justify = "right"
        table.columns[1].overflow = "fold"
        table.add_column("score", justify="right")
        for one in self.found[:LISTED]:
            table.add_row(f"{one.number}", Text(one.path), Text(one.label), f"{one.score:.4f}")
        yield table
        if self.auroc:
            yield self._classes()
            yield "AUROC: how often a sample of the class has a higher score than one of another; 50% is chance."
        yield from self.skipped
        yield from (f"written: {path}" for path in (self.picture, self.path))

    def _classes(self) -> Table:
        scores = list(next(iter(self.auroc.values())))
        ranked = sorted(self.auroc, key=lambda name: -self.auroc[name][scores[0]])
        more = f" (the first {LISTED} of {len(ranked)})" * (len(ranked) > LISTED)
        table = Table("class", title=f"do the scores tell a class from the others? AUROC{more}", title_justify="left")
        table.add_column("samples", justify="right")
        for score in scores:
            table.add_column(score, justify="right")
        for name in ranked[:LISTED]:
            table.add_row(
                Text(name), f"{self.sizes[name]:,}", *(f"{100 * value:.1f}%" for value in self.auroc[name].values())
            )
        return table


def outliers(
    run: str | Path,
    data: Any,
    *,
    n: int,
    k: int,
    out: Path,
    accelerator: str,
    about: About,
) -> Outliers:
    """Does what `unlabeled.api.outliers.outliers` says."""
    out = out / "outliers.csv" if out.is_dir() else out
    _check(n, k, out)
    opened_run = Run.judged(run)
    encoder = opened_run.encoder()
    samples = open_samples(opened_run, encoder, data, about)
    h, _ = represented(opened_run, encoder, samples, accelerator)
    good = np.flatnonzero(samples.good())
    if len(good) < 3:
        raise UserError(f"the data have {counted(len(good), samples.kind.nouns)} that can be read: give --data with more")
    nouns = counted(len(good), samples.kind.nouns)
    console().print(f"comparing {nouns} by their neighbours, isolation forest and local outlier factor", soft_wrap=True)
    scores = {"neighbours": unlike(h[torch.from_numpy(good)], min(k, len(good) - 1)), **detectors(h[good].numpy())}
    order = np.argsort(-scores["neighbours"], kind="stable")
    labels = [samples.label(int(i)) for i in good]
    found = [Outlier(int(good[i]), samples.path(int(good[i])), labels[i], float(scores["neighbours"][i])) for i in order[:n]]
    head = ("rank", "number", "path", "class", *scores)
    rows = (
        (rank, good[i], samples.path(int(good[i])), labels[i], *(f"{values[i]:.6g}" for values in scores.values()))
        for rank, i in enumerate(order, 1)
    )
    write_whole(out, lambda file: _write(file, [head, *rows]))
    picture = _draw(out.with_suffix(".png"), found, samples)
    auroc = told_apart(scores, labels)
    sizes = {name: labels.count(name) for name in auroc}
    return Outliers(found, auroc, sizes, out, picture, left_out(*samples.sources))


def _check(n: int, k: int, out: Path) -> None:
    """Refuses what cannot be found or drawn."""
    for name, value in (("n", n), ("k", k)):
        if value < 1:
            raise UserError(f"{name} is {value}, and must be at least 1")
    if n > MOST:
        raise UserError(f"n is {n}, and a picture shows {MOST} at most: give --n {MOST} or less; the CSV has all samples")
    if out.suffix.lower() != ".csv":
        raise UserError(f"cannot write to {str(out)!r}: give a name that ends in .csv")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {str(out.parent)!r}: make it, or write elsewhere")


def unlike(h: Tensor, k: int) -> Array:
    """Computes 1 - the mean cosine of each of h (n, D), of length 1, to the k others that are nearest: (n,), in [0, 2]. The
    distance to nearest neighbours is a common score of novelty (Ramaswamy et al. 2000, "Efficient Algorithms for Mining
    Outliers from Large Data Sets")."""
    cosine, position = nearest(h, h, k + 1)
    itself = position == torch.arange(len(h))[:, None]
    itself[~itself.any(1), -1] = True  # more than k copies of it
    return 1 - cosine[~itself].view(len(h), k).mean(1).numpy()


def detectors(h: Array) -> dict[str, Array]:
    """Computes how unlike the others each of h (n, D) is by scikit-learn's detectors, with their defaults: (n,) each.

    `isolation forest` (Liu, Ting and Zhou 2008), `local outlier factor` (Breunig et al. 2000).
    """
    forest = IsolationForest(random_state=0).fit(h)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Duplicate values")  # copies are no outliers, whatever their factor
        local = LocalOutlierFactor(n_neighbors=min(NEIGHBOURS, len(h) - 1)).fit(h)
    return {"isolation forest": -forest.score_samples(h), "local outlier factor": -local.negative_outlier_factor_}


def told_apart(scores: Mapping[str, Array], labels: Sequence[str]) -> dict[str, dict[str, float]]:
    """Returns the AUROC of each class against the others that have a label, by each score; of two classes that of the
    smaller one alone, as the other's is 1 less that. Nothing where fewer than two have a label."""
    names = np.array(labels, object)
    classes = sorted(set(labels) - {""}, key=lambda name: int((names == name).sum()))
    if len(classes) < 2:
        return {}
    return {
        name: {
            score: auc(values[names == name], values[(names != name) & (names != "")]) for score, values in scores.items()
        }
        for name in (classes if len(classes) > 2 else classes[:1])
    }


def _draw(path: Path, found: Sequence[Outlier], samples: Samples) -> Path:
    tiles = [
        Tile(
            samples.picture(one.number),
            [*([one.label] if one.label else []), f"{one.score:.3f}", f"{samples.kind.noun} {one.number}"],
        )
        for one in found
    ]
    return draw_tiles(path, tiles, f"least like the others of {samples.name}, by distance to their nearest neighbours")


def _write(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
