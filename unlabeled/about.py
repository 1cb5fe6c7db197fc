"""What a user may say of the data: the same for every verb that takes some, and declared here alone."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TypedDict, TypeVar, get_type_hints

from unlabeled.errors import UserError


class BesideLabel(TypedDict, total=False):
    """What is said of the data but for the column of the classes: for verbs that take several of those."""

    group: str | None
    columns: str | None
    path: str | None
    split: str | None
    limit: int | None
    invariances: str | None
    kind: str | None
    root: str | Path | None
    options: Mapping[str, Any] | None


class About(BesideLabel, total=False):
    """What is said of the data; what is left out, or None, is as the run was told, or as the data say.

    Args:
        label: column of the classes, of a .csv with a header, of a Parquet file or of `columns` (default: the run's, where
            the data have it; else one that is called label, class or the like; or the folders).
        group: column of what must not be divided between training and test samples, such as patient, slide or speaker:
            whole values of it are held out (default: the run's, where the data have it; else none).
        columns: pattern by which the names of files make columns, such as {digit}_{speaker}_{index}; or with folders,
            {patient}/{} (default: the run's, where it fits; else none).
        path: column of a list that names its files (default: one called path, file, image or the like, or that holds such
            names).
        split: column that says of each sample whether it is of train or test (default: one called split, subset or the like
            that says nothing else).
        limit: how many samples are taken, drawn by the seed and evenly over the classes (default: all).
        invariances: what views may do to a sample that keeps its meaning, of images some of mirror, flip, rotation, colour
            and intensity with commas between them (default: what the data set declares; mirror,colour,intensity of images of
            your own).
        kind: of the samples, image or sound, where files of several lie together (default: the run's; else found from the
            data).
        root: folder with the files of named data sets (default: $UNLABELED_DATA).
        options: options with a dot, those of the kind of data for every verb, such as `--kind.channels first`. Of images
            four need no dot: `--range 0,4095`, the values that become black and white; `--fit crop|pad|stretch`; `--pages
            first|all|channels` of a file; `--tiles 256`, of large pictures; in Python `options={"kind.range": "0,4095"}`.
    """

    label: str | None


ROLES = ("label", "group", "columns", "path", "split", "limit", "invariances")
"""Those that `unlabeled.recipe.Roles` holds."""


_Verb = TypeVar("_Verb", bound=Callable[..., Any])


def takes_data(verb: _Verb) -> _Verb:
    """Gives a verb that ends in `**about: Unpack[About]` the signature and the help of all of them; others are refused, as
    Python does where they are written out."""
    hints = get_type_hints(About)
    known = {"label": hints.pop("label"), **hints}
    *before, _ = inspect.signature(verb).parameters.values()
    names = {*known, *(p.name for p in before)}

    @wraps(verb)
    def checked(*arguments: Any, **named: Any) -> Any:
        if strange := [name for name in named if name not in names]:
            raise TypeError(f"{verb.__name__}() got an unexpected keyword argument {strange[0]!r}")
        return verb(*arguments, **named)

    own = {p.name for p in before}  # a verb may take more than the others do: its own word holds
    after = [
        inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=t)
        for n, t in known.items() if n not in own
    ]  # fmt: skip
    checked.__signature__ = inspect.Signature([*before, *after])  # type: ignore[attr-defined]
    about, _, rest = (verb.__doc__ or "").partition("        about: ")
    declared = (About.__doc__ or "").partition("Args:\n")[2].rstrip()
    entries = re.split(r"^(?=        \w+: )", declared, flags=re.M)
    declared = "".join(entry for entry in entries if entry.strip().partition(":")[0] not in own).rstrip()
    checked.__doc__ = f"{about}{declared}\n\n{rest.partition(chr(10) * 2)[2]}"
    return checked  # type: ignore[return-value]


def of_roles(about: About) -> dict[str, Any]:
    """Returns what is said of columns and samples, for `Roles.given`."""
    return {name: about.get(name) for name in ROLES}


def of_limit(about: About) -> int:
    """Returns how many samples are taken, 0 for all.

    Raises:
        UserError: fewer than none.
    """
    limit = about.get("limit") or 0
    if limit < 0:
        raise UserError(f"limit is {limit}, and must be at least 0, which is all")
    return limit


def of_recipe(about: About | BesideLabel, **more: Any) -> dict[str, Any]:
    """Returns what is said as fields of a recipe, with `more` of them; dotted options go before.

    >>> of_recipe({"label": "stage", "options": {"kind.range": "0,4095"}}, epochs=None, seed=1)
    {'label': 'stage', 'seed': 1, 'kind.range': '0,4095'}
    """
    named = {name: about.get(name) for name in (*ROLES, "kind")} | more
    return {name: value for name, value in named.items() if value is not None} | dict(about.get("options") or {})


def of_kind(about: About) -> dict[str, Any]:
    """Returns the dotted options of the kind of data, without the name of the kind.

    Raises:
        UserError: one of something else.
    """
    options = about.get("options") or {}
    other = [key for key in options if not key.startswith("kind.")]
    if other:
        raise UserError(f"unknown option --{other[0]}: options of the kind of data are written --kind.NAME VALUE")
    return {key.partition(".")[2].replace("-", "_"): value for key, value in options.items()}
