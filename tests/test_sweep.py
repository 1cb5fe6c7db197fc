"""The verb sweep: every combination, in a table and a figure; it grows, and refuses before anything trains."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command import ONE, file, mistake, ok, unlabeled

from unlabeled import plots
from unlabeled.comparing import sweep
from unlabeled.comparing.board import Board
from unlabeled.comparing.table import grid, markdown

TEXT = """\
method: {name: simclr, temperature: 0.5}
encoder: {name: resnet10t, width: 4}
batch_size: 16
kind: {name: image, size: 8}
epochs: 2
precision: "32"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return path


def test_a_sweep_and_one_value_more(tmp_path: Path, recipe: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "out"
    common = ("sweep", recipe, data, "--grid", "views.strength=0.5", "--accelerator", "cpu", "--out", out)
    ok(*common, "--grid", "method.temperature=0.1")
    (first,) = (p for p in out.glob("*temperature=0.1*.json"))
    written = first.stat().st_mtime_ns
    said = ok(*common, "--grid", "method.temperature=2,0.1")
    assert "written: " in said
    assert first.stat().st_mtime_ns == written
    rows = json.loads((out / "table.json").read_text())["rows"]
    values = [row["values"] for row in rows]
    assert values == [{"views.strength": "0.5", "method.temperature": t} for t in ("0.1", "2")]
    assert [row["recipe"]["method"]["temperature"] for row in rows] == [0.1, 2.0]
    assert all(set(row["figures"]) == {"knn", "linear"} for row in rows)
    assert all(row["epochs"] == 2 for row in rows)
    text = (out / "table.md").read_text()
    assert text.startswith("# x: simclr, views.strength × method.temperature\n")
    assert re.search(r"x\.npz; .*, 1 thread\.$", text, re.MULTILINE)
    assert "| views.strength | method.temperature | kNN 100% | linear top-1 |" in text
    assert "**" in text
    assert re.search(r"\| (\*\*)?\d+\.\d ± \d+\.\d", text), "with what so many test samples tell"
    assert ET.parse(out / "sweep.svg").getroot().tag.endswith("svg")
    assert "axes" in mistake(*common, "--grid", "method.dim=8,16")
    assert "dim 128" in mistake(*common, "--grid", "method.temperature=3", "--method.dim", 8)
    assert "sigma" in mistake(*common, "--grid", "method.temperature=3", "--views.sigma", "0.1,1")
    recipe.write_text(TEXT.replace("epochs: 2", "epochs: 3"))
    assert "epochs = 2, and this asks for 3" in mistake(*common, "--grid", "method.temperature=0.1")


def test_stopped_before_the_first_row_it_names_no_file(
    tmp_path: Path, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Board, "_fill", stop)
    data, out = file(tmp_path / "x.npz"), tmp_path / "out"
    for command in (
        ("sweep", recipe, data, "--grid", "method.temperature=1", "--accelerator", "cpu"),
        ("compare", data, "--method", "moco", *ONE),
    ):
        result = unlabeled(*command, "--out", out / command[0])
        assert result.code == 130
        assert re.search(r"stopped with 0 of (1 row|4 rows) done", result.out)
        assert "written" not in result.out
        assert not (out / command[0] / "table.md").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("method.temprature=0.1",), "did you mean 'temperature'?"),
        (("metod.temperature=0.1",), "did you mean 'method'?"),
        (("method.temperature=0.1,warm",), "must be a number"),
        (("method.temperature=0.1,-1",), "must be above 0"),
        (("method.temperature",), "OPTION=VALUE,VALUE"),
        (("method.temperature=",), "OPTION=VALUE,VALUE"),
        (("method.temperature=1", "method.temperature=2"), "is given twice"),
        (("encoder.width=4,5",), "must be an even number"),
        (("batch-size=16,64",), "larger than the 48 images"),
        (("seed=0,1",), "held out"),
        (("data=digits",), "nothing to compare rows by"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_grid_that_cannot_be_is_refused_before_anything_trains(
    tmp_path: Path, recipe: Path, words: tuple[str, ...], said: str
) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "out"
    axes = [word for axis in words for word in ("--grid", axis)]
    assert said in mistake("sweep", recipe, data, *axes, "--accelerator", "cpu", "--out", out)
    assert not out.exists()


def test_it_takes_the_options_of_compare(tmp_path: Path, recipe: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "out"
    words = ("sweep", recipe, data, "--grid", "method.temperature=0.1", "--accelerator", "cpu", "--out", out)
    assert "two budgets" in mistake(*words, "--epochs", 1, "--minutes", 1)
    assert "larger than the 48 images" in mistake(*words, "--epochs", 1, "--batch-size", 4096)
    ok(*words, "--epochs", 1, "--optimizer", "adamw", "--seed", 3)
    (row,) = json.loads((out / "table.json").read_text())["rows"]
    assert (row["epochs"], row["recipe"]["optimizer"]["name"], row["recipe"]["seed"]) == (1, "adamw", 3)


def test_three_axes_in_the_table_and_one_line_for_each_pair_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    axes = {"method.temperature": ["0.05", "0.5", "1"], "method.normalize": ["true", "false"], "epochs": ["1", "2"]}
    question = {"axes": list(axes), "data": {"name": "x"}}
    rows = [
        {
            "values": {"method.temperature": t, "method.normalize": n, "epochs": e},
            "figures": {"knn": [float(t) / 2], "linear": [0.25]},
        }
        for t in axes["method.temperature"] for n in axes["method.normalize"] for e in axes["epochs"]
    ]  # fmt: skip
    columns = sweep._columns(question, rows)
    text = markdown(columns, grid(columns, sweep._sorted(rows), sweep._competes))
    assert text.count("\n") == 14
    assert text.splitlines()[2].startswith("| 0.05 | false | 1 | 2.5% | **25.0%** |")
    assert "| 1 | true | 2 | **50.0%** |" in text
    drawn = []
    real = plots.draw
    monkeypatch.setattr(plots, "draw", lambda *args, **more: drawn.append((args, more)) or real(*args, **more))
    sweep._draw(tmp_path / "a.svg", question, rows)
    (_, lines), more = drawn[0]
    assert list(lines) == [f"normalize {n}, epochs {e}" for n in ("true", "false") for e in (1, 2)]
    assert lines["normalize true, epochs 2"] == [(0.05, 2.5), (0.5, 25.0), (1.0, 50.0)]
    assert more["log"]
    assert (tmp_path / "a.svg").is_file()


def test_words_on_the_axis_are_categories(tmp_path: Path) -> None:
    question = {"axes": ["method"], "data": {"name": "x"}}
    rows = [{"values": {"method": name}, "figures": {"knn": [0.5]}} for name in ("simclr", "byol")]
    sweep._draw(tmp_path / "a.svg", question, rows)
    assert ET.parse(tmp_path / "a.svg").getroot() is not None


@pytest.mark.parametrize(
    ("values", "squeezed"),
    [([1, 0.999, 0.99, 0.9, 0], True), ([0, 1, 2], False), ([0.05, 0.1, 0.5], False), ([1], False)],
)
def test_points_that_lie_upon_each_other_are_told_apart(values: list[float], squeezed: bool) -> None:
    assert sweep._squeezed(values) is squeezed
