"""A list of the images without copies: of those that are one, one is kept."""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unlabeled.data import Source
from unlabeled.data.columns import numbered
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.inspecting.census import Census
from unlabeled.inspecting.leakage import Copies

Place = tuple[str, int]
"""Name of a split and position in it."""


def check_clean(path: Path, sources: Mapping[str, Source]) -> None:
    """Refuses what no list can be written of or to, before anything long is begun.

    Raises:
        UserError: another suffix, no such folder, or samples that are no files.
    """
    if path.suffix.lower() != ".csv":
        raise UserError(f"cannot write the list to {str(path)!r}: give a name that ends in .csv")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r}: make it, or write elsewhere")
    for source in sources.values():
        if not Path(source.path(0)).is_file():
            raise UserError(
                f"--clean lists files, and {source.name!r} has none ({source.path(0)!r} is one of its "
                f"{source.kind.nouns}): unpack it to a folder"
            )


def without_copies(censuses: Mapping[str, Census], copies: Copies) -> dict[str, list[int]]:
    """Returns which images of each split are kept, by position: those of the test split first, then in their order, each
    unless it is a copy, exact or near, of one that is kept."""
    first: dict[Place, Place] = {}  # of each exact copy
    near: dict[Place, set[Place]] = defaultdict(set)  # between such first ones
    for pair in copies.pairs:
        a, b = zip(pair.splits, pair.indices, strict=True)
        if pair.exact:
            first[b] = a
        else:
            near[a].add(b)
            near[b].add(a)
    kept: dict[str, list[int]] = {name: [] for name in censuses}
    there: set[Place] = set()
    for name, census in reversed([*censuses.items()]):
        for index in census.positions.tolist():
            picture = first.get((name, index), (name, index))
            if not there & {picture, *near[picture]}:
                there.add(picture)
                kept[name].append(index)
    return kept


def write_clean(path: Path, censuses: Mapping[str, Census], copies: Copies) -> str:
    """Writes the list of what is kept, with the columns path, label, split and those of the data, and says what is not.

    Files below the folder of the list are named relative to it, others absolutely.
    """
    kept = without_copies(censuses, copies)
    labelled = any(census.source.classes for census in censuses.values())
    train = next(iter(censuses.values())).source
    others = [name for name in train.columns if name not in (train.label, "path", "label", "split")]
    rows = [["path", *["label"] * labelled, *["split"] * (len(censuses) > 1), *others]]
    for name, census in censuses.items():
        source = census.source
        labels = np.full(len(source), -1) if source.labels is None else source.labels
        cells = [[*np.array([*source.classes, ""], object)[labels]]] * labelled
        cells += [[name] * len(source)] * (len(censuses) > 1) + [_cells(source, other) for other in others]
        rows += [[_named(source.path(i), path), *(column[i] for column in cells)] for i in kept[name]]

    def write(file: Path) -> None:
        with file.open("w", encoding="utf-8", errors="surrogateescape", newline="") as opened:
            csv.writer(opened, lineterminator="\n").writerows(rows)

    write_whole(path, write)
    left = {name: len(census.source) - len(kept[name]) for name, census in censuses.items()}
    words = " and ".join(f"{count:,} of {len(censuses[name].source):,} of {name}" for name, count in left.items())
    return f"{path} lists the {train.kind.nouns} without copies: left out are {words}, those that cannot be read among them."


def _named(place: str, listed: Path) -> str:
    """A file, as a list names it."""
    absolute, folder = os.path.abspath(place), os.path.abspath(listed.parent)  # noqa: PTH100
    inside = os.path.commonpath([absolute, folder]) == folder
    return os.path.relpath(absolute, folder) if inside else absolute


def _cells(source: Source, name: str) -> list[str]:
    """A column as text, "" where there is no value."""
    if name not in source.columns:
        return [""] * len(source)
    which, values = numbered(source.columns[name])
    return [*np.array([*values, ""], object)[which]]
