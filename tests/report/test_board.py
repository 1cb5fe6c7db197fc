"""The page of a table: who is best, a chart of all rows, what is said of them; from the files that `compare` wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import mistake, ok
from tags import Tags

from unlabeled.reporting.board import board_page, parsed

TABLE = """# pictures: methods compared

| row | kNN 100% | minutes |
| --- | --: | --: |
| random | 40.0% | 0.0 |
| <b>moco</b> | **55.0 ± 4.0%** | 1.5 |
| supervised 100% | 70.0% | 1.5 |

- pictures; resnet18; 1 epoch
- All methods clearly beat `random` by kNN with 100% of the labels (95% interval of the difference).
"""


def row(name: str, kind: str, knn: float) -> dict[str, Any]:
    return {"name": name, "kind": kind, "figures": {"knn": [knn]}, "tested": 400, "asked": {}}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rows = [row("random", "baseline", 0.4), row("<b>moco</b>", "method", 0.55), row("supervised 100%", "labels", 0.7)]
    rows[1]["intervals"] = {"knn": 0.04}
    (tmp_path / "table.json").write_text(json.dumps({"question": {}, "rows": [*rows, {"name": "byol", "failed": "no"}]}))
    (tmp_path / "table.md").write_text(TABLE)
    (tmp_path / "curves.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    return tmp_path


def test_the_best_without_labels_stands_out(table: Path) -> None:
    page = board_page(table)
    assert page.best == "Best by kNN with all labels: <b>moco</b>, 55.0 ± 4.0%; an untrained encoder has 40.0%"
    assert [(bar.name, bar.strong) for bar in page.chart.bars] == [
        ("random", False),
        ("<b>moco</b>", True),
        ("supervised 100%", False),
    ]
    assert page.chart.bars[0].text == "40.0 ± 4.9%", "of 400 samples"
    assert page.answers == [TABLE.splitlines()[-1][2:]]
    assert page.tables[0].rows[1] == ["<b>moco</b>", "55.0 ± 4.0%", "1.5"]


def test_the_page_needs_nothing_and_takes_nothing_for_markup(table: Path) -> None:
    assert f"written: {table / 'report.html'}" in ok("report", table)
    tags = Tags((table / "report.html").read_text(encoding="utf-8"))
    assert "<b>moco</b>" in tags.text
    assert not tags.all("b")
    assert all(str(image["src"]).startswith("data:image/svg+xml") for image in tags.all("img"))


def test_a_damaged_table_is_told(table: Path) -> None:
    (table / "table.json").write_text('{"rows": 3}')
    assert "is damaged" in mistake("report", table)


def test_several_tables_in_one_text_are_told_apart() -> None:
    title, tables, remarks = parsed("# t\n\n| a | b |\n| --- | --: |\n| x | 1 |\n\n- said\n\n| c |\n| --- |\n| y |\n")
    assert (title, remarks) == ("t", ["said"])
    assert [(one.columns, one.rows) for one in tables] == [(["a", "b"], [["x", "1"]]), (["c"], [["y"]])]
