"""Sentences: a count and what is counted, the one place that knows that there is one of it; and where a sentence ends."""

from __future__ import annotations

import re

VERBS = {"are": "is", "have": "has", "were": "was", "do": "does", "go": "goes"}
"""Of others an s makes one."""
END = re.compile(r"(?<!\bal)\.(?=\s+[A-Z`(])")
"""Where a sentence ends: not in "Chen et al. 2020"."""


def counted(n: float, nouns: str, verb: str = "", *, form: str = "") -> str:
    """Returns a count with its noun, and its verb if there is one, both of one where there is one.

    Args:
        n: how many.
        nouns: of several; its last word is regular.
        verb: likewise of several.
        form: how the number is written; by default with commas between thousands if it is whole.

    >>> counted(1, "images"), counted(2000, "test images", "are"), counted(1, "classes", "have")
    ('1 image', '2,000 test images are', '1 class has')
    >>> counted(1.02, "minutes", form=",.1f"), counted(0.5, "epochs")
    ('1 minute', '0.5 epochs')
    """
    number = format(n, form or ("," if isinstance(n, int) else ",g"))
    if number in ("1", "1.0"):
        return " ".join(filter(None, ["1", singular(nouns), VERBS.get(verb, verb + "s" * bool(verb))]))
    return " ".join(filter(None, [number, nouns, verb]))


def singular(nouns: str) -> str:
    """Returns the noun of one, whose plural is regular.

    >>> [singular(word) for word in ("images", "classes", "copies", "patches", "queries", "pieces")]
    ['image', 'class', 'copy', 'patch', 'query', 'piece']
    """
    if nouns.endswith("ies"):
        return f"{nouns[:-3]}y"
    if nouns.endswith(("sses", "ches", "xes")):
        return nouns[:-2]
    return nouns.removesuffix("s")


def first_sentence(text: str) -> str:
    """Returns it on one line, with its full stop.

    >>> first_sentence("Crops of an image (Chen et al. 2020). Mirrored,\\ntoo.")
    'Crops of an image (Chen et al. 2020).'
    """
    said = " ".join(END.split(text.partition("\n\n")[0])[0].split())
    return said if said[-1] in ".?!" else f"{said}."
