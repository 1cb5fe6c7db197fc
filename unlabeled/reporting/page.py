"""The verb `report`: one HTML file that holds everything it shows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from unlabeled import __version__
from unlabeled.about import About
from unlabeled.errors import UserError
from unlabeled.evaluating.evaluation import UNSUPERVISED
from unlabeled.files import write_whole
from unlabeled.reporting.board import BoardPage, board_page, is_table
from unlabeled.reporting.collect import Opener, Told, named
from unlabeled.reporting.glance import glance
from unlabeled.reporting.run_curves import curves, swatch
from unlabeled.reporting.tables import notes, side_by_side, tables, transfer_table, unsupervised, verdicts
from unlabeled.run import Run


def report(run: Sequence[str | Path], *, out: str | Path | None, data: Any, about: About) -> Path:
    """Does what `unlabeled.api.report` says."""
    if not run:
        raise UserError("nothing to report: give the folder of at least one run")
    folders = [Path(path) for path in run]
    path = Path(out) if out is not None else folders[0] / "report.html"
    if len(folders) == 1 and is_table(folders[0]):
        return _written(path, lambda: render_board(board_page(folders[0])))
    runs = {folder: Run.open(folder) for folder in folders}
    opener = Opener(data, about)
    return _written(path, lambda: render([Told(name, run, f"r{i}", opener) for i, (name, run) in enumerate(named(runs))]))


def _written(path: Path, make: Callable[[], str]) -> Path:
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {str(path.parent)!r}: make it, or write elsewhere")
    page = make()
    return write_whole(path, lambda p: p.write_text(page, encoding="utf-8", errors="backslashreplace", newline="\n"))


def render_board(board: BoardPage) -> str:
    """Renders the page of a table, which has no script."""
    return _template("board.html.j2").render(board=board, **_page())


def render(told: Sequence[Told]) -> str:
    """Renders the page of at least one run. Everything that runs say is escaped; the script and the style sheet are ours,
    and the page's policy lets nothing else run and nothing be fetched."""
    runs = {one.name: one.run for one in told}
    return _template("page.html.j2").render(
        told=told,
        several=len(told) > 1,
        compared=side_by_side(runs, {one.name: one.evaluation for one in told}) if len(told) > 1 else None,
        curves=curves(runs),
        glance=glance,
        tables=tables,
        notes=notes,
        transfer_table=transfer_table,
        unsupervised=unsupervised,
        lacking=UNSUPERVISED,
        verdicts=verdicts,
        swatch=swatch,
        **_page(),
    )


def _template(name: str) -> Template:
    loader = PackageLoader("unlabeled", "reporting")
    return Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    ).get_template(name)


def _page() -> dict[str, Any]:
    """What every page has: script, style sheet, and the policy that allows these alone."""
    script, style = (
        files("unlabeled.reporting").joinpath(name).read_text(encoding="utf-8") for name in ("page.js", "style.css")
    )
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {_allowed(script)}; style-src {_allowed(style)}"
    )
    return {"policy": policy, "script": Markup(script), "style": Markup(style), "version": __version__}


def _allowed(content: str) -> str:
    """The hash by which a content security policy knows an inline script or style sheet."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode('ascii')}'"
