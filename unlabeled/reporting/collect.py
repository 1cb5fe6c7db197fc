"""What a report says of one run: everything its folder holds, and pictures of its data where that can be opened."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image

from unlabeled import registry
from unlabeled.about import About, of_limit
from unlabeled.data import Data, open_data
from unlabeled.data.kinds.kind import build
from unlabeled.errors import UserError
from unlabeled.evaluating.evaluate import marked
from unlabeled.evaluating.evaluation import held
from unlabeled.evaluating.reading import kind_of, roles_of, tell_other
from unlabeled.forms import MAP, RANKING, FormError, read_json
from unlabeled.probes.score import of_file
from unlabeled.reporting.images import TYPES, file_uri, filters, picture_uri
from unlabeled.reporting.makes import made_sheet
from unlabeled.reporting.neighbours import Row, rows
from unlabeled.reporting.scatter import Scatter, scatter
from unlabeled.reporting.tables import sentences
from unlabeled.run import ENCODER, Run
from unlabeled.training.setup import shape_of
from unlabeled.views.sheet import contact_sheet
from unlabeled.words import counted

MAPS = {"tsne": "t-SNE", "umap": "UMAP"}
"""Protocols that lay images out in the plane, and what they are called."""
RANKED = {"retrieval": "Retrieval"}
"""Those that rank images."""
PICTURES = "pictures"
FILES = ("evaluation", "transfer")
"""What `evaluate` writes of one set of images, and of several."""

T = TypeVar("T")

SHEET_IMAGES = 6
"""Rows of the contact sheet: as many as fit a screen."""


@dataclass(frozen=True)
class Picture:
    """A picture and what it is."""

    name: str
    uri: str


@dataclass(frozen=True)
class Drawn:
    """What a protocol wrote: its file without suffix, an id for the page, and what it is called, with its options."""

    file: str
    name: str
    title: str


@dataclass(frozen=True)
class Map(Drawn):
    """A map."""

    scatter: Scatter


@dataclass(frozen=True)
class Ranking(Drawn):
    """Queries and what is nearest to each."""

    rows: list[Row]


class Opener:
    """Opens data, each once, for the runs of a report; of what was evaluated as many samples as `evaluate` was told to take,
    0 for all."""

    def __init__(self, data: Any, about: About) -> None:
        self.data, self.about, self.limit = data, about, of_limit(about)
        self.opened: dict[tuple[Any, ...], Data] = {}

    def open(self, run: Run, recorded: str) -> Data:
        """Returns the data that the user gave, else that which the run's folder names.

        Raises:
            UserError: it cannot be opened.
        """
        named = recorded if self.data is None else self.data
        if isinstance(named, str) and not named:
            raise UserError("the run was trained on arrays, which it did not keep")
        own = str(named) == run.recipe.data
        named = run.data if own else named
        recipe, channels = run.recipe, run.environment["data"]["channels"]
        label = self.about.get("label")
        about: About = {**self.about, "limit": recipe.limit, "label": None} if own else {**self.about, "limit": None}
        kind, roles = kind_of(run, about), roles_of(run, about, elsewhere=True, views=True)
        key = (str(named), str(kind), recipe.seed, channels, roles, run.split, label)
        if key not in self.opened:
            opened = open_data(
                named, kind=kind, channels=channels, root=about.get("root"), seed=recipe.seed, roles=roles, split=run.split
            )
            if own and opened.same_as(run.environment["data"]) is False:
                tell_other(opened.train)
            self.opened[key] = opened.labelled_by(label) if own and label is not None else opened
        return self.opened[key]

    def evaluated(self, run: Run, recorded: str) -> Data:
        """Returns what of it `evaluate` took."""
        return self.open(run, recorded).limited(self.limit, run.recipe.seed)


@dataclass
class Told:
    """One run, for the template.

    Attributes:
        name: as the page calls it.
        run: its folder.
        prefix: of ids in the page.
        data: where images come from.
        missing: why something is not shown, in sentences.
    """

    name: str
    run: Run
    prefix: str
    data: Opener
    missing: list[str] = field(default_factory=list)

    @cached_property
    def every(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """What `evaluate` wrote of one set of images, and of several: of transfer to them."""
        found = [self._read(self.run.path / f"{name}{self._more}.json", held) or ([], []) for name in FILES]
        alone = [one for of_one, _ in found for one in of_one]
        several = [one for _, of_several in found for one in of_several]
        failed = [(name, why) for one in [*alone, *several] for name, why in one.get("failed", {}).items()]
        self.missing += [f"Not judged by {name}: {why}" for name, why in failed]
        return alone, several

    @property
    def evaluations(self) -> list[dict[str, Any]]:
        """Those with tables of all figures, of one set of images each."""
        return self.every[0]

    @property
    def transfer(self) -> list[dict[str, Any]]:
        """Those that share a table."""
        return self.every[1]

    @property
    def evaluation(self) -> dict[str, Any]:
        """The first of all, empty if there is none."""
        return next(iter([*self.evaluations, *self.transfer]), {})

    @cached_property
    def answer(self) -> list[str]:
        """The sentences that each evaluation opens with; of what data, where there are several; what to do where there is
        none."""
        every = [*self.evaluations, *self.transfer]
        several = len(every) > 1
        said = [f"{one.get('data')}: {said}" if several else str(said) for one in every for said in sentences(one)]
        by = f" --label {shlex.quote(str(self.data.about.get('label')))}" if self._more else ""
        asked = f"unlabeled evaluate {self.run.path}{by}"
        said = said or [f"Not evaluated with labels yet: {asked} says whether pretraining helped."]
        state = [words[0].upper() + words[1:] for words in (self.run.unfinished, self.run.alarm) if words]
        return [*(words for words in state if words not in said), *said]

    @property
    def commands(self) -> list[tuple[str, str]]:
        """What was typed, and what to type to repeat it."""
        typed = [("Trained with", self.run.environment["command"])] if self.run.environment.get("command") else []
        for one in [*self.evaluations, *self.transfer]:
            typed += [("Evaluated with", words) for words in one.get("commands", [one.get("command")]) if words]
        found = list(dict.fromkeys((title, _command(words)) for title, words in typed))
        repeat = "Repeat with the recipe below, saved as recipe.yaml"
        if not self.run.recipe.data:
            given = f"{repeat}, in Python, where the data (arrays or a Dataset, of which no copy is kept) were given"
            return [*found, (given, 'unlabeled.pretrain(data, recipe="recipe.yaml", out="runs/again")')]
        return [*found, (repeat, "unlabeled pretrain --recipe recipe.yaml --out runs/again")]

    @property
    def facts(self) -> dict[str, str]:
        """Data, seed, hardware and versions in words."""
        about, recipe = self.run.environment, self.run.recipe
        data, hardware = about.get("data", {}), about.get("hardware", {})
        last = self.run.history[-1:]
        found = {
            "Data": f"{data.get('name') or 'arrays'}",
            "Images": f"{data.get('train', 0):,} to train on, {data.get('test') or 0:,} to test on"
            + ", held out of the only split by the seed" * bool(data.get("held_out")),
            "Size": f"{' × '.join(map(str, data.get('native', [])))} px, {counted(data.get('channels') or 0, 'channels')}; "
            f"views of {build(recipe.kind).views()}",
            "Classes": ", ".join(map(str, data.get("classes", []))) or "none",
            "Fingerprint of the data": str(data.get("fingerprint", "")),
            "Seed": str(recipe.seed),
            "Trained": f"{last[0]['epoch']:g} of {counted(recipe.epochs, 'epochs')}"
            if last and "epoch" in last[0]
            else "not yet",
            "Processor": f"{hardware.get('processor')}, {counted(hardware.get('cores') or 0, 'cores')}, "
            f"{counted(hardware.get('threads') or 0, 'threads')}",
            "GPU": ", ".join(hardware.get("gpu", [])) or "none",
        }
        kept = self.run.kept
        which = [said for said in (kept.looks, kept.early) if said] if kept else []
        found |= {"Encoder": f"of epoch {kept.epoch:g}" + "".join(f"; {said}" for said in which)} if kept else {}
        peak = next((line["peak_memory_mib"] for line in self.run.history if "peak_memory_mib" in line), None)
        if peak:
            found["Peak memory"] = f"{peak:,.0f} MiB"
        versions = about.get("versions", {})
        return found | {"Versions": ", ".join(f"{name} {version}" for name, version in versions.items())}

    @cached_property
    def recipe(self) -> str:
        """The resolved recipe, as YAML."""
        return self.run.recipe.to_yaml()

    @cached_property
    def views(self) -> Picture | None:
        """The contact sheet of the run's own policy on its own data."""
        return self._try("The views are not drawn", self._views)

    @cached_property
    def makes(self) -> Picture | None:
        """What the method makes of the run's own images."""
        return self._try("What the method makes is not drawn", self._makes)

    @cached_property
    def maps(self) -> list[Map]:
        """Of the protocols that draw one, with images where the data can be opened."""
        made = [(drawn, self._map(drawn, found)) for drawn, found in self._drawn_by(MAPS)]
        return [Map(drawn.file, drawn.name, drawn.title, scatter) for drawn, scatter in made if scatter]

    @cached_property
    def rankings(self) -> list[Ranking]:
        """Queries and their nearest."""
        made = []
        for drawn, found in self._drawn_by(RANKED):
            draw = partial(lambda found: rows(found, self.data.evaluated(self.run, self._evaluated_on)), found)
            ranked = self._try(f"The rows of {drawn.title} are not drawn", draw)
            made += [Ranking(drawn.file, drawn.name, drawn.title, ranked)] if ranked else []
        return made

    @cached_property
    def filters(self) -> Picture | None:
        """The first layer's."""
        if not (self.run.path / ENCODER).is_file():
            return None
        drawn = self._try("The filters are not drawn", lambda: filters(self.run.encoder()))
        return Picture(f"{drawn[1]} filters", picture_uri(drawn[0])) if drawn else None

    @cached_property
    def pictures(self) -> list[Picture]:
        """What else protocols drew."""
        shown = {made.file for made in [*self.maps, *self.rankings]}
        return [Picture(p.name, file_uri(p)) for p in self._files if p.suffix.lower() in TYPES and p.stem not in shown]

    @property
    def _more(self) -> str:
        """What stands in the names of files that were written of the column that is asked for."""
        return marked(self.run, self.data.about.get("label"))

    @property
    def _evaluated_on(self) -> str:
        return str(self.evaluation.get("data") or self.run.recipe.data)

    @property
    def _files(self) -> list[Path]:
        folder = self.run.path / (f"{FILES[0]}{self._more}-{PICTURES}" if self._more else PICTURES)
        return sorted(folder.iterdir()) if folder.is_dir() else []

    def _map(self, drawn: Drawn, found: Mapping[str, Any]) -> Scatter | None:
        without = f"The {drawn.title} map has no images"
        prefix = f"{self.prefix}-{drawn.name}"
        data = self._try(without, lambda: self.data.evaluated(self.run, self._evaluated_on))
        if data is not None and data.test is not None:
            pointed = self._try(without, lambda: scatter(found, data.test, prefix))
            if pointed is not None:
                return pointed
        return self._try(f"The {drawn.title} map is not drawn", lambda: scatter(found, None, prefix))

    def _views(self) -> Picture:
        recipe = self.run.recipe
        source = self.data.open(self.run, recipe.data).train
        self.run.needs("views")
        policy = registry.build("views", recipe.views, shape_of(recipe, source))
        chosen = np.random.default_rng(recipe.seed).permutation(len(source))[:SHEET_IMAGES]
        with tempfile.TemporaryDirectory() as folder:
            seed = torch.Generator().manual_seed(recipe.seed)
            path = contact_sheet(
                source.fetch(chosen),
                policy,
                seed,
                Path(folder) / "views.png",
                pictures=partial(source.kind.pictures, form=source.form),
                shown=partial(source.kind.shown, form=source.form),
            )
            with Image.open(path) as sheet:
                return Picture(f"{recipe.views.name} on {source.name}", picture_uri(sheet.convert("RGB")))

    def _makes(self) -> Picture | None:
        source = self.data.open(self.run, self.run.recipe.data).train
        sheet = made_sheet(self.run, source)
        return Picture(f"{self.run.recipe.method.name} on {source.name}", picture_uri(sheet)) if sheet else None

    def _drawn_by(self, protocols: Mapping[str, str]) -> Iterator[tuple[Drawn, dict[str, Any]]]:
        """What protocols wrote, in their order, each with every set of options that was asked for."""
        for path in sorted(self._files, key=lambda path: path.stem):
            protocol, options = of_file(path.stem)
            if path.suffix != ".json" or protocol not in protocols:
                continue
            form = MAP if protocol in MAPS else RANKING
            if (found := self._read(path, partial(read_json, form=form))) is not None:
                title = protocols[protocol] + f" ({options})" * bool(options)
                yield Drawn(path.stem, re.sub(r"\W", "-", path.stem), title), found

    def _read(self, path: Path, read: Callable[[Path], T]) -> T | None:
        try:
            return read(path)
        except FormError as error:
            self.missing.append(f"{path.name} cannot be read ({error}): evaluate again.")
            return None

    def _try(self, otherwise: str, make: Callable[[], T]) -> T | None:
        """What `make` gives; where it cannot, the reason is noted for the page."""
        try:
            return make()
        except UserError as error:
            self.missing.append(f"{otherwise}: {error}.")
        except (KeyError, TypeError, ValueError) as error:
            self.missing.append(f"{otherwise}: the file is not as expected ({type(error).__name__}: {error}).")
        return None


def _command(words: list[str]) -> str:
    first, *rest = words
    return shlex.join(["unlabeled" if first == "__main__.py" else first, *rest])


def named(runs: Mapping[Path, Run]) -> Iterator[tuple[str, Run]]:
    """Runs with the shortest name that tells them apart: the folder's, or its whole path."""
    names = [path.resolve().name for path in runs]
    for path, run in runs.items():
        name = path.resolve().name
        yield (name if names.count(name) == 1 else str(path)), run
