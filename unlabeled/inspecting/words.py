"""What `inspect` says: tables, and in sentences what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from unlabeled.inspecting.advice import Advice
from unlabeled.inspecting.census import Census
from unlabeled.inspecting.columns import Described
from unlabeled.inspecting.duplicates import Near
from unlabeled.inspecting.leakage import Copies, Pair
from unlabeled.words import counted

CLASSES, PAIRS = 20, 10
"""Rows of a table in the terminal; `inspect.json` has them all."""

Array = np.ndarray[Any, Any]


def lines(
    censuses: Mapping[str, Census], copies: Copies, advice: Advice, columns: Sequence[Described], said: Sequence[str]
) -> Iterator[RenderableType]:
    """Returns what a terminal shows: tables, sentences, the suggestion and its command line."""
    yield _splits(censuses)
    yield ""
    yield _classes(censuses)
    yield ""
    if columns:
        yield _columns(list(censuses), columns)
        yield ""
    yield _duplicates(censuses, copies)
    if copies.near:
        yield _criterion(copies.near)
    yield from (_line(pair) for pair in copies.some(PAIRS))
    if len(copies.pairs) > PAIRS:
        yield f"... and {counted(len(copies.pairs) - PAIRS, 'more pairs')}, in inspect.json"
    yield ""
    found = [*said, *warnings(censuses, copies)]
    yield from (f"- {one}" for one in found or ["Nothing stands out."])
    yield ""
    yield Text("To begin with", "bold")
    yield from (f"- {reason}" for reason in advice.reasons)
    yield ""
    yield advice.command


def warnings(censuses: Mapping[str, Census], copies: Copies) -> list[str]:
    """Returns what is wrong with the data, or may be, in sentences."""
    first, *rest = censuses.values()
    nouns = first.source.kind.nouns
    said = [*_leakage(censuses, copies)]
    if copies.wrong:
        said.append(
            f"Pairs of copies whose labels differ: {copies.wrong:,}. Where they are copies, one of the labels is wrong."
        )
    counts = first.counts[:-1]
    if len(counts) and counts.min() * 10 <= counts.max():
        rare, common = (_cut(first.source.classes[i]) for i in (int(counts.argmin()), int(counts.argmax())))
        said.append(
            f"Classes are uneven: {counted(counts.max(), nouns)} of {common}, {counts.min():,} of {rare}. Accuracy "
            "then says little of rare classes."
        )
    for test in rest:
        missing = [c for c, a, b in zip(first.source.classes, counts, test.counts, strict=False) if a and not b]
        if missing and (test.labels >= 0).any():
            shown = [*map(_cut, missing[:10]), *["..."] * (len(missing) > 10)]
            said.append(f"Classes that are not in the test split: {', '.join(shown)}")
    blank = sum(census.blank for census in censuses.values())
    bad = sum(len(census.source.skipped) for census in censuses.values())
    if blank:
        said.append(f"{nouns.capitalize()} of a single value: {blank:,}. Nothing can be learned from them.")
    if bad:
        said.append(
            f"{nouns.capitalize()} that cannot be read: {bad:,}. They are left out; inspect.json lists them as `unreadable`."
        )
    damaged = sum(len(census.source.damaged) for census in censuses.values())
    if damaged:
        said.append(
            f"{nouns.capitalize()} that are damaged: {damaged:,}. They are used as far as they can be decoded; inspect.json "
            "lists them as `damaged`."
        )
    return said


def _leakage(censuses: Mapping[str, Census], copies: Copies) -> Iterator[str]:
    exactly, nearly = copies.leaked
    nouns = next(iter(censuses.values())).source.kind.nouns
    if exactly or nearly:
        tested = len(censuses["test"])
        kinds = [f"{exactly:,} exactly"] * bool(exactly) + [f"{nearly:,} nearly"] * bool(nearly)
        share = (exactly + nearly) / tested
        yield (
            f"Leakage: {exactly + nearly:,} of {tested:,} test {nouns} ({share:.1%}) are in train as well "
            f"({', '.join(kinds)}). Take them out of train; pairs are listed in inspect.json."
        )
    elif len(censuses) == 1 and copies.pairs:
        yield (
            f"Pairs of copies, and no test split: {len(copies.pairs):,}. One held out at random would share {nouns} with "
            "training: `inspect --clean list.csv` writes a list without them, to be trained on; or split by hand."
        )
    if copies.near is None:
        alike = f"to tell near-duplicates from {nouns} that are alike"
        yield f"Too few different {nouns} {alike}: only exact ones were looked for."


def mean(histogram: Array) -> Array:
    """Computes the mean (C,) of values in [0, 1], from histograms (C, 256); NaN without images."""
    total = histogram.sum(-1)
    found: Array = np.divide(histogram @ np.arange(256) / 255, total, out=np.full(len(total), np.nan), where=total > 0)
    return found


def std(histogram: Array) -> Array:
    """Computes likewise the standard deviation (C,)."""
    total = histogram.sum(-1)
    square = np.divide(
        histogram @ (np.arange(256) / 255) ** 2, total, out=np.full(len(total), np.nan), where=total > 0
    )  # fmt: skip
    found: Array = np.sqrt(np.maximum(square - mean(histogram) ** 2, 0))
    return found


def sizes(census: Census) -> dict[str, Any]:
    """Tells the smallest, the median and the largest native size of those looked at, each that of one sample: height and
    width, by their product; of a recording numbers and rate, by its seconds."""
    found = census.sizes
    if not len(found):
        return {"looked_at": 0}
    extent = found[:, 0] / found[:, 1] if census.source.form.rate else found.prod(1)
    order = np.argsort(extent, kind="stable")
    about = {"smallest": found[order[0]], "median": found[order[len(order) // 2]], "largest": found[order[-1]]}
    return {"looked_at": len(found), **{k: v.tolist() for k, v in about.items()}}


def _nouns(censuses: Mapping[str, Census]) -> str:
    return next(iter(censuses.values())).source.kind.nouns


def _size(census: Census, found: Sequence[int] | None) -> str:
    """Native size of a sample: `640×480×3`; of a recording its seconds."""
    if found is None:
        return "–"
    if census.source.form.rate:
        return f"{found[0] / found[1]:.3g} s"
    return f"{found[0]}×{found[1]}×{census.source.channels}"


def _splits(censuses: Mapping[str, Census]) -> Table:
    table = _table("split", _nouns(censuses), "labelled", "classes", "size", "mean", "std")
    for name, census in censuses.items():
        size = sizes(census)
        pooled = census.histogram.sum(0)
        seen = [_size(census, size.get(k)) for k in ("smallest", "median", "largest")]
        spread = seen[1] if len(set(seen)) == 1 else f"{seen[1]} ({seen[0]} to {seen[2]})"
        table.add_row(
            name, f"{len(census):,}", f"{(census.labels >= 0).sum():,}", f"{(census.counts[:-1] > 0).sum():,}", spread,
            _numbers(mean(pooled)), _numbers(std(pooled)),
        )  # fmt: skip
    return table


def _classes(censuses: Mapping[str, Census]) -> Table:
    """Counts and entropy of each class, the splits side by side; the largest classes first, if there are many."""
    first = next(iter(censuses.values()))
    names = [*map(_cut, first.source.classes), "no label" if first.source.classes else _nouns(censuses)]
    counts = np.sum([census.counts for census in censuses.values()], axis=0)
    shown = [c for c in range(len(names)) if counts[c] or c < len(names) - 1]
    left = len(shown) - CLASSES
    if left > 0:
        shown = sorted(shown, key=lambda c: -int(counts[c]))[:CLASSES]
    table = _table("class", *(f"{what}{_of(name)}" for name in censuses for what in (_nouns(censuses), "share", "bits")))
    for c in shown:
        row: list[str | Text] = [Text(names[c])]
        for census in censuses.values():
            bits = "–" if math.isnan(census.entropy[c]) else f"{census.entropy[c]:.2f}"
            share = census.counts[c] / max(1, len(census))
            row += [f"{census.counts[c]:,}", f"{share:.1%}", bits]
        table.add_row(*row)
    if left > 0:
        table.add_row(f"... and {left:,} more")
    return table


def _columns(names: list[str], columns: Sequence[Described]) -> Table:
    """Distinct values of each column, the splits side by side."""
    table = _table("column", "holds", *(f"values{_of(name)}" for name in names), *(["in both"] if len(names) > 1 else []))
    for one in columns:
        row: list[str | Text] = [Text(_cut(one.name) + " (label)" * one.label), one.holds]
        row += [f"{one.values[name]:,}" if name in one.values else "–" for name in names]
        table.add_row(*row, *(["–" if one.shared is None else f"{one.shared:,}"] if len(names) > 1 else []))
    return table


def _duplicates(censuses: Mapping[str, Census], copies: Copies) -> Table:
    names = list(censuses)
    columns = [(f"pairs within {name}", (name, name)) for name in names]
    columns += [(f"{a} and {b}", (a, b)) for a, b in pairwise(names)]
    table = _table("copies", *(title for title, _ in columns))
    for kind in ("exact", "near"):
        found = [f"{copies.count(kind == 'exact', *splits):,}" for _, splits in columns]
        table.add_row(kind, *(found if kind == "exact" or copies.near else ["–"] * len(columns)))
    return table


def _criterion(near: Near) -> str:
    return (
        f"near: at less than {near.threshold:.1g} times the distance to the 10th neighbour, as by chance "
        f"{near.expected:.1g} of all samples would be"
    )


def _line(pair: Pair) -> str:
    """Both images of a pair, by which they were found."""
    sides = zip(pair.splits, pair.paths, pair.classes, strict=True)
    first, second = (f"{split}: {path}" + (f" ({_cut(c)})" if c is not None else "") for split, path, c in sides)
    return f"{'exact' if pair.exact else f'{pair.ratio:.2f}'}  {first}  {second}"


def _table(first: str, *others: str) -> Table:
    table = Table(box=None)
    table.add_column(first, overflow="fold")
    for other in others:
        table.add_column(other, justify="right", overflow="fold")
    return table


def _numbers(values: Array) -> str:
    return "–" if np.isnan(values).any() else " ".join(f"{v:.2f}" for v in values)


def _of(split: str) -> str:
    return "" if split == "all" else f", {split}"


def _cut(name: str) -> str:
    """A class name in one short line."""
    whole = " ".join(name.split())
    return whole if len(whole) <= 30 else whole[:29] + "…"
