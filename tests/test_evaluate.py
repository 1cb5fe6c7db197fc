"""The verb evaluate: what is measured, and what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command import ONE, file, folder, images, mistake, ok
from command import unlabeled as command
from rich.console import Console

import unlabeled
from unlabeled.errors import UserError
from unlabeled.probes.base import binomial

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run of one epoch."""
    path = tmp_path_factory.mktemp("made")
    ok("pretrain", file(path / "x.npz", n=90), *ONE, "--out", path / "run")
    return path


def test_the_table_and_the_file(made: Path) -> None:
    amounts = ["1", "10%", "100%"]
    words = [w for a in amounts for w in ("--labels", a)]
    words += ["--protocol", "knn", "--protocol", "linear:C=1", "--against", "pixels", "--against", "random", "--draws", "3"]
    said = ok("evaluate", made / "run", "--data", made / "x.npz", *words)
    assert said.count("19 images of a held-out fifth (seed 0)") == 2
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
        assert score["labelled"][0] == {"1": 3, "10%": 7, "100%": 71}[score["labels"]]
        assert (score["seed"], score["tested"]) == (0, 19)
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
    assert str(result).splitlines()[0] == result.answer
    assert "│ 100%" in str(result)
    found = result.score("run", "100%", "knn")
    assert found.std() is None
    assert found.spread() == binomial(found.mean(), 19)
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
    assert "has 2 channels, and the run" in mistake("evaluate", run, "--data", file(tmp_path / "odd.npz", channels=2))
    with pytest.raises(UserError, match="at least one protocol"):
        unlabeled.evaluate(run, protocol=[])


def test_unlabelled_images_are_neither_drawn_nor_scored(made: Path) -> None:
    x, y = images(90)
    y[::2] = -1
    result = unlabeled.evaluate(made / "run", data=(x, y), protocol="knn", against="none")
    score = result.score("run", "100%", "knn")
    assert score.labelled[0] + score.tested == 45


def test_the_untrained_encoder_is_that_of_the_method_random(made: Path) -> None:
    ok("pretrain", made / "x.npz", *ONE, "--method", "random", "--out", made / "random")
    result = unlabeled.evaluate(made / "random", protocol="linear", labels="1", draws=2)
    assert result.score("run", "1", "linear").metrics == result.score("random", "1", "linear").metrics
    assert np.mean(result.score("run", "1", "linear").metrics["top1"]) > 1 / 3


def test_fine_tuning_and_amounts_of_a_protocol(made: Path) -> None:
    asked = ["finetune:epochs=1,steps=2,10%", "knn:1"]
    result = unlabeled.evaluate(made / "run", protocol=asked, draws=2)
    assert set(result.scores) == {
        ("pixels", "1"), ("random", "10%"), ("random", "1"), ("run", "10%"), ("run", "1"),
    }  # fmt: skip
    found = result.score("run", "10%", "finetune")
    assert found.labelled == [7, 7]
    assert found.title == "finetune:epochs=1,steps=2"
    assert "raw pixels cannot" not in "".join(map(str, result.lines()))


def test_another_run_is_a_rival(made: Path) -> None:
    other = made / "supervised"
    if not other.exists():
        ok("pretrain", made / "x.npz", *ONE, "--method", "supervised", "--out", other)
    result = unlabeled.evaluate(made / "run", protocol="knn", against=["random", str(other)])
    assert [subject for subject, _ in result.scores] == ["random", str(other), "run"]
    alone = unlabeled.evaluate(other, protocol="knn", against="none")
    assert result.score(str(other), "100%", "knn").metrics == alone.score("run", "100%", "knn").metrics
    grey = made / "grey"
    ok("pretrain", file(made / "grey.npz", channels=1), *ONE, "--out", grey)
    assert "images with 1 channel, and" in mistake("evaluate", made / "run", "--against", grey)


def test_features_are_extracted_once(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unlabeled.probes import subject

    called = []
    real = subject.features
    monkeypatch.setattr(subject, "features", lambda *a, **k: called.append(1) or real(*a, **k))
    for kept in (made / "run" / "features").glob("*"):
        kept.unlink()
    first = unlabeled.evaluate(made / "run", protocol=["knn", "linear"], against="random")
    assert len(called) == 4
    second = unlabeled.evaluate(made / "run", protocol=["knn", "linear"], against="random")
    assert len(called) == 4
    assert {k: [s.metrics for s in v] for k, v in first.scores.items()} == {
        k: [s.metrics for s in v] for k, v in second.scores.items()
    }
    unlabeled.evaluate(made / "run", data=images(90, seed=5), protocol="knn", against="random")
    assert len(called) == 8
    for path in (made / "run" / "features").glob("*.npz"):
        path.write_bytes(b"broken")
    unlabeled.evaluate(made / "run", protocol="knn", against="random")
    assert len(called) == 12


@pytest.mark.usefixtures("two_steps")
def test_several_data_make_one_table(made: Path) -> None:
    other = file(made / "other.npz", n=60, seed=3)
    words = ["--protocol", "transfer", "--labels", "100%", "--against", "random"]
    said = ok("evaluate", made / "run", "--data", made / "x.npz", "--data", other, *words)
    assert said.count("Pretraining ") == 2
    assert said.count("finetune") >= 2
    found = json.loads((made / "run" / "transfer.json").read_text())["transfer"]
    assert [one["data"] for one in found] == [str(made / "x.npz"), str(other)]
    assert {s["protocol"] for one in found for s in one["scores"]} == {"linear", "finetune"}


def test_pictures_of_other_images_are_removed_and_nothing_else(made: Path) -> None:
    out, folder = made / "mine.json", made / "mine-pictures"
    unlabeled.evaluate(made / "run", protocol="clusters", against="none", out=out)
    assert (folder / "clusters.png").is_file()
    (folder / "letter.txt").write_text("dear")
    unlabeled.evaluate(made / "run", data=images(90, seed=8), protocol="knn", against="none", out=out)
    assert sorted(path.name for path in folder.iterdir()) == ["knn.csv", "knn.json", "knn.png", "letter.txt"]


def test_a_protocol_that_cannot_be_had_costs_no_other(made: Path) -> None:
    out, words = made / "some.json", ["--against", "random", "--out", made / "some.json"]
    some = command("evaluate", made / "run", "--protocol", "clusters:k=500", "--protocol", "knn", *words)
    assert some.code == 1
    assert "not judged by clusters: clusters: k is 500" in " ".join(some.out.split())
    found = json.loads(out.read_text())
    assert {score["protocol"] for score in found["scores"]} == {"knn"}
    assert list(found["failed"]) == ["clusters"]
    out.unlink()
    mistake("evaluate", made / "run", "--protocol", "clusters:k=500", *words)
    assert not out.exists()


def test_all_data_are_opened_before_any_is_judged(made: Path) -> None:
    both = ["--data", made / "x.npz", "--data", made / "no.npz"]
    assert "no.npz" in mistake("evaluate", made / "run", *both, "--protocol", "transfer", "--out", made / "none.json")
    assert not (made / "none.json").exists()


def test_maps_and_health_need_no_labels_and_what_does_is_left_out(made: Path) -> None:
    x, _ = images(90)
    np.savez(made / "bare.npz", x=x)
    words = ["--data", made / "bare.npz", "--against", "none", "--out", made / "bare.json"]
    some = command("evaluate", made / "run", "--protocol", "tsne", "--protocol", "health", "--protocol", "knn", *words)
    assert some.code == 1, some.err
    assert "not judged by knn: the training split has no labels" in " ".join(some.out.split())
    found = json.loads((made / "bare.json").read_text())
    assert {score["protocol"] for score in found["scores"]} == {"tsne", "health"}
    assert set(json.loads((made / "bare-pictures" / "tsne.json").read_text())["label"]) == {-1}
    assert "no labels to evaluate with" in mistake("evaluate", made / "run", "--protocol", "knn", *words)


def test_the_same_images_are_no_test(made: Path, tmp_path: Path) -> None:
    """Each is its own nearest neighbour: 100.0%, of nothing."""
    data = folder(tmp_path / "d")
    said = mistake("evaluate", made / "run", "--data", f"train={data},test={data}", "--protocol", "knn")
    assert "training and test images are the same, so that all would be right: give others to test on" in said
