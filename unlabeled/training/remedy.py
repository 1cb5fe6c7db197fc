"""Why a training went wrong, by what it did, and the command that does otherwise."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Mapping

from unlabeled.recipe import Recipe, compose
from unlabeled.registry import Choice, get, plugins
from unlabeled.run import RECIPE

FAR = 3
"""Times that a rate or a temperature is away from the method's own, from which on it is named."""
MUCH = 10
"""The same of weight decay; and what a rate is divided by where nothing else is to be blamed."""
SMALL = 64
"""Samples a batch below which a larger one is advised against few dimensions."""

SAME = "data"
"""The alarm where all samples are one."""

Change = tuple[str, dict[str, str]]
"""Why, and options as one types them."""


def command(recipe: Recipe, folder: str, options: Mapping[str, str]) -> str:
    """Returns what to type to train anew as in that run's folder, but for some options; a call in Python where the data was
    given there."""
    if not recipe.data:
        given = ", ".join(f"{key!r}: {value!r}" for key, value in options.items())
        return f'unlabeled.pretrain(data, recipe="{folder}/{RECIPE}", options={{{given}}}, out="{folder}-2")'
    words = ["--recipe", f"{folder}/{RECIPE}", *(word for key, value in options.items() for word in (f"--{key}", value))]
    words += [word for file in plugins() for word in ("--plugin", file)]
    return shlex.join(["unlabeled", "pretrain", *words, "--out", f"{folder}-2"])


def remedy(recipe: Recipe, folder: str, kind: str, *, few: bool = False) -> str:
    """Returns the likely cause, and the command, in a sentence.

    Blamed is what the run set far from its method's own recipe; where nothing is, a tenth of the learning rate is advised.
    Samples that are all one are to be looked at first.

    Args:
        recipe: of the run, resolved.
        folder: of the run, as the user calls it.
        kind: of alarm.
        few: whether dimensions are lacking, rather than all of it.
    """
    if kind == SAME:
        look = shlex.join(["unlabeled", "inspect", recipe.data or "DATA"])
        return f"likely because of how they were made or are listed; to see them: {look}"
    found = list(_far(recipe))
    if few and not found and recipe.batch_size < SMALL:
        found = [(f"a batch of {recipe.batch_size} shows few other images", {"batch-size": f"{4 * recipe.batch_size}"})]
    said = f"likely because {' and '.join(why for why, _ in found)}"
    if not found:
        rate = float(recipe.optimizer.options["lr"])
        said = f"no setting is far from the own ones of {recipe.method.name}: try a tenth of the learning rate"
        found = [("", {"optimizer.lr": f"{rate / MUCH:g}"})]
    return f"{said}; to try: {command(recipe, folder, {k: v for _, options in found for k, v in options.items()})}"


def fast(recipe: Recipe) -> bool:
    """Tells whether the learning rate is ten times the method's own, or more."""
    return float(recipe.optimizer.options["lr"]) >= MUCH * float(_own(recipe).options["lr"])


def _usual(recipe: Recipe) -> Recipe:
    """What the method has where nothing is said."""
    asked = {"method": recipe.method.name, "encoder": recipe.encoder.name, "paper": recipe.paper}
    return compose(asked, usual=lambda entry, encoder, paper: entry.preferred(encoder))


def _own(recipe: Recipe) -> Choice:
    """The optimiser of the method's own recipe; as it is by default, if the run has another."""
    own = _usual(recipe).optimizer
    return own if own.name == recipe.optimizer.name else get("optim", recipe.optimizer.name).resolve({})


def _far(recipe: Recipe) -> Iterator[Change]:
    """What is far from the method's own recipe."""
    usual, name = _usual(recipe), recipe.method.name
    own = _own(recipe)
    rate, its = float(recipe.optimizer.options["lr"]), float(own.options["lr"])
    if rate > FAR * its:
        yield (
            f"the learning rate of {rate:g} is {rate / its:.3g} times the usual {its:g} of {own.name} with {name}",
            {"optimizer.lr": f"{its:g}"},
        )
    decay, its = (float(choice.options.get("weight_decay", 0.0)) for choice in (recipe.optimizer, own))
    if decay > MUCH * max(its, 1e-3):
        yield f"the weight decay of {decay:g} is far above the usual {its:g}", {"optimizer.weight-decay": f"{its:g}"}
    times = recipe.batch_size / 256
    if recipe.lr_scaling == "linear" and times > FAR and recipe.optimizer.name != "lars":
        yield f"the learning rate is multiplied by {times:g} for the batch of {recipe.batch_size}", {"lr-scaling": "sqrt"}
    for option, value in recipe.method.options.items():
        own_value = usual.method.options.get(option)
        if _apart(value, own_value):
            word = option.replace("_", "-")
            yield f"the method's {word} is {value} in place of {own_value}", {f"method.{word}": f"{own_value}"}


def _apart(value: object, usual: object) -> bool:
    """Whether an option is another switch, or a number far from its own; whole numbers are sizes, which harm no training."""
    if isinstance(value, bool) or isinstance(usual, bool):
        return value is not usual
    if not isinstance(value, float) or not isinstance(usual, float) or min(value, usual) <= 0:
        return False
    shares = [(value, usual), (1 - value, 1 - usual)]  # a momentum is near 1: 0.9 is as far from 0.99 as 0.1 from 0.01
    return any(a == 0 or abs(math.log(a / b)) > math.log(FAR) for a, b in shares if b > 0 and a >= 0)
