"""The verb `inspect`: what is in the data, what is wrong with it, and what to begin with."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from unlabeled.about import About, of_kind, of_roles
from unlabeled.console import EveryMinute, console, text
from unlabeled.data import Source, open_data
from unlabeled.data.split import HELD_OUT
from unlabeled.errors import UserError
from unlabeled.files import cannot_write, write_whole
from unlabeled.inspecting import columns, pictures, words
from unlabeled.inspecting.advice import Advice, advise
from unlabeled.inspecting.census import Census, pictures_of, take
from unlabeled.inspecting.clean import check_clean, without_copies, write_clean
from unlabeled.inspecting.columns import Described
from unlabeled.inspecting.duplicates import Thumbnails
from unlabeled.inspecting.leakage import Copies, find
from unlabeled.inspecting.pace import measure
from unlabeled.notebook import html
from unlabeled.recipe import Roles
from unlabeled.registry import Choice

SAMPLE = 5000
"""Images that the components of the thumbnails are taken from, at most."""

Tell = Callable[[int], None]


@dataclass(frozen=True, repr=False)
class Inspection:
    """What was found.

    Attributes:
        censuses: by the name of the split; `all` where there is but one.
        copies: images that are there twice.
        advice: what to begin with.
        columns: of the data.
        said: what is to be said of columns, labels and groups.
        written: the files.
    """

    censuses: Mapping[str, Census]
    copies: Copies
    advice: Advice
    columns: list[Described]
    said: list[str]
    written: list[Path]

    def __str__(self) -> str:
        return text(self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        drawn = [path for path in self.written if path.suffix == ".png"]
        return html(self.lines(), drawn[0] if drawn else None)

    def lines(self) -> Iterator[RenderableType]:
        """Returns what a terminal shows."""
        yield from words.lines(self.censuses, self.copies, self.advice, self.columns, self.said)
        yield f"written: {', '.join(map(str, self.written))}"

    def json(self) -> dict[str, Any]:
        """Returns what `inspect.json` holds."""
        near = self.copies.near
        exactly, nearly = self.copies.leaked
        criterion = near and {"threshold": near.threshold, "dimension": near.dimension, "expected_by_chance": near.expected}
        return {
            "splits": {name: _split(census) for name, census in self.censuses.items()},
            "duplicates": {
                "test_images_in_train": {"exact": exactly, "near": nearly},
                "near": criterion,
                "pairs": [_pair(pair) for pair in self.copies.pairs],
            },
            "columns": [column.json() for column in self.columns],
            "warnings": [*self.said, *words.warnings(self.censuses, self.copies)],
            "suggestion": self.advice.json(),
        }


def inspect(
    data: Any,
    *,
    minutes: float,
    clean: Path | None,
    out: Path,
    accelerator: str,
    about: About,
) -> Inspection:
    """Does what `unlabeled.api.inspect` says."""
    if not 0 < minutes < math.inf:
        raise UserError(f"--minutes is {minutes}, and must be above 0")
    if out.exists() and not out.is_dir():
        raise UserError(f"{str(out)!r} is a file: give a folder as --out")
    given, roles, root = of_kind(about), Roles().given(**of_roles(about)), about.get("root")
    kind = about.get("kind") or ""
    how = partial(open_data, data, root=root, seed=None, roles=roles)
    opened = whole = how(kind=Choice(kind, given))
    if opened.train.form.fit == "crop" and opened.train.form.how:  # copies are of whole pictures
        whole = how(kind=Choice(kind, {**given, "fit": "stretch"}))
    sources: dict[str, Source] = {"train": whole.train, "test": whole.test} if whole.test else {"all": whole.train}
    if clean is not None:
        check_clean(clean, sources)
    with _progress() as stage:
        thumbnails = Thumbnails().fit(_sample(list(sources.values()), stage))
        censuses = {name: take(s, thumbnails, stage(f"{name}: reading", len(s))) for name, s in sources.items()}
        copies = find(censuses, stage("looking for copies", sum(map(len, censuses.values()))))
        stage("measuring steps", 1)
        name = str(clean or data) if isinstance(clean or data, str | Path) else "DATA"
        described = columns.describe(sources)
        group = roles.group or (None if opened.test or opened.group else columns.advised(described, opened.train))
        known = roles if clean is None else Roles()  # the list has all columns, by names that need not be said
        given_columns = {"label": known.label, "group": group, "columns": known.columns}
        of_columns = {name: value for name, value in given_columns.items() if value}
        more = f"{_words(of_columns)}{_words(_repeated(about, accelerator))}"
        n = len(opened.train) if clean is None else len(without_copies(censuses, copies)[next(iter(censuses))])
        trained = n if opened.test else n - round(HELD_OUT * n)
        advice = advise(
            opened.train, trained, data=name, columns=of_columns, minutes=minutes, more=more,
            measure=lambda recipe: measure(recipe, opened.train, accelerator),
        )  # fmt: skip
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(out, error) from error
    said = opened.remarks() + ([] if opened.group else columns.warnings(described, sources))
    said += [write_clean(clean, censuses, copies)] if clean is not None else []
    drawn = pictures.draw(out, censuses, copies)
    path = out / "inspect.json"
    found = Inspection(censuses, copies, advice, described, said, [path, *drawn, *([clean] if clean else [])])
    text = json.dumps(found.json(), indent=1, ensure_ascii=False) + "\n"
    write_whole(path, lambda p: p.write_text(text, encoding="utf-8", errors="backslashreplace"))
    return found


def _repeated(about: About, accelerator: str) -> dict[str, Any]:
    """What was said here beside the columns, and holds for the suggested command as well."""
    said = {"root": about.get("root"), "accelerator": "" if accelerator == "auto" else accelerator}
    said |= {"kind": about.get("kind")} | {f"kind.{option}": value for option, value in of_kind(about).items()}
    return said | {name: of_roles(about)[name] for name in ("path", "split", "limit", "invariances")}


def _words(options: Mapping[str, Any]) -> str:
    """Those that have a value, as they are typed."""
    return "".join(f" --{name} {shlex.quote(str(value))}" for name, value in options.items() if value)


def _sample(sources: list[Source], stage: Callable[[str, int], Tell]) -> Iterator[torch.Tensor]:
    """Batches of up to 5,000 images, evenly spread over all splits."""
    total, done = sum(map(len, sources)), 0
    share, tell = min(1.0, SAMPLE / total), stage("looking at some", min(SAMPLE, total))
    for source in sources:
        places = np.unique(np.linspace(0, len(source) - 1, math.ceil(share * len(source))).astype(np.int64))
        for part in np.array_split(places, math.ceil(len(places) / 128)):
            yield pictures_of(source, source.fetch(part))
            done += len(part)
            tell(done)


def _split(census: Census) -> dict[str, Any]:
    source = census.source
    names = [*source.classes, None]
    present = [c for c in range(len(names)) if census.counts[c] or c < len(source.classes)]
    pooled = census.histogram.sum(0)
    return {
        "images": len(census),
        "unreadable": [{"path": s.path, "reason": s.reason} for s in source.skipped],
        "damaged": [{"path": s.path, "reason": s.reason} for s in source.damaged],
        "labelled": int((census.labels >= 0).sum()),
        "channels": source.channels,
        "kept_at": source.size,
        "sizes": words.sizes(census),
        "blank": census.blank,
        "mean": words.mean(pooled).tolist(),
        "std": words.std(pooled).tolist(),
        "classes": [
            {
                "name": names[c],
                "images": int(census.counts[c]),
                "entropy_bits": None if math.isnan(census.entropy[c]) else float(census.entropy[c]),
                "mean": words.mean(census.histogram[c]).tolist(),
                "std": words.std(census.histogram[c]).tolist(),
                "histogram": pictures.bins(census.histogram[c]).tolist(),
            }
            for c in present
        ],
    }


def _pair(pair: Any) -> dict[str, Any]:
    sides = zip(pair.splits, pair.indices, pair.paths, pair.classes, strict=True)
    images = [{"split": s, "index": i, "path": p, "class": c} for s, i, p, c in sides]
    return {"kind": "exact" if pair.exact else "near", "ratio": pair.ratio, "images": images}


@contextmanager
def _progress() -> Iterator[Callable[[str, int], Tell]]:
    """A bar, or lines in a log file; called with what is done next and its amount, it gives what tells how far that is."""
    columns = (BarColumn(None), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task, minutes = bar.add_task(""), EveryMinute(bar.console)

        def stage(said: str, total: int) -> Tell:
            bar.reset(task, description=said, total=total)
            minutes.begin(0)

            def tell(done: int) -> None:
                bar.update(task, completed=done)
                minutes(done, total, lambda: f"{said}, {done:,} of {total:,}")

            return tell

        yield stage
