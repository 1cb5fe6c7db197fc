"""Rows of retrieval: a query and what is nearest to it, as small pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unlabeled.data import Data
from unlabeled.errors import UserError
from unlabeled.report.images import picture_uri, thumbnails
from unlabeled.report.scatter import checked, name_of


@dataclass(frozen=True)
class Shown:
    """An image: its picture, its class, its cosine to the query, and whether it is of the query's class (None where that is
    unknown, and for the query itself)."""

    uri: str
    name: str
    similarity: float | None
    right: bool | None


@dataclass(frozen=True)
class Row:
    """A query and its nearest, most alike first; `case` says what kind of row it is (best, worst), if known."""

    case: str
    query: Shown
    nearest: list[Shown]


def rows(found: Mapping[str, Any], data: Data) -> list[Row]:
    """What a protocol wrote, with its images.

    Args:
        found: `rows`, each with `query`, a position in the test split, and `neighbours`, positions in the split that
            `neighbours_in` names (`train` unless said); where known also `label`, `labels`, `similarity` and `case`; and
            `classes`, the names.
        data: both splits.

    Raises:
        UserError: rows are missing or uneven, or the images are not those of `data`.
    """
    lines = found.get("rows")
    if not isinstance(lines, list) or not lines or data.test is None:
        raise UserError("it has no rows")
    gallery = data.test if found.get("neighbours_in", "train") == "test" else data.train
    classes = found.get("classes", [])
    made = []
    for line in lines:
        near = np.asarray(line["neighbours"], dtype=int)
        labels = np.asarray(line.get("labels", [-1] * len(near)), dtype=int)
        alike: Sequence[float | None] = line.get("similarity", [None] * len(near))
        query, label = np.asarray([line["query"]], dtype=int), int(line.get("label", -1))
        if not len(near) == len(labels) == len(alike) or len(near) == 0:
            raise UserError("a row's neighbours, labels and similarity are empty or differ in length")
        (asked,) = thumbnails(checked(data.test, query, np.array([label])), query)
        pictures = thumbnails(checked(gallery, near, labels), near)
        nearest = [
            Shown(picture_uri(picture), name_of(classes, c), s, bool(c == label) if label >= 0 <= c else None)
            for picture, c, s in zip(pictures, labels.tolist(), alike, strict=True)
        ]
        made.append(Row(str(line.get("case", "")), Shown(picture_uri(asked), name_of(classes, label), None, None), nearest))
    return made
