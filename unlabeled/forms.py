"""The forms of the files that runs keep. Whatever reads one holds it against its form first, so that damage is found where a
file is read, and nowhere else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Form = Any
"""A type; None; a range of whole numbers; a tuple of forms, any of which will do; [form], a list; or {key: form}, a mapping,
in which a key that ends in ? may be missing, `...` is every other key, and keys that are not named may hold anything."""

COUNT = range(2**40)
NUMBER = (int, float)
NAMES = ([str], None)

ENVIRONMENT = {
    "layout?": COUNT,
    "command?": [str],
    "folder?": str,
    "plugins?": [str],
    "given?": {...: [str]},
    "capped?": {...: COUNT},
    "versions?": {...: str},
    "hardware?": {"gpu?": [str]},
    "data": {
        "name?": (str, None), "fingerprint": str, "labels?": str, "train": COUNT, "test?": (COUNT, None), "held_out?": bool,
        "split?": str, "channels": range(1, 2**16), "native?": [int], "classes": [str], "invariances?": [str],
        "whole?": str,
    },
}  # fmt: skip
LOOK = {"step": COUNT, "epoch": COUNT, "by": str, "value": NUMBER}
KEPT = {
    "epoch": NUMBER, "trained": NUMBER, "epochs": COUNT, "best": (LOOK, None), "last": (LOOK, None), "patience?": COUNT,
}  # fmt: skip
METRICS = {"step": COUNT, "epoch?": NUMBER, "alarm?": str, "remedy?": str, ...: (*NUMBER, None)}
CHECKPOINT = {
    "step": COUNT, "total?": COUNT, "finished": bool, "processes?": range(1, 2**20), "method": dict, "average?": dict,
    "optimizers?": dict,
    "kept?": {
        "best": (LOOK, None), "last": (LOOK, None), "since": NUMBER, "count": COUNT,
        "weights": {"method?": dict, "average?": dict},
    },
}  # fmt: skip
ENCODER = {
    "kind": {"name": str, ...: (str, bool, *NUMBER, None, [int])}, "encoder": {"name": str, ...: object},
    "channels": range(1, 2**16), "tta": range(1, 5), "whitened": bool,
    "kept?": (KEPT, None),
}  # fmt: skip
CLASSIFIER = {"encoded": range(1, 2**24), "scaled": bool, "classes": [str]}
SCORE = {
    "subject": str, "labels": str, "protocol": str, "options": dict, "amount": NUMBER, "draws": range(1, 2**20), "seed": int,
    "labelled": [COUNT], "tested": COUNT, "metrics": {...: [NUMBER]}, "notes": [str], "intervals?": {...: NUMBER},
    "plain?": [str], "each?": [str], "guess?": {...: NUMBER}, "confusion?": [[int]],
    "also?": {...: [str]}, "constant?": bool, "chosen?": {...: [NUMBER]}, "clusters?": str,
}  # fmt: skip
EVALUATION = {
    "scores": [SCORE], "answer?": (str, *NAMES), "run?": str, "data?": (str, None), "split?": str, "saw_labels?": [str],
    "skipped?": [str], "new_classes?": [str], "failed?": {...: str}, "identity?": str, "recipe?": {"kind?": {"name?": str}},
    "command?": [str], "commands?": [[str]], "learned?": bool, "advice?": str, "classes?": [str], "unfinished?": str,
    "kept?": str, "alarm?": str,
}  # fmt: skip
PLACE = {"position": COUNT, "label?": int, "number?": (int, None), "similarity?": (*NUMBER, None)}
RANKED = [{**PLACE, "average_precision?": (*NUMBER, None), "neighbours": [PLACE]}]
RANKING = {"best?": RANKED, "worst?": RANKED, "classes?": [str]}
MAP = {
    "x": [NUMBER], "y": [NUMBER], "label?": ([int], None), "index?": ([COUNT], None), "number?": ([int], None),
    "classes?": [str],
}  # fmt: skip


class FormError(ValueError):
    """A file, or what is in it, is not of the form that is expected; the message says where, and what stands there."""


def check(value: Any, form: Form, where: str = "") -> None:
    """Checks a value against a form.

    Args:
        value: of JSON's types, or others that are named as types.
        form: see `Form`.
        where: what the value is called.

    Raises:
        FormError: it is of another form.

    >>> check({"a": [1, "x"]}, {"a": [int]})
    Traceback (most recent call last):
    unlabeled.forms.FormError: a.1 is 'x'
    """
    if isinstance(form, tuple):
        if not any(_fits(value, one) for one in form):
            raise FormError(f"{where or 'it'} is {_shown(value)}")
    elif isinstance(form, Mapping):
        if not isinstance(value, Mapping):
            raise FormError(f"{where or 'it'} is {_shown(value)}")
        named = {str(key).removesuffix("?"): (key, one) for key, one in form.items() if key is not ...}
        for name, (key, one) in named.items():
            if name in value:
                check(value[name], one, f"{where}.{name}".lstrip("."))
            elif not str(key).endswith("?"):
                raise FormError(f"{where or 'it'} has no {name}")
        for name in value.keys() - named.keys() if ... in form else ():
            check(value[name], form[...], f"{where}.{name}".lstrip("."))
    elif isinstance(form, list):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise FormError(f"{where or 'it'} is {_shown(value)}")
        for i, one in enumerate(value):
            check(one, form[0], f"{where}.{i}".lstrip("."))
    elif not _plain(value, form):
        raise FormError(f"{where or 'it'} is {_shown(value)}")


def _fits(value: Any, form: Form) -> bool:
    try:
        check(value, form)
    except FormError:
        return False
    return True


def _plain(value: Any, form: Form) -> bool:
    """Whether a value is of a type, in a range, or None; a whole number has 64 bits, and is no truth value."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if form is None:
        return value is None
    if isinstance(form, range):
        return whole and value in form
    if form is int or (form is float and whole):
        return whole and abs(value) < 2**63
    return isinstance(value, form)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def read_json(path: Path, form: Form) -> Any:
    """Reads a JSON file of that form.

    Raises:
        FormError: it cannot be read, is no JSON, or of another form.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise FormError(str(getattr(error, "strerror", None) or error)) from error
    return parsed(text, form)


def read_arrays(path: Path, *names: str) -> list[np.ndarray[Any, Any]]:
    """Reads arrays of these names from an `.npz` file.

    Raises:
        FormError: it cannot be read, or has no such array.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            return [np.asarray(file[name]) for name in names]
    except Exception as error:  # NumPy and zipfile raise a dozen kinds at damaged headers
        raise FormError(f"{type(error).__name__}: {error}") from error


def parsed(text: str, form: Form) -> Any:
    """Reads JSON text of that form.

    Raises:
        FormError: it is no JSON, or of another form.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormError(f"no JSON: {error}") from error
    check(value, form)
    return value
