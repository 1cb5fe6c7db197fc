"""The verb `export`: an encoder for other libraries, whose features are compared before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unlabeled.about import About
from unlabeled.encoders import Encoder
from unlabeled.errors import UserError
from unlabeled.evaluating.reading import open_for
from unlabeled.exporting.formats import FORMS, Form
from unlabeled.exporting.graphs import RANDOM, graph_of
from unlabeled.files import cannot_write, write_whole
from unlabeled.registry import nearest
from unlabeled.run import CHECKPOINT, ENCODER, ENVIRONMENT, LAST, METRICS, RECIPE, Run

TOLERANCE = 1e-4
"""Largest difference of a feature h from the run's, as a share of max(1, |h|)."""
REAL = 64
"""Samples of the data to compare on."""
ELSE = "nothing was written; give another --format, such as safetensors"


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        readme: how to use it, in lines of Python that were run.
        difference: the largest |a - h| / max(1, |h|) of a feature there, a, from the run's, h.
        images: what it was found on, in words.
        notes: what to know of the file.
    """

    path: Path
    readme: Path
    difference: float
    images: str
    notes: list[str]

    def lines(self) -> list[str]:
        """Returns what a terminal shows of it."""
        same = f"same features on {self.images}: they differ by {self.difference:.1e} at most"
        return [f"written: {self.path}", *self.notes, same, f"how to use it: {self.readme}"]


def export(
    run: str | Path,
    name: str,
    out: Path | None,
    *,
    data: Any,
    about: About,
) -> Exported:
    """Does what `unlabeled.api.export` says."""
    if data is None and (said := [word for word, value in about.items() if value is not None]):
        raise UserError(f"--{said[0]} says something of data, and none are given to check on: give --data, or leave it out")
    if name not in FORMS:
        raise UserError(f"unknown format {name!r}{nearest(name, FORMS)}; known: {', '.join(FORMS)}")
    opened = Run.judged(run)
    usual, make = FORMS[name]
    path = opened.path / "export" / usual if out is None else out
    _check_place(opened, path, out is None)
    encoder, choice = opened.encoder(), opened.recipe.encoder
    batches = [*graph_of(encoder).random(encoder), *([] if data is None else [_real(opened, encoder, data, about)])]
    form = make(encoder, choice)
    found: list[float] = []

    def write(temporary: Path) -> None:
        form.write(temporary)
        found.append(_difference(name, form, temporary, encoder, batches))

    if out is None:
        try:
            path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(path.parent, error) from error
    write_whole(path, write)
    real = f" and {len(batches[-1])} of the data" if data is not None else ""
    exported = Exported(
        path, path.with_name(f"{path.name}.md"), found[0], f"{2 * RANDOM} random {graph_of(encoder).noun}{real}", form.notes
    )
    text = _describe(opened, encoder, name, form, exported)
    write_whole(exported.readme, lambda p: p.write_text(text, encoding="utf-8"))
    return exported


def _check_place(run: Run, path: Path, own: bool) -> None:
    if not own and not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r}: make it, or write elsewhere")
    names = (RECIPE, ENVIRONMENT, METRICS, CHECKPOINT, ENCODER, LAST)
    if path.resolve() in [(run.path / name).resolve() for name in names]:
        raise UserError(f"{str(path)!r} is a file of the run itself: give another --out")


def _real(run: Run, encoder: Encoder, data: Any, about: About) -> Tensor:
    source = open_for(run, encoder.front.channels, data, about).train
    return source.fetch(np.unique(np.linspace(0, len(source) - 1, REAL).astype(int)))[source.field]


def _difference(name: str, form: Form, file: Path, encoder: Encoder, batches: list[Tensor]) -> float:
    """Runs the lines that the description shows, and compares.

    Raises:
        UserError: the features are not the same.
    """
    program = compile(form.code(str(file)), f"use of {name}", "exec")
    largest = 0.0
    for batch in batches:
        space: dict[str, Any] = {graph_of(encoder).noun: batch.numpy() if form.array else batch}
        with torch.no_grad():
            h = encoder(batch)
            exec(program, space)
        there = torch.as_tensor(space["h"])
        if there.shape != h.shape:
            raise UserError(f"format {name!r} gives features of shape {tuple(there.shape)} for {tuple(h.shape)}: {ELSE}")
        usual = h.square().mean().sqrt().clamp_min(torch.finfo(h.dtype).tiny)  # their own size: small ones differ by little
        apart = ((there - h).abs() / h.abs().maximum(usual)).nan_to_num(torch.inf).max()
        largest = max(largest, float(apart))
    if largest > TOLERANCE:
        raise UserError(
            f"format {name!r} gives features that differ by {largest:.1e}, more than {TOLERANCE:.0e}, from the run's: {ELSE}"
        )
    return largest


def _describe(run: Run, encoder: Encoder, name: str, form: Form, exported: Exported) -> str:
    recipe, (shape, before) = run.recipe, graph_of(encoder).describe(encoder)
    which = run.kept.said if run.kept else ""
    notes = "".join(f"- {note}\n" for note in [*form.notes, *([f"{which[0].upper()}{which[1:]}."] if which else [])])
    return f"""# {exported.path.name}

The encoder of the run `{run.path.name}` ({recipe.method.name}, {recipe.encoder.name}), for {name}.

```python
{form.code(exported.path.name)}```

- `{graph_of(encoder).noun}` is {"an array" if form.array else "a tensor"} {shape}; `h` is (B, {encoder.dim}) float32.
- {before}
{notes}
These lines were run when the file was written: on {exported.images}, no feature h differed from the run's by more than
{exported.difference:.1e} · max(1, |h|). The limit is {TOLERANCE:.0e}.
"""
