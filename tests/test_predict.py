"""`predict`, and runs that `evaluate --keep` writes."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE, file, folder, mistake, ok

import unlabeled
from unlabeled.run import Run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch, data, and `kept`: the run fine-tuned with all labels."""
    path = tmp_path_factory.mktemp("kept")
    folder(path / "data")
    ok("pretrain", path / "data", *ONE, "--out", path / "run")
    tuned = ("--protocol", "finetune:100%,epochs=8,steps=30", "--against", "none", "--accelerator", "cpu")
    ok("evaluate", path / "run", *tuned, "--keep", path / "kept", "--out", path / "e.json")
    return path


def test_a_kept_encoder_is_a_run(kept: Path) -> None:
    run, before = Run.open(kept / "kept"), Run.open(kept / "run")
    assert run.finished
    assert run.recipe.start == str(kept / "run")
    assert run.recipe.labels == "100%"
    assert run.environment["start"]["named"] == str(kept / "run")
    theirs, ours = before.encoder().state_dict(), run.encoder().state_dict()
    assert theirs.keys() == ours.keys()
    assert any(not torch.equal(theirs[name], ours[name]) for name in theirs), "it learned nothing"
    ok("evaluate", kept / "kept", "--protocol", "knn", "--protocol", "classifier", "--against", "random",
       "--accelerator", "cpu", "--out", kept / "again.json")  # fmt: skip
    ok("embed", kept / "kept", kept / "data", "--out", kept / "z.npz", "--accelerator", "cpu")


def test_predictions_are_those_of_the_classifier(kept: Path) -> None:
    said = ok("predict", kept / "kept", kept / "data", "--out", kept / "p.csv", "--accelerator", "cpu")
    assert "of the labelled samples have the class that is predicted" in said
    with (kept / "p.csv").open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 60
    assert all(0 < float(row["probability"]) <= 1 for row in rows)
    right = [Path(row["path"]).parent.name == row["class"] for row in rows]
    assert np.mean(right) > 0.9
    found = unlabeled.predict(kept / "kept", kept / "data", out=kept / "q.csv", accelerator="cpu")
    assert found.right == pytest.approx(np.mean(right))
    assert (kept / "q.csv").read_bytes() == (kept / "p.csv").read_bytes()


def test_bad_files_have_no_row_and_are_counted(kept: Path, tmp_path: Path) -> None:
    folder(tmp_path / "data")
    (tmp_path / "data" / "a" / "0.png").write_bytes(b"no picture")
    said = ok("predict", kept / "kept", tmp_path / "data", "--out", tmp_path / "p.csv", "--accelerator", "cpu")
    assert "left out 1 bad image: " in said
    assert len((tmp_path / "p.csv").read_text().splitlines()) == 60


def test_mistakes(kept: Path, tmp_path: Path) -> None:
    words = ("predict", kept / "kept", kept / "data", "--out")
    assert "give a name that ends in .csv" in mistake(*words, tmp_path / "p.json")
    assert "there is no folder" in mistake(*words, tmp_path / "no" / "p.csv")
    said = mistake("predict", kept / "run", kept / "data", "--out", tmp_path / "p.csv")
    assert "has no classifier.safetensors" in said
    assert "--keep" in said
    assert "has no classifier" in mistake("evaluate", kept / "run", "--protocol", "classifier", "--out", tmp_path / "e.json")
    both = ("evaluate", kept / "run", "--out", tmp_path / "e.json", "--keep")
    assert "0 fine-tuned encoders" in mistake(*both, tmp_path / "k", "--protocol", "knn")
    two = ("--protocol", "finetune", "--labels", "1", "--labels", "2")
    assert "2 fine-tuned encoders" in mistake(*both, tmp_path / "k", *two)
    assert "something already" in mistake(*both, kept / "run", "--protocol", "finetune:100%")
    assert not (tmp_path / "k").exists()
    (kept / "broken").mkdir()
    for path in filter(Path.is_file, (kept / "kept").iterdir()):
        (kept / "broken" / path.name).write_bytes(path.read_bytes() if path.name != "classifier.safetensors" else b"x")
    assert "damaged" in mistake("predict", kept / "broken", kept / "data", "--out", tmp_path / "p.csv")


def test_names_of_classes_go_with_the_classifier_however_data_number_them(kept: Path, tmp_path: Path) -> None:
    """A folder without class `a`: its first class is the classifier's second."""
    folder(tmp_path / "data")
    for path in (tmp_path / "data" / "a").iterdir():
        path.unlink()
    (tmp_path / "data" / "a").rmdir()
    found = unlabeled.predict(kept / "kept", tmp_path / "data", out=tmp_path / "p.csv", accelerator="cpu")
    assert found.right is not None
    assert found.right > 0.9


def test_a_supervised_run_predicts_too(tmp_path: Path) -> None:
    data = file(tmp_path / "a.npz", n=60)
    ok("pretrain", data, *ONE, "--method", "supervised", "--out", tmp_path / "run")
    found = unlabeled.predict(tmp_path / "run", data, out=tmp_path / "p.csv", accelerator="cpu")
    assert sum(found.counts.values()) == 60
