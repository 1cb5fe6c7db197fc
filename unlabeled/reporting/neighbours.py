"""Rows of retrieval: a query and what is nearest to it, as small pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlabeled.data import Data, Source
from unlabeled.errors import UserError
from unlabeled.reporting.images import picture_uri, thumbnails
from unlabeled.reporting.scatter import checked, name_of

CASES = "best", "worst"


@dataclass(frozen=True)
class Shown:
    """An image: its picture, its class, its number in the data as given, its cosine to the query, and whether it is of the
    query's class (None where any of them is unknown, and for the query itself)."""

    uri: str
    name: str
    number: int | None
    similarity: float | None
    right: bool | None


@dataclass(frozen=True)
class Row:
    """A query and its nearest, most alike first; `case` says what kind of row it is."""

    case: str
    query: Shown
    nearest: list[Shown]


def rows(found: Mapping[str, Any], data: Data) -> list[Row]:
    """Returns what the protocol `retrieval` wrote, with its images.

    Args:
        found: under `best` and `worst` lists of queries: `position` in the test split, `label`, where known
            `average_precision`, and `neighbours`, each with `position` in the training split, `label` and `similarity`;
            and `classes`, the names; where known, `number` of each image.
        data: both splits.

    Raises:
        UserError: there are no rows, or the images are not those of `data`.
    """
    if data.test is None:
        raise UserError("the data has no test split")
    classes = found.get("classes", [])
    made = []
    for case, query in ((kind, query) for kind in CASES for query in found.get(kind, [])):
        precision = query.get("average_precision")
        said = case if precision is None else f"{case}, average precision {precision:.0%}"
        (asked,) = _shown(data.test, [query], classes, None)
        made.append(Row(said, asked, _shown(data.train, query["neighbours"], classes, query.get("label", -1))))
    if not made:
        raise UserError("it has no rows")
    return made


def _shown(source: Source, images: Sequence[Mapping[str, Any]], classes: Any, wanted: int | None) -> list[Shown]:
    """Images at their positions, and whether they are of the class that is wanted."""
    index = np.asarray([image["position"] for image in images], dtype=int)
    label = np.asarray([image.get("label", -1) for image in images], dtype=int)
    pictures = thumbnails(checked(source, index, label), index) if len(index) else []
    return [
        Shown(
            picture_uri(picture),
            name_of(classes, c),
            image.get("number"),
            image.get("similarity"),
            c == wanted if wanted is not None and wanted >= 0 <= c else None,
        )
        for picture, c, image in zip(pictures, label.tolist(), images, strict=True)
    ]
