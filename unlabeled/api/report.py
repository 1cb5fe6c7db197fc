"""The verb that shows runs to people: report. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Unpack

from unlabeled.about import About, takes_data


@takes_data
def report(
    *run: str | Path,
    out: str | Path | None = None,
    data: Any = None,
    **about: Unpack[About],
) -> Path:
    """Write one HTML file that shows runs: what was run, curves, tables, views, maps, retrieval, filters.

    The file needs no network and no other file. Evaluate the runs before: the page shows what `evaluate` wrote. What that
    was told of the data (label, group, limit ...) this is told again.

    Args:
        run: folders of runs; several are shown side by side. Or the folder of a table that `compare` or `sweep` wrote.
        out: HTML file (default: report.html in the first run's folder).
        data: where the images are, as for `pretrain` (default: what each run was trained and evaluated on).
        about: what holds of the data, the same for every verb: see `unlabeled.about.About`.

    Returns:
        The file.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.reporting.page import report as report_them

    return report_them(run, out=out, data=data, about=about)
