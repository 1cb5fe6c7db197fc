"""The verb `report`: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unlabeled import __version__
from unlabeled.errors import UserError
from unlabeled.evaluating.evaluation import UNSUPERVISED
from unlabeled.files import write_whole
from unlabeled.reporting.collect import Opener, Told, named
from unlabeled.reporting.run_curves import curves, swatch
from unlabeled.reporting.tables import notes, side_by_side, tables, transfer_table, unsupervised, verdicts
from unlabeled.run import Run


def report(run: Sequence[str | Path], *, out: str | Path | None, data: Any, root: str | Path | None) -> Path:
    """Does what `unlabeled.api.report` says."""
    if not run:
        raise UserError("nothing to report: give the folder of at least one run")
    runs = {Path(path): Run.open(path) for path in run}
    path = Path(out) if out is not None else next(iter(runs)) / "report.html"
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r}: make it, or write elsewhere")
    opener = Opener(data, root)
    page = render([Told(name, run, f"r{i}", opener) for i, (name, run) in enumerate(named(runs))])
    return write_whole(path, lambda p: p.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n"))


def render(told: Sequence[Told]) -> str:
    """Renders the page of at least one run. Everything that runs say is escaped; the script and the style sheet are ours,
    and the page's policy lets nothing else run and nothing be fetched."""
    environment = Environment(
        loader=PackageLoader("unlabeled", "reporting"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    script, style = (
        files("unlabeled.reporting").joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "style.css")
    )
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {_allowed(script)}; style-src {_allowed(style)}"
    )
    runs = {one.name: one.run for one in told}
    return environment.get_template("page.html.j2").render(
        told=told,
        several=len(told) > 1,
        compared=side_by_side(runs, {one.name: one.evaluation for one in told}) if len(told) > 1 else None,
        curves=curves(runs),
        tables=tables,
        notes=notes,
        transfer_table=transfer_table,
        unsupervised=unsupervised,
        lacking=UNSUPERVISED,
        verdicts=verdicts,
        swatch=swatch,
        policy=policy,
        script=Markup(script),
        style=Markup(style),
        version=__version__,
    )


def _allowed(content: str) -> str:
    """The hash by which a content security policy knows an inline script or style sheet."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"
