"""The verb that shows runs to people: report. As light to import as `api`."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def report(
    *run: str | Path,
    out: str | Path | None = None,
    data: Any = None,
    limit: int | None = None,
    root: str | Path | None = None,
) -> Path:
    """Write one HTML file that shows runs: what was run, curves, tables, views, maps, retrieval, filters.

    The file needs no network and no other file. Evaluate the runs before: the page shows what `evaluate` wrote.

    Args:
        run: folders of runs; several are shown side by side. Or the folder of a table that `compare` or `sweep` wrote.
        out: HTML file (default: report.html in the first run's folder).
        data: where the images are, as for `pretrain` (default: what each run was trained and evaluated on).
        limit: how many samples `evaluate` was told to take, where the page is to find them again (default: all).
        root: folder with the files of named data sets (default: $UNLABELED_DATA).

    Returns:
        The file.

    Raises:
        UserError: anything that the user can put right.
    """
    from unlabeled.reporting.page import report as report_them

    return report_them(run, out=out, data=data, limit=limit, root=root)
