"""`sweep --grid views`: each pair of transformations, in a matrix of linear accuracies."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from command import file, mistake, ok

from unlabeled.comparing import matrix, parabola
from unlabeled.comparing.matrix import Matrix
from unlabeled.comparing.sweep import parse_grid
from unlabeled.views.policies.pair import TRANSFORMATIONS

TEXT = """\
method: {name: simclr, temperature: 0.5}
encoder: {name: resnet10t, width: 4}
views: {name: byol, scale: [0.5, 1.0]}
batch_size: 16
kind: {name: image, size: 8}
epochs: 1
precision: "32"
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return path


def row(first: str, second: str, share: float | None) -> dict[str, object]:
    judged = {"failed": "it broke"} if share is None else {"figures": {"linear": [share], "knn": [0.0]}}
    return {"name": "", "values": {"views.first": first, "views.second": second}, **judged}


def test_a_study_and_one_transformation_more(tmp_path: Path, recipe: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "out"
    common = ("sweep", recipe, data, "--views.strength", "0.5", "--accelerator", "cpu", "--out", out)
    ok(*common, "--grid", "views=crop")
    (first,) = (p for p in out.glob("views.first=*.json"))
    written = first.stat().st_mtime_ns
    said = ok(*common, "--grid", "views.first=crop", "--grid", "views.second=crop,blur")
    assert "first \\ second" in said
    assert first.stat().st_mtime_ns == written
    table = json.loads((out / "table.json").read_text())
    policies = [r["recipe"]["views"] for r in table["rows"]]
    assert {(p["name"], p["first"], p["second"]) for p in policies} == {("pair", "crop", "crop"), ("pair", "crop", "blur")}
    assert all(p["strength"] == 0.5 for p in policies)
    figures = {r["values"]["views.second"]: r["figures"]["linear"][0] for r in table["rows"]}
    made = table["matrix"]
    assert (made["first"], made["second"]) == (["crop"], ["crop", "blur"])
    assert made["linear"] == [[figures["crop"], figures["blur"]]]
    assert made["means"] == pytest.approx([sum(figures.values()) / 2])
    text = (out / "table.md").read_text()
    assert "| first \\ second | crop | blur | mean |" in text
    assert ET.parse(out / "sweep.svg").getroot().tag.endswith("svg")
    assert "axes" in mistake("sweep", recipe, data, "--accelerator", "cpu", "--out", out, "--grid", "method.dim=8,16")


def test_views_stands_for_all_pairs() -> None:
    axes = parse_grid(matrix.spelled("views"))
    assert axes == {"views.first": list(TRANSFORMATIONS), "views.second": list(TRANSFORMATIONS)}
    assert matrix.asked(list(axes))
    assert not matrix.asked([*axes, "seed"])
    assert matrix.spelled("views.scale=0.1,1;0.5,1") == ["views.scale=0.1,1;0.5,1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("views=crop,color",), "'color'"),
        (("views=",), "OPTION=VALUE,VALUE"),
        (("views=crop", "views.first=blur"), "is given twice"),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_anything_trains(
    tmp_path: Path, recipe: Path, words: tuple[str, ...], said: str
) -> None:
    axes = [word for axis in words for word in ("--grid", axis)]
    out = tmp_path / "out"
    assert said in mistake("sweep", recipe, file(tmp_path / "x.npz"), *axes, "--accelerator", "cpu", "--out", out)
    assert not out.exists()


def test_the_matrix_is_in_the_papers_order_and_a_row_that_is_not_complete_has_no_mean(tmp_path: Path) -> None:
    rows = [row("noise", "noise", 0.2), row("noise", "crop", 0.4), row("crop", "crop", 0.5), row("crop", "noise", None)]
    made = Matrix.of(rows)
    assert (list(made.first), list(made.second)) == (["crop", "noise"], ["crop", "noise"])
    assert made.shares == [[0.5, None], [0.4, 0.2]]
    assert made.means == [None, pytest.approx(0.3)]
    assert made.cells() == [["crop", "**50.0%**", "–", "–"], ["noise", "40.0%", "20.0%", "**30.0%**"]]
    tree = ET.parse(matrix.draw(tmp_path / "a.svg", made, title="x"))
    assert tree.getroot().tag.endswith("svg")
    again = matrix.draw(tmp_path / "b.svg", made, title="x").read_bytes()
    assert again == (tmp_path / "a.svg").read_bytes()


def test_numbers_are_drawn_where_they_belong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn: dict[tuple[float, float], tuple[str, str]] = {}
    real = Axes.text

    def text(self: Axes, x: float, y: float, s: str, **more: object) -> object:
        drawn[x, y] = (s, str(more.get("color")))
        return real(self, x, y, s, **more)

    monkeypatch.setattr(Axes, "text", text)
    made = Matrix.of([row(a, b, s) for (a, b), s in zip([(a, b) for a in ("crop", "blur") for b in ("crop", "blur")],
                                                       (0.1, 0.2, 0.3, 0.6), strict=True)])  # fmt: skip
    matrix.draw(tmp_path / "a.svg", made, title="x")
    assert drawn == {
        (0, 0): ("10.0%", "white"), (1, 0): ("20.0%", "white"), (2, 0): ("15.0%", "white"),
        (0, 1): ("30.0%", "white"), (1, 1): ("60.0%", "black"), (2, 1): ("45.0%", "black"),
    }  # fmt: skip


def test_without_a_recipe_the_default_one_is_swept(tmp_path: Path) -> None:
    said = mistake("sweep", "nowhere", "--grid", "views", "--out", tmp_path / "out")
    assert "nowhere" in said and "recipe" not in said


def test_with_infomin_each_row_says_what_its_views_share_and_the_figure_is_of_that(tmp_path: Path) -> None:
    path, out = tmp_path / "recipe.yaml", tmp_path / "out"
    path.write_text(TEXT.replace("name: byol, scale: [0.5, 1.0]", "name: infomin, n: 0, strength: 0.0, blur: 0.0"))
    axis = "views.scale=0.99,1;0.05,0.1"
    ok("sweep", path, file(tmp_path / "x.npz"), "--grid", axis, "--epochs", "3", "--accelerator", "cpu", "--out", out)
    table = json.loads((out / "table.json").read_text())
    shared = {row["values"]["views.scale"]: row["information"] for row in table["rows"]}
    assert shared["0.99,1"] > shared["0.05,0.1"]
    text = (out / "table.md").read_text()
    assert "| views.scale | information, nats | kNN 100% |" in text
    assert f"| 0.99,1 | {shared['0.99,1']:.2f} ± " in text
    assert "log N minus InfoNCE" in text
    assert "information that two views share" not in text
    again = parabola.draw(tmp_path / "again.svg", ["views.scale"], table["rows"], title=table_title(text))
    assert again.read_bytes() == (out / "sweep.svg").read_bytes()


def table_title(text: str) -> str:
    return text.partition("\n")[0].removeprefix("# ")


def test_each_point_of_the_parabola_lies_at_its_information_and_is_named_by_its_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    drawn: list[tuple[str, tuple[float, float]]] = []
    real = Axes.annotate

    def annotate(self: Axes, text: str, at: tuple[float, float], *more: object, **rest: object) -> object:
        drawn.append((text, at))
        return real(self, text, at, *more, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Axes, "annotate", annotate)
    rows = [
        {"values": {"views.distance": value, "seed": seed}, "information": shared, "figures": {"linear": [right]}}
        for value, seed, shared, right in (("0", "0", 4.0, 0.2), ("0.5", "0", 2.0, 0.4), ("0", "1", 3.0, 0.3))
    ]
    parabola.draw(tmp_path / "a.svg", ["views.distance", "seed"], rows, title="x")
    assert drawn == [("0", (4.0, 20.0)), ("0.5", (2.0, 40.0)), ("0", (3.0, 30.0))]
