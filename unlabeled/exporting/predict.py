"""The verb `predict`: the classes of samples in a file."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.about import About
from unlabeled.data import Source, left_out
from unlabeled.errors import UserError
from unlabeled.evaluating.reading import open_for
from unlabeled.files import write_whole
from unlabeled.probes.extract import features
from unlabeled.run import Run
from unlabeled.training.setup import make_fabric


@dataclass(frozen=True)
class Predicted:
    """What was written.

    Attributes:
        path: the file.
        counts: samples of each class, the most frequent first.
        skipped: a line of the samples that cannot be read, and have no row; none if there are none.
        right: share of the labelled samples whose class is the one predicted; None without labels of the same names.
        largest: share of them that are of the largest class; None likewise.
    """

    path: Path
    counts: dict[str, int]
    skipped: list[str]
    right: float | None
    largest: float | None

    def lines(self) -> Iterator[str]:
        """Returns what a terminal shows."""
        yield f"written: {self.path}"
        yield ", ".join(f"{name}: {count:,}" for name, count in list(self.counts.items())[:10])
        if self.right is not None:
            beside = f"; {100 * self.largest:.1f}% are of the largest class" if self.largest is not None else ""
            yield f"{100 * self.right:.1f}% of the labelled samples have the class that is predicted{beside}"
        yield from self.skipped


def predict(
    run: str | Path,
    data: Any,
    out: Path,
    *,
    accelerator: str,
    batch_size: int,
    about: About,
) -> Predicted:
    """Does what `unlabeled.api.predict` says."""
    if out.suffix.lower() != ".csv":
        raise UserError(f"cannot write predictions to {str(out)!r}: give a name that ends in .csv")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {str(out.parent)!r}: make it, or write elsewhere")
    opened_run = Run.judged(run)
    classifier = opened_run.classifier()
    opened = open_for(opened_run, classifier.encoder.front.channels, data, about)
    device = make_fabric(opened_run.recipe, accelerator, 1).device
    classifier = classifier.to(device)
    rows: list[tuple[str, str, str]] = []
    true: list[str] = []
    right: list[bool] = []
    for source in (opened.train, opened.test):
        if source is None:
            continue
        probability = features(classifier, source, device=device, batch_size=batch_size).softmax(1).numpy()
        good = source.good()
        names = [classifier.classes[place] for place in probability.argmax(1)]
        rows += [(source.path(i), names[i], f"{probability[i].max():.6f}") for i in np.flatnonzero(good).tolist()]
        labelled = _labelled(source)
        true += labelled.values()
        right += [names[i] == name for i, name in labelled.items()]

    def write(file_path: Path) -> None:
        with file_path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("path", "class", "probability"), *rows])

    write_whole(out, write)
    counts = dict(Counter(name for _, name, _ in rows).most_common())
    shares = (float(np.mean(right)), max(Counter(true).values()) / len(true)) if true else (None, None)
    return Predicted(out, counts, left_out(opened.train, opened.test), *shares)


def _labelled(source: Source) -> dict[int, str]:
    """The class of each labelled sample that can be read, by its position."""
    if source.labels is None:
        return {}
    known = np.flatnonzero((source.labels >= 0) & source.good()).tolist()
    return {i: source.classes[source.labels[i]] for i in known}
