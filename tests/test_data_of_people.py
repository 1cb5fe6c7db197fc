"""What is said of the data on the command line: columns, limits, invariances, and where a run's data lie."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import ONE, SMALL, folder, images, mistake, ok
from PIL import Image

from unlabeled.data.opening import is_relative, placed
from unlabeled.run import Run

JUDGE = ("--protocol", "knn", "--against", "none", "--accelerator", "cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 60 pictures between semicolons, with a column for each thing that can be said; and a run on it."""
    path = tmp_path_factory.mktemp("made")
    x, y = images()
    lines = ["scan;finding;use;age"]
    for i, image in enumerate(x):
        (path / "d").mkdir(exist_ok=True)
        Image.fromarray(image).save(path / "d" / f"{i}.png")
        lines.append(f"d/{i}.png;{'abc'[y[i]]};{'test' if i < 15 else 'train'};{i}")
    (path / "x.csv").write_text("\n".join(lines))
    said = ok(
        *("pretrain", path / "x.csv", *ONE, "--path", "scan", "--label", "finding", "--split", "use", "--limit", "40"),
        *("--invariances", "mirror,flip,rotation", "--out", path / "run"),
    )
    assert "the split is that of its column 'use'" in said
    assert "40 of 60 samples are used" in said
    assert "Not used of the columns: age (labels: finding)." in said
    assert "--views.flip 0.5 --views.turn 0.75" in said
    return path


def test_a_run_keeps_what_was_said_of_the_data(made: Path) -> None:
    run = Run(made / "run")
    assert (run.recipe.path, run.recipe.split, run.recipe.limit) == ("scan", "use", 40)
    about = run.environment["data"]
    assert (about["train"], about["test"], about["held_out"]) == (30, 10, False)
    assert about["invariances"] == ["flip", "mirror", "rotation"]
    assert "is finished" in ok("pretrain", made / "x.csv", *ONE, "--resume", "--limit", "40", "--out", made / "run")
    message = mistake("pretrain", made / "x.csv", *ONE, "--resume", "--limit", "30", "--out", made / "run")
    assert "began with limit = 40, and cannot go on with 30" in message


def test_a_run_is_judged_on_its_own_samples_or_some_of_them(made: Path, tmp_path: Path) -> None:
    assert "knn, 10 images of the test split, by finding" in ok("evaluate", made / "run", *JUDGE)
    some = ok("evaluate", made / "run", *JUDGE, "--limit", "20", "--out", tmp_path / "a.json")
    assert "knn, 5 images of the test split" in some
    assert "not what the run was trained on" not in some
    other = folder(tmp_path / "other")
    whole = ok("evaluate", made / "run", *JUDGE, "--data", other, "--out", tmp_path / "b.json")
    assert "knn, 12 images of a held-out fifth" in whole  # the limit and the columns are of the run's data
    few = ok("evaluate", made / "run", *JUDGE, "--data", other, "--limit", "30", "--out", tmp_path / "b.json")
    assert "knn, 6 images of a held-out fifth" in few


def test_every_verb_that_takes_data_takes_some_of_it(made: Path, tmp_path: Path) -> None:
    words = (made / "x.csv", "--path", "scan", "--split", "use", "--limit", "20")
    told = "20 of 60 samples are used, as --limit asks"
    assert told in ok("embed", made / "run", *words, "--out", tmp_path / "e.npz", "--accelerator", "cpu")
    found = np.load(tmp_path / "e.npz", allow_pickle=True)
    assert found["split"].tolist().count("test") == 5
    assert len(found["embedding"]) == 20
    search = ("--data", *words, "--out", tmp_path / "s.png", "--accelerator", "cpu")
    assert told in ok("search", made / "run", made / "d" / "3.png", *search)
    assert told in ok("inspect", *words, "--minutes", "1", "--out", tmp_path / "i", "--accelerator", "cpu")
    assert len(json.loads((tmp_path / "i" / "inspect.json").read_text())["splits"]) == 2
    flips = ("--policy.flip", "0.5", "--policy.turn", "0.5", "--out", tmp_path / "v.png")
    assert told in ok("views", *words, *flips)
    assert "does not declare" in mistake("views", *words, *flips, "--invariances", "mirror")


def test_a_relative_path_means_what_it_meant_where_the_run_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder(tmp_path / "home" / "photos")
    folder(tmp_path / "away" / "photos", 40, 2)
    monkeypatch.chdir(tmp_path / "home")
    ok("pretrain", "photos", *SMALL, "--epochs", "0", "--out", "run")
    assert Run(Path("run")).data == "photos"
    ok("pretrain", "digits", *SMALL, "--epochs", "0", "--out", "named")
    assert "folder" not in Run(Path("named")).environment, "what folders a machine has is nobody's business"
    monkeypatch.chdir(tmp_path / "away")
    run = tmp_path / "home" / "run"
    assert Run(run).data == str(tmp_path / "home" / "photos")
    said = ok("evaluate", run, *JUDGE)
    assert "knn, 12 images of a held-out fifth" in said
    assert f"'photos' would be other data here, or none: {tmp_path / 'home' / 'photos'} is taken" in said
    assert "not what the run was trained on" not in said
    assert "12 images" not in ok("evaluate", run, *JUDGE, "--data", "photos", "--out", tmp_path / "a.json")
    shutil.rmtree(tmp_path / "home" / "photos")
    assert "is not what the run was trained on" in ok("evaluate", run, *JUDGE)
    said = ok("search", run, "0", "--out", tmp_path / "s.png", "--accelerator", "cpu")
    assert "is not what the run was trained on" in said


def test_words_for_data_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "then" / "a").mkdir(parents=True)
    (tmp_path / "then" / "digits").mkdir()
    then = str(tmp_path / "then")
    assert placed("a", then) == f"{then}/a"
    assert placed("train=a,test=gone", then) == f"train={then}/a,test=gone"
    for words in ("digits", "gone", "/a", "", "~/a"):
        assert placed(words, then) == words
    assert placed("a", "") == "a"
    relative = [is_relative(words) for words in ("a", "train=/a,test=b", "train=/a,test=/b", "digits", "~/a", "")]
    assert relative == [True, True, False, False, False, False]
    monkeypatch.chdir(then)
    assert placed("a", then) == "a"
