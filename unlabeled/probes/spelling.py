"""What a user asks for in words: a protocol with its options, an amount of labels."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from unlabeled.data.split import parse_amount
from unlabeled.errors import UserError
from unlabeled.registry import Choice, get

_ONE_MORE = re.compile(r":(?=[0-9.]+%(?:,|:|$)|[\w-]+=)")
"""A colon where a comma belongs: before an amount of labels, or an option."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A protocol as asked for: its name with every option, and the amount of labels if it was given one of its own."""

    choice: Choice
    labels: str | None = None


def takes_labels(kind: Any) -> bool:
    """Tells whether a protocol (its class) learns from labels of the training images, and so may be given an amount of
    them."""
    return bool(getattr(kind, "needs_labels", getattr(kind, "fits", True) and not getattr(kind, "new_classes", False)))


def parse_protocol(text: str) -> Asked:
    """Reads `"few-shot"`, or `"few-shot:ways=10,shots=5"`, with every option; `"finetune:1%"` with an amount of labels, and
    `"finetune:1%,epochs=5"` with both.

    Raises:
        UserError: an unknown protocol or option, or options that are not written so.
    """
    name, _, rest = text.partition(":")
    entry = get("probes", name)
    if _ONE_MORE.search(rest):
        better = f"{name}:{_ONE_MORE.sub(',', rest)}"
        raise UserError(f"protocol {text!r}: one colon follows the name, then commas stand between: write {better}")
    options: dict[str, str] = {}
    labels = None
    by_labels = takes_labels(entry.make)
    commas = "," if by_labels else r",(?=[^,]*=)"  # else a value may hold some
    for part in re.split(commas, rest) if rest else ():
        option, _, value = part.partition("=")
        if by_labels and re.fullmatch(r"[0-9.]+%?", part):
            parse_amount(part)
            labels = part
            continue
        if not value:
            raise UserError(f"protocol {text!r}: write its options as {name}:OPTION=VALUE, with commas between several")
        options[option.strip().replace("-", "_")] = value.strip()
    return Asked(entry.resolve(options), labels)
