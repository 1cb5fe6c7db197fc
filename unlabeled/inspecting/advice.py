"""A first training for these samples and the time there is: a recipe, its command line, and the reasons."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch

from unlabeled.data import Source
from unlabeled.data.kinds.image import LARGEST, SMALLEST
from unlabeled.data.kinds.kind import build
from unlabeled.encoders.image import price, stem, work
from unlabeled.inspecting.pace import Pace
from unlabeled.parts.patches import SMALL
from unlabeled.recipe import ENCODER, Recipe, compose
from unlabeled.registry import Choice
from unlabeled.training.defaults import batch_size, composed, rests_on
from unlabeled.training.setup import resolved
from unlabeled.words import counted

EPOCHS, STEPS = 20, 600
"""A training with less of either is short: the project's own runs took 26 epochs on CIFAR-10 and 660 steps on digits."""
LONGEST = 1000
"""Epochs of the longest pretraining of SimCLR (Chen et al. 2020, figure 9)."""
IN_USE = 0.9
"""Share of the time that is left for steps: looks at kNN accuracy, checkpoints and start take the rest."""
NARROW = 16
"""Width of the ResNet of all runs on processors in `unlabeled/recipes/`; 64 is the paper's."""


@dataclass(frozen=True)
class Compared:
    """Images on which methods were compared: side in pixels, how many were trained on, and minutes of each training."""

    name: str
    side: int
    images: int
    minutes: float


COMPARED = {1: Compared("Fashion-MNIST", 28, 60_000, 17), 3: Compared("CIFAR-10", 32, 50_000, 8)}
"""By channels. On both, the default method was the best by linear probe (`results/`): none speaks for another yet."""
ALIKE = {"side": 2, "images": 4, "minutes": 4}
"""Factors within which data and time are taken for like those that were compared."""


@dataclass(frozen=True)
class Advice:
    """What to begin with.

    Attributes:
        recipe: resolved but for the data.
        command: the command line.
        pace: what was measured.
        minutes: that it takes.
        enough: whether the time allows for 20 epochs and 600 steps.
        needed: minutes for these.
        reasons: one sentence for each choice.
    """

    recipe: Recipe
    command: str
    pace: Pace
    minutes: float
    enough: bool
    needed: float
    reasons: list[str]

    def json(self) -> dict[str, Any]:
        """Returns everything as plain values."""
        speed = {"seconds_per_image": self.pace.seconds, "bytes_per_image": self.pace.bytes}
        about = {"minutes": self.minutes, "enough": self.enough, "minutes_needed": self.needed, "measured": speed}
        return {"command": self.command, "recipe": self.recipe.to_dict(), **about, "reasons": self.reasons}


def advise(
    source: Source,
    n: int,
    *,
    data: str,
    columns: Mapping[str, str] = MappingProxyType({}),
    minutes: float,
    measure: Callable[[Recipe], Pace],
    more: str = "",
) -> Advice:
    """Advises the largest of some trainings that comes to 20 epochs and 600 steps in the time; the smallest if none does.

    Args:
        source: the samples.
        n: how many of them are trained on.
        data: how the user calls it.
        columns: what the user says of them, as fields of a recipe.
        minutes: that the training may take.
        measure: says what a recipe takes.
        more: of the command line.
    """
    batch = batch_size(n)
    per_epoch = max(1, n // batch)
    wanted = max(EPOCHS, math.ceil(STEPS / per_epoch))
    pictures = source.kind.name == "image"
    method = {} if pictures else {"method": source.kind.method}
    for layer in ladder(source) if pictures else [{}]:
        said = {"data": data, **columns, **method, "batch_size": batch}
        recipe = resolved(composed(source, said, layer), source)
        pace = measure(recipe)
        epoch = pace.seconds * batch * per_epoch / 60 / IN_USE
        if minutes >= wanted * epoch:
            break
    epochs = max(1, min(LONGEST, int(minutes / epoch)))
    pieces = _pieces(pace, batch)
    recipe = replace(recipe, epochs=epochs, accumulate=pieces)
    given = {**layer, "batch_size": batch, **({"accumulate": pieces} if pieces > 1 else {}), "epochs": epochs}
    words = [f"--method {recipe.method.name} --encoder {recipe.encoder.name}"]
    words += [f"--{key.replace('_', '-')} {value}" for key, value in given.items()]
    command = f"unlabeled pretrain {shlex.quote(data)} {' '.join(words)}{more} --out runs/a"
    return Advice(
        recipe, command, pace, epochs * epoch, epochs >= wanted, wanted * epoch,
        [*(_sizes(source, recipe) if pictures else [f"Views: {build(recipe.kind).views()}."]), *_views(source, recipe),
         _batch(n, recipe, pace, source.kind.nouns),
         _method(source, n, minutes, recipe) if pictures else f"Method: {recipe.method.name}, made for {source.kind.nouns}.",
         *_time(epochs, epoch, wanted, minutes, pace, source.kind.nouns)],
    )  # fmt: skip


def ladder(source: Source) -> Iterator[dict[str, Any]]:
    """Returns trainings of these images, the costliest first: with the paper's width where there is an accelerator, narrow,
    and narrow on smaller views (Touvron et al. 2019: judged on larger images, these lose little)."""
    size = max(SMALLEST, min(LARGEST, source.size))
    if torch.accelerator.is_available():
        yield {"kind.size": size}
    yield {"encoder.width": NARROW, "kind.size": size}
    smaller = max(SMALLEST, 3 * size // 4 // 8 * 8) if size <= SMALL else max(SMALL + 8, size // 2 // 8 * 8)
    narrow = Choice(ENCODER, {"width": NARROW, "stem": "auto"})
    of_smaller, of_whole = (
        work(narrow, stem(narrow, source.channels, side), source.channels, side) for side in (smaller, size)
    )
    if of_smaller < of_whole:
        yield {"encoder.width": NARROW, "kind.size": smaller, "kind.eval_size": size}


def _views(source: Source, recipe: Recipe) -> list[str]:
    """Why the views are not the paper's, where they are not; and what they take to keep the meaning of an image."""
    paper = compose({"method": recipe.method.name}).views
    found = source.kind.usual(paper, source.form, source.invariances)
    rest = [said] if (said := rests_on(recipe.views, source, recipe.invariances)) else []
    if not found:
        return rest
    small = " Where the object of interest is small, give --views.scale 0.5,1." if "scale" in found[1] else ""
    return [f"Views: {found[0]}.{small}", *rest]


def _sizes(source: Source, recipe: Recipe) -> list[str]:
    size, judged = recipe.kind.options["size"], recipe.kind.options.get("eval_size")
    said = [f"Image size: {size} px, of images of {source.size} px."]
    if judged:
        said = [f"Image size: crops of {size} px, judged at {judged} px: larger ones leave too few epochs."]
    said += [f"Encoder: {note}." for note in price(recipe.encoder, source.channels, size)]
    width = recipe.encoder.options.get("width")
    return said + ([f"Encoder: {recipe.encoder.name} of width {width} in place of 64, to be fast."] if width else [])


def _batch(n: int, recipe: Recipe, pace: Pace, nouns: str) -> str:
    size = recipe.batch_size
    why = (
        "for which learning rates are stated" if size == 256 else f"so that {counted(n, nouns)} make several steps an epoch"
    )
    memory = f"{pace.bytes * size / 2**20:,.0f} MiB for the backward pass"
    return f"Batch: {size}, {why}; {memory}" + (
        f", in {counted(recipe.accumulate, 'pieces')}." if recipe.accumulate > 1 else "."
    )


def _method(source: Source, n: int, minutes: float, recipe: Recipe) -> str:
    """Where the method was the best, and in what these data and this time are unlike that."""
    there = COMPARED.get(source.channels, COMPARED[3])
    here = {"side": (source.size, "px"), "images": (n, "images"), "minutes": (minutes, "min")}
    unlike = [f"{value:,.10g} {unit}" for name, (value, unit) in here.items()
              if not 1 / ALIKE[name] <= value / getattr(there, name) <= ALIKE[name]]  # fmt: skip
    unlike += [counted(source.channels, "channels")] * (source.channels not in COMPARED)
    on = (
        f"{there.name} ({counted(there.images, 'images')} of {there.side} px, about "
        f"{counted(there.minutes, 'minutes')} each)"
    )
    doubt = f", and nothing was compared with {', '.join(unlike)}" if unlike else ""
    return (
        f"Method: {recipe.method.name}, the best by linear probe of those that were compared on {on}. Other data may differ"
        f"{doubt}: where some images are labelled, ask `unlabeled compare`."
    )


def _time(epochs: int, epoch: float, wanted: int, minutes: float, pace: Pace, nouns: str) -> list[str]:
    speed = f"{1 / pace.seconds:,.0f} {nouns}/s were measured"
    said = [f"Epochs: {epochs:,}, in about {counted(epochs * epoch, 'minutes', form=',.1f')} of {minutes:g} ({speed})."]
    if epochs < wanted:
        said.append(
            f"That is short: features good enough to judge a method by need {counted(wanted, 'epochs')} or so, "
            f"{counted(wanted * epoch, 'minutes', form=',.0f')}."
        )
    if epochs == LONGEST:
        said.append("More epochs than these are rarely of use: try a larger encoder, or several seeds.")
    return said


def _pieces(pace: Pace, batch: int) -> int:
    """Pieces in which half of the free memory holds the batch."""
    pieces = 1
    while pace.pieces and pace.bytes * batch / pieces > pace.free / 2 and pieces < batch // 2:
        pieces *= 2
    return pieces
