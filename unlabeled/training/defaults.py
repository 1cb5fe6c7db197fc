"""What a run does where nothing is said: what suits such data, in batches of hundreds and tens of epochs. Papers' settings,
for thousands a batch and hundreds of epochs, are had by `--paper`; `benchmarks/defaults.py` measures both."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from unlabeled import registry
from unlabeled.data import Source
from unlabeled.recipe import INVARIANCES, TURNS, Recipe, Usual, compose
from unlabeled.registry import Choice

SHOWN = {
    "mirror": ("mirrored", ("mirror",)),
    "flip": ("upside down", ("flip",)),
    "rotation": ("turned by quarters", ("turn",)),
    "colour": ("in other colours", ("jitter", "grey", "hue", "saturation", "drop", "shift", "colours", "n")),
    "intensity": ("brighter or darker", ("jitter", "brightness", "contrast", "power", "n")),
}
"""What views that rest on an invariance make of an image, in words, and the options of views of which one asks for it."""
BATCHES = 20
"""Batches in an epoch, at least, for a batch to be as large as 256."""


def composed(source: Source, *layers: Mapping[str, Any]) -> Recipe:
    """Composes a recipe for such samples: with what suits them, and the network of their kind, where nothing is said."""
    return compose(*layers, usual=defaults(source), encoder=source.kind.encoder_name)


def defaults(source: Source) -> Usual:
    """Returns what a run on such samples has where its recipe says nothing: for `compose`, over the paper's: what was
    measured with the method, views that the samples bear, and batches of which there are some in an epoch. Where the user
    says that flips or turns keep the meaning of an image, views have them."""

    def parts(entry: registry.Entry, encoder: str, paper: Mapping[str, Any]) -> dict[str, Any]:
        given = {"batch_size": batch_size(len(source)), **entry.preferred(encoder)}
        views = dict(paper.get("views", {"name": source.kind.policy}))
        policy = registry.get("views", views.pop("name")).resolve(views)
        found = source.kind.usual(policy, source.form, source.invariances)
        more = {**(found[1] if found else {}), **(_turned(policy, source.invariances) if source.by_user else {})}
        return {**given, "views": {"name": policy.name, **more}} if more and "views" not in given else given

    return parts


def _turned(views: Choice, invariances: frozenset[str]) -> dict[str, float]:
    """Half of the views are flipped, and a quarter are of each direction, where a policy can do so."""
    shares = {"flip": 0.5, "turn": 0.75}
    return {option: share for option, share in shares.items() if option in views.options and TURNS[option] in invariances}


def rests_on(views: Choice, source: Source, declared: str = "") -> str:
    """Says what views take to keep the meaning of an image, and how to declare otherwise, unless it was `declared`; "" of
    other samples, and of views that change none of it whatever is declared."""
    able = {name: words for name, (words, options) in SHOWN.items() if any(option in views.options for option in options)}
    if source.kind.name != "image" or not able:
        return ""
    asked = {name for name, (_, options) in SHOWN.items() if any(views.options.get(option) for option in options)}
    shown = [words for name, words in able.items() if name in source.invariances & asked]
    how = f"--invariances, some of {', '.join(INVARIANCES)}, or none"
    if not shown:
        return f"Views change nothing of images that needs to be declared: {how}."
    said = f"Views may show images {', '.join(shown)}"
    return f"{said}." if declared else f"{said}. Where that changes what they mean, declare what does not: {how}."


def batch_size(n: int) -> int:
    """Returns 256, or the largest power of two of which an epoch of n samples has 20; at least 16, if there are as many
    samples.

    >>> [batch_size(n) for n in (50_000, 1_437, 100, 10)]
    [256, 64, 16, 10]
    """
    return min(n, max(16, min(256, 1 << int(math.log2(max(1, n / BATCHES))))))
