"""What is said of the data is said alike to every verb that takes some, and does there what it says."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import SMALL, images, mistake, ok
from PIL import Image

import unlabeled
from unlabeled.about import About, BesideLabel
from unlabeled.cli import VERBS
from unlabeled.errors import UserError

SAID = ("--path", "where", "--label", "what", "--group", "who", "--split", "part", "--columns", "{}/{number}")
"""Of a list whose columns have names that nobody knows."""
READ = (*SAID, "--limit", "30", "--pages", "all", "--range", "0,1023", "--fit", "pad", "--kind", "image")


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of files with two pages of 10 bits each, and a run on it."""
    path = tmp_path_factory.mktemp("listed")
    x, y = images()
    x = 4 * x[..., 0].astype(np.uint16)
    rows = ["where,what,who,part"]
    (path / "scans").mkdir()
    for i in range(30):
        first, second = (Image.fromarray(x[3 * at + i % 3]) for at in (i // 3, 10 + i // 3))
        first.save(path / "scans" / f"{i}.tif", save_all=True, append_images=[second])
        rows.append(f"scans/{i}.tif,{'abc'[y[i]]},p{i // 3},{'test' if i >= 24 else 'train'}")
    (path / "list.csv").write_text("\n".join(rows) + "\n")
    ok("pretrain", path / "list.csv", *READ, *SMALL, "--epochs", "1", "--method", "supervised", "--out", path / "run")
    return path


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_takes_the_same_of_the_data(verb: str) -> None:
    taken = inspect.signature(VERBS[verb]).parameters
    said_of_data = list(BesideLabel.__annotations__)
    assert ["label", *said_of_data] == [name for name in taken if name in ("label", *said_of_data)]
    assert said_of_data == list(taken)[-len(said_of_data) :]
    said = ok(verb, "--help")
    for name in About.__annotations__:
        assert f"--{name} " in said or name == "options", f"{verb} has no --{name}"
    for option in ("--range 0,4095", "--fit crop|pad|stretch", "--pages", "--tiles 256"):
        assert option in said
    for name in About.__annotations__:
        assert f"    {name}: " in VERBS[verb].__doc__
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'lable'"):
        VERBS[verb](lable="x")


WORDS: dict[str, tuple[str, ...]] = {
    "inspect": ("DATA", "--minutes", "1", "--accelerator", "cpu", "--out", "OUT"),
    "views": ("DATA", "--images", "2", "--invariances", "mirror", "--out", "OUT.png"),
    "evaluate": ("RUN", "--data", "DATA", "--protocol", "knn", "--against", "none", "--invariances", "mirror"),
    "report": ("RUN", "--data", "DATA", "--out", "OUT.html", "--invariances", "mirror"),
    "search": ("RUN", "0", "--data", "DATA", "--out", "OUT.png"),
    "outliers": ("RUN", "DATA", "--n", "2", "--out", "OUT.csv"),
    "embed": ("RUN", "DATA", "--out", "OUT.csv"),
    "predict": ("RUN", "DATA", "--out", "OUT.csv"),
    "export": ("RUN", "--data", "DATA", "--format", "safetensors", "--out", "OUT.safetensors"),
    "pretrain": ("DATA", *SMALL, "--epochs", "0", "--invariances", "mirror", "--out", "OUT"),
    "compare": ("DATA", "--method", "random", *SMALL, "--epochs", "0", "--invariances", "mirror", "--out", "OUT"),
    "sweep": (
        "DATA",
        "--grid",
        "method.temperature=0.5",
        *SMALL,
        "--epochs",
        "0",
        "--invariances",
        "mirror",
        "--out",
        "OUT",
    ),
    "tune": ("DATA", *SMALL, "--invariances", "mirror", "--precision", "32"),
}
NO_VIEWS = ("search", "outliers", "embed", "predict", "export")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_does_what_is_said_of_the_data(
    verb: str, listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(listed)
    asked = {"DATA": "list.csv", "RUN": "run"}
    words = [asked.get(word, word.replace("OUT", str(tmp_path / "out"))) for word in WORDS[verb]]
    for option in ("--path", "--label", "--group", "--split")[: 1 if verb == "report" else 4]:
        wrong = ["nowhere" if READ[i - 1] == option else word for i, word in enumerate(READ)]
        refused = f"{option} 'nowhere', and there is no such column"
        if verb == "report":  # the page says it
            ok(verb, *words, *wrong)
            assert refused.replace("'", "&#39;") in (tmp_path / "out.html").read_text()
        else:
            assert refused in mistake(verb, *words, *wrong)
    if verb in NO_VIEWS:
        assert "--invariances says what views may do" in mistake(verb, *words, *READ, "--invariances", "mirror")
    if verb not in ("compare", "tune"):  # which take half a minute
        said = ok(verb, *words, *READ)
        used = {"report": "written", "evaluate": "6 images of the test split"}  # of 12
        assert used.get(verb, "30 of 60 samples are used") in said
        assert verb != "inspect" or "--path where --split part --limit 30" in said, "the command that it advises"


def test_features_are_of_what_was_asked_for(listed: Path) -> None:
    """Of the pages, in the range, with the columns."""
    run, data = listed / "run", listed / "list.csv"
    about: dict[str, Any] = {"path": "where", "label": "what", "split": "part"}
    every = unlabeled.embed(run, data, **about)
    assert isinstance(every, dict)
    first = unlabeled.embed(run, data, **about, options={"kind.pages": "first"})
    dark = unlabeled.embed(run, data, **about, options={"kind.range": "0,4095", "kind.pages": "first"})
    assert isinstance(first, dict)
    assert isinstance(dark, dict)
    assert (len(every["path"]), len(first["path"])) == (60, 30)
    assert sorted(set(first["split"])) == ["test", "train"]
    assert sorted(set(first["class"])) == ["a", "b", "c"]
    assert not np.allclose(first["embedding"], dark["embedding"])
    drawn = unlabeled.embed(run, data, **about, limit=12)
    assert isinstance(drawn, dict)
    assert len(drawn["path"]) == 12


def test_what_an_encoder_was_made_for_is_no_question_of_the_data(listed: Path) -> None:
    said = mistake("embed", listed / "run", listed / "list.csv", "--kind.size", "16", "--out", listed / "z.csv")
    assert "--kind.size 16: the encoder of" in said
    assert "was made for 8, and for nothing else" in said
    assert "was trained on images" in mistake("search", listed / "run", 0, "--kind", "sound")
    said = mistake("evaluate", listed / "run", "--pages", "first", "--protocol", "knn")
    assert "the run was trained with pages = all: leave --pages out" in said
    assert "--limit says something of data" in mistake("export", listed / "run", "--format", "onnx", "--limit", 3)
    assert "unknown option --method.temperature" in mistake(
        "embed", listed / "run", listed / "list.csv", "--method.temperature", 1, "--out", listed / "z.csv"
    )


def test_a_part_of_the_run_s_own_data_is_the_part_it_was_trained_on(tmp_path: Path) -> None:
    """It was drawn by the run's seed."""
    np.savez(tmp_path / "x.npz", x=images()[0], y=images()[1])
    run = unlabeled.pretrain(
        tmp_path / "x.npz", limit=30, seed=3, epochs=1, batch_size=8, image_size=8, accelerator="cpu", monitor_every=0,
        options={"encoder.width": 4}, out=tmp_path / "run", speed="workers=1",
    )  # fmt: skip
    from unlabeled.data import open_data
    from unlabeled.recipe import Roles

    data = open_data(tmp_path / "x.npz", seed=3, split=None, roles=Roles(limit=30)).train
    found = unlabeled.outliers(run.path, n=30, out=tmp_path / "o.csv")
    assert {one.path for one in found.found} == {data.path(i) for i in range(30)}


def test_a_report_of_another_label_shows_what_was_judged_by_it(listed: Path, tmp_path: Path) -> None:
    run = listed / "run"
    unlabeled.evaluate(
        run, data=str(listed / "list.csv"), path="where", label="who", group="", split="", protocol="knn", against="none"
    )
    assert (run / "evaluation-who.json").is_file()
    page = unlabeled.report(run, label="who", data=listed / "list.csv", out=tmp_path / "r.html").read_text()
    other = unlabeled.report(run, out=tmp_path / "s.html").read_text()
    assert ", by who" in page
    assert ", by who" not in other


def test_predict_does_without_labels(listed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of new files has a column of the run's name, and nothing in it."""
    rows = ["where,what", *(f"{listed}/scans/{i}.tif," for i in range(6))]
    (tmp_path / "new.csv").write_text("\n".join(rows) + "\n")
    assert "written" in ok("predict", listed / "run", tmp_path / "new.csv", "--out", tmp_path / "p.csv")
    found = unlabeled.embed(listed / "run", tmp_path / "new.csv")
    assert isinstance(found, dict)
    assert set(found["class"]) == {""}
    with pytest.raises(UserError, match="has no value"):
        unlabeled.embed(listed / "run", tmp_path / "new.csv", label="what")
