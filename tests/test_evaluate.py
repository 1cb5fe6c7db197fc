"""The verb evaluate: what is measured, what is written, and what the sentence under the table says."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from command import ONE, file, images, mistake, ok
from rich.console import Console

import unlabeled
from unlabeled.errors import UserError
from unlabeled.probes.evaluate import Score

evaluation = importlib.import_module("unlabeled.verbs.evaluate")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run of one epoch."""
    path = tmp_path_factory.mktemp("made")
    ok("pretrain", file(path / "x.npz", n=90), *ONE, "--out", path / "run")
    return path


def test_the_table_and_the_file(made: Path) -> None:
    amounts = ["1", "10%", "100%"]
    words = [w for a in amounts for w in ("--labels", a)]
    words += ["--protocol", "knn", "--protocol", "linear", "--against", "pixels", "--against", "random", "--draws", "3"]
    said = ok("evaluate", made / "run", "--data", made / "x.npz", *words)
    assert said.count("18 images of a held-out fifth (seed 0)") == 2
    for word in ("raw pixels", "untrained", "pretrained", "1 per class", "10%", "100%", "±", "top1", "evaluation.json"):
        assert word in said
    found = json.loads((made / "run" / "evaluation.json").read_text())
    assert len(found["scores"]) == 3 * 3 * 2
    assert {(s["subject"], s["labels"], s["protocol"]) for s in found["scores"]} == {
        (s, a, p) for s in ("pixels", "random", "run") for a in amounts for p in ("knn", "linear")
    }
    for score in found["scores"]:
        draws = 1 if score["labels"] == "100%" else 3
        assert score["draws"] == draws == len(score["metrics"]["top1"]) == len(score["labelled"])
        assert score["labelled"][0] == {"1": 3, "10%": 7, "100%": 72}[score["labels"]]
        assert (score["seed"], score["tested"]) == (0, 18)
    assert found["recipe"]["method"]["name"] == "simclr"
    assert {"torch", "scikit-learn"} <= found["versions"].keys()
    assert found["hardware"]["processor"]
    before = (made / "run" / "evaluation.json").read_text()
    ok("evaluate", made / "run", "--data", made / "x.npz", *words, "--out", made / "again.json")
    assert json.loads((made / "again.json").read_text())["scores"] == json.loads(before)["scores"]


def test_the_table_fits_80_columns(made: Path) -> None:
    result = unlabeled.evaluate(made / "run", labels=["1", "100%"], against=["pixels", "random"], draws=2)
    console = Console(width=80, record=True, file=(made / "table.txt").open("w"))
    with console.file:
        for part in result.lines():
            console.print(part, soft_wrap=isinstance(part, str))
    rows = [line for line in console.export_text().splitlines() if line.startswith(("│", "┃"))]
    assert rows
    assert all(len(row) <= 80 and "…" not in row for row in rows)
    assert "±" not in result.score("run", "100%", "knn").text()
    assert "±" in result.score("run", "1", "knn").text()


def test_words_of_python_may_be_single(made: Path) -> None:
    result = unlabeled.evaluate(made / "run", protocol="knn", labels=1, against="none", draws=2)
    assert list(result.scores) == [("run", "1")]


def test_a_test_split_is_used_where_there_is_one(made: Path) -> None:
    test = file(made / "test.npz", n=30, seed=1)
    assert "30 images of the test split" in ok("evaluate", made / "run", "--data", f"train={made / 'x.npz'},test={test}")


def test_mistakes(made: Path, tmp_path: Path) -> None:
    run = made / "run"
    assert "must be at least 1" in mistake("evaluate", run, "--draws", 0)
    assert "write a whole number" in mistake("evaluate", run, "--labels", "0")
    assert "more than class" in mistake("evaluate", run, "--labels", "500")
    assert "did you mean 'pixels'?" in mistake("evaluate", run, "--against", "pixel")
    assert "unknown protocol 'lin'; did you mean 'linear'?" in mistake("evaluate", run, "--protocol", "lin")
    assert "no folder" in mistake("evaluate", run, "--out", tmp_path / "no" / "a.json")
    assert "has no labels" in mistake("evaluate", run, "--data", file(tmp_path / "none.npz", labels=False))
    assert "has 1 channel, and the run" in mistake("evaluate", run, "--data", file(tmp_path / "grey.npz", channels=1))
    with pytest.raises(UserError, match="at least one protocol"):
        unlabeled.evaluate(run, protocol=[])


def test_unlabelled_images_are_neither_drawn_nor_scored(made: Path) -> None:
    x, y = images(90)
    y[::2] = -1
    result = unlabeled.evaluate(made / "run", data=(x, y), protocol="knn", against="none")
    score = result.score("run", "100%", "knn")
    assert score.labelled[0] + score.tested == 45


def score(draws: list[float]) -> Score:
    return Score("knn", {}, 1, len(draws), 0, [3], 10, {"top1": draws}, [])


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        ([[0.9, 0.92]], [[0.5, 0.52]], "beats the raw pixels here, by more than the spread."),
        ([[0.9]], [[0.5]], "beats the raw pixels here."),
        ([[0.9, 0.5]], [[0.6, 0.62]], "beats the raw pixels here, but within the spread with knn 1 per class."),
        ([[0.5, 0.5]], [[0.5, 0.5]], "does not beat the raw pixels: pretraining did not help"),
        ([[0.9], [0.9]], [[0.5], [0.6]], "beats the raw pixels in every comparison."),
        ([[0.9], [0.4]], [[0.5], [0.6]], "does not beat the raw pixels everywhere; not with knn 2 per class."),
        (
            [[0.9, 0.9], [0.7, 0.5]],
            [[0.5, 0.5], [0.55, 0.55]],
            "every comparison, but within the spread with knn 2 per class.",
        ),
    ],
)
def test_the_sentence(ours: list[list[float]], theirs: list[list[float]], said: str) -> None:
    scores = {("pixels", str(i)): [score(draws)] for i, draws in enumerate(theirs, 1)}
    scores |= {("run", str(i)): [score(draws)] for i, draws in enumerate(ours, 1)}
    lines = list(evaluation.Evaluation(Path("x"), "run", "data", "a test", scores).lines())
    assert any(isinstance(line, str) and line.startswith("The pretrained encoder ") and said in line for line in lines)


def test_the_untrained_encoder_is_that_of_the_method_random(made: Path) -> None:
    ok("pretrain", made / "x.npz", *ONE, "--method", "random", "--out", made / "random")
    result = unlabeled.evaluate(made / "random", protocol="linear", labels="1", draws=2)
    assert result.score("run", "1", "linear").metrics == result.score("random", "1", "linear").metrics
    assert np.mean(result.score("run", "1", "linear").metrics["top1"]) > 1 / 3
