"""The verb `search`: the images of a data set that are most similar to one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor
from torch.nn import functional as F

from unlabeled.about import About
from unlabeled.data import Source
from unlabeled.data.columns import printable
from unlabeled.data.formats.arrays import DatasetReader
from unlabeled.data.kinds.image import ImageKind
from unlabeled.data.kinds.kind import Kind, build
from unlabeled.data.kinds.stored import in_bytes, in_floats
from unlabeled.errors import UserError
from unlabeled.evaluating.samples import Samples, open_samples, represented
from unlabeled.notebook import html
from unlabeled.probes.knn import nearest
from unlabeled.probes.row_picture import Row, Tile, draw_rows
from unlabeled.run import Run

MOST = 100
"""Images that a picture shows beside each other."""
SAME = 1e-3
"""Below 1 by less than this is the cosine of an image with itself, whatever the rounding."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An image of the data: its number, where it came from, the name of its class ("" if unlabelled), and its cosine."""

    number: int
    path: str
    label: str
    similarity: float


@dataclass(frozen=True)
class Found:
    """The images most similar to one, the most similar first.

    Attributes:
        query: what was searched for, as the user would say it.
        label: the name of its class, "" where it is not known.
        neighbours: what was found.
        path: the picture.
    """

    query: str
    label: str
    neighbours: list[Neighbour]
    path: Path

    def _repr_html_(self) -> str:
        return html(self.lines(), self.path)

    def lines(self) -> Iterator[RenderableType]:
        """Returns what a terminal shows: a table, then where the picture is."""
        title = f"nearest to {self.query}" + f" ({self.label})" * bool(self.label)
        table = Table("number", "path", "label", title=Text(title), title_justify="left")
        table.columns[0].justify = "right"
        table.columns[1].overflow = "fold"
        table.add_column("similarity", justify="right")
        for n in self.neighbours:
            table.add_row(f"{n.number}", Text(n.path), Text(n.label), f"{n.similarity:.4f}")
        yield table
        yield f"written: {self.path}"


def search(
    run: str | Path,
    image: Any,
    *,
    data: Any,
    n: int,
    out: Path,
    accelerator: str,
    about: About,
) -> Found:
    """Does what `unlabeled.api.search.search` says."""
    out = out / "search.png" if out.is_dir() else out
    _check(n, out)
    opened_run = Run.judged(run)
    encoder, kind = opened_run.encoder(), build(opened_run.recipe.kind)
    raw = _given(kind, image)
    everything = open_samples(opened_run, encoder, data, about)
    own = [] if _in_memory(image) else _numbers(image, everything, raw is None)
    number = own[0] if len(own) == 1 else None
    decoded = _decoded(raw, image, everything.sources[0]) if number is None else {}
    h, encoder = represented(opened_run, encoder, everything, accelerator)
    said = f"{kind.noun} {number} of {everything.name}" if number is not None and raw is None else _called(image, kind)
    if number is None:
        query = {name: torch.from_numpy(in_bytes(value)) for name, value in decoded.items()}
        with torch.no_grad():
            seen = torch.from_numpy(in_floats(decoded[kind.name])).to(next(encoder.parameters()).device)
            asked, label = encoder(seen).float().cpu(), everything.label(own[0]) if own else ""
        if _in_memory(image):
            own = everything.equal_to(query, np.flatnonzero((h @ F.normalize(asked).T)[:, 0].numpy() > 1 - SAME).tolist())
    else:
        query, asked, label = everything.fetch(number), h[number : number + 1], everything.label(number)
    found = _nearest(asked, h, everything, own, n)
    neighbours = [Neighbour(i, everything.path(i), everything.label(i), similarity) for i, similarity in found]
    tiles = [
        Tile(
            everything.picture(n.number),
            [*([n.label] if n.label else []), f"{n.similarity:.3f}", f"{kind.noun} {n.number}"],
            n.label == label if label and n.label else None,
        )
        for n in neighbours
    ]
    first = Row(Tile(kind.pictures(query, everything.form)[0], ["query", label] if label else ["query"]), tiles)
    draw_rows(out, [first], f"nearest to {said}, with their cosine")
    return Found(said, label, neighbours, out)


def _check(n: int, out: Path) -> None:
    """Refuses a picture that cannot be drawn."""
    if n < 1:
        raise UserError(f"n is {n}, and must be at least 1")
    if n > MOST:
        raise UserError(f"n is {n}, and a picture shows {MOST} at most: give --n {MOST} or less")
    if out.suffix.lower() != ".png":
        raise UserError(f"cannot draw into {str(out)!r}: give a name that ends in .png")
    if not out.parent.is_dir():
        raise UserError(f"there is no folder {str(out.parent)!r}: make it, or write elsewhere")


def _nearest(asked: Tensor, h: Tensor, images: Samples, own: list[int], n: int) -> list[tuple[int, float]]:
    """Numbers and cosines of the n images most similar to `asked` (1, D), less its own numbers, of h (N, D).

    Features may have been kept from another time, so what is bad shows only when images are fetched.
    """
    while True:
        good = images.good()
        if own and not good[own].any():
            raise UserError(
                f"{images.kind.noun} {own[0]} is {images.path(own[0])!r}, which cannot be read: give another one"
            )
        candidates = np.flatnonzero(good & ~np.isin(np.arange(len(good)), own))
        if not len(candidates):
            noun, nouns = images.kind.noun, images.kind.nouns
            raise UserError(f"the data have no other {noun} to find: give --data with more {nouns}")
        cosine, position = nearest(asked, h[torch.from_numpy(candidates)], min(n, len(candidates)))
        found = candidates[position[0].numpy()]
        for i in found:
            images.fetch(int(i))
        if images.good()[found].all():
            return list(zip(found.tolist(), cosine[0].tolist(), strict=True))


def _in_memory(image: Any) -> bool:
    return isinstance(image, np.ndarray | Tensor | Image.Image)


def _called(image: Any, kind: Kind) -> str:
    return f"the {kind.noun} that was given" if _in_memory(image) else printable(str(image))


def _given(kind: Kind, image: Any) -> Any:
    """What was given, opened: a file, of which the header is read, or an image in memory. None of a number and of a path
    that only the data know.

    Raises:
        UserError: it is not of that kind.
    """
    if not isinstance(image, str | Path | int | np.integer) and not _in_memory(image):
        raise UserError(
            f"what to search for is a {type(image).__name__}: give a file, a number, an array, a tensor, or an image of PIL"
        )
    if _in_memory(image) and kind.name != ImageKind.name:
        raise UserError(f"what to search for is an array, and the run is of {kind.nouns}: write it to a file, and give that")
    if not _in_memory(image) and (str(image).isdecimal() or not Path(image).is_file()):
        return None
    try:
        if not _in_memory(image):
            return kind.open(Path(image))
        alone = not isinstance(image, Image.Image) and image.ndim == 4 and len(image) == 1
        return DatasetReader([image[0] if alone else image], "the query").read(0)
    except (ValueError, OSError) as error:
        raise _broken(_called(image, kind), error) from error


def _numbers(image: Any, images: Samples, needed: bool) -> list[int]:
    """The number of a sample of the data, or those of a file of several; none of another file, unless it is `needed`."""
    if not str(image).isdecimal():
        found = images.numbers_of(image)
        if not found and needed:
            raise UserError(
                f"there is no {images.kind.noun} {str(image)!r}: give a file, or the number or the path of one of the "
                f"{images.kind.nouns} of the data, as the table prints it"
            )
        return found
    if int(image) >= len(images):
        raise UserError(
            f"there is no {images.kind.noun} {image}: the data have {len(images):,}, numbered from 0 to {len(images) - 1}"
        )
    return [int(image)]


def _decoded(raw: Any, path: Any, like: Source) -> dict[str, np.ndarray[Any, Any]]:
    """The sample as those of the data are, (1, ...) each field.

    Raises:
        UserError: it is broken, or cannot be brought to the form of the others.
    """
    try:
        fields = like.kind.decode(raw, like.form)
    except (OSError, SyntaxError, ValueError) as error:
        raise _broken(_called(path, like.kind), error) from error
    return {name: np.array(value)[None] for name, value in fields.items()}


def _broken(path: Any, error: Exception) -> UserError:
    reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
    return UserError(f"{str(path)!r} cannot be used ({reason}): give another one")
