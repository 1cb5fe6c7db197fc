"""Labels and groups from columns, by the verbs: what is held out, judged, kept, said and written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from command import ONE, folder, images, mistake, ok
from PIL import Image

import unlabeled
from unlabeled.data import open_data
from unlabeled.inspecting.columns import advised, describe, warnings
from unlabeled.recipe import Roles, compose, read
from unlabeled.run import Run

HEAD = "path,species,weight,patient_id,site\n"


def row(i: int, patient: int) -> str:
    """A line of the list: its species is that of `images`, its weight a measurement, two patients to a site."""
    return f"{i}.png,{'abc'[i % 3]},{i * 1.7:.1f},p{patient},{patient // 2}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of 60 images of 3 species and 10 patients; a run of one epoch on it, and one that holds patients out."""
    path = tmp_path_factory.mktemp("made")
    for i, image in enumerate(images()[0]):
        Image.fromarray(image).save(path / f"{i}.png")
    (path / "x.csv").write_text(HEAD + "".join(row(i, i // 6) for i in range(60)))
    ok("pretrain", path / "x.csv", *ONE, "--label", "species", "--out", path / "plain")
    said = ok("pretrain", path / "x.csv", *ONE, "--label", "species", "--group", "patient_id", "--out", path / "run")
    assert "2 of 10 values of 'patient_id' are held out, 12 of 60 images" in said
    return path


def test_a_run_keeps_what_was_said_of_the_columns(made: Path) -> None:
    recipe = Run(made / "run").recipe
    assert recipe.roles == Roles("species", "patient_id")
    assert Run(made / "run").environment["data"]["classes"] == ["a", "b", "c"]
    older = {k: v for k, v in read(made / "run" / "recipe.yaml").items() if k not in ("label", "group", "columns")}
    assert compose(older).roles == Roles()


def test_a_resumed_run_goes_on_with_the_same_group(made: Path) -> None:
    words = ("pretrain", made / "x.csv", *ONE, "--resume", "--label", "species", "--out", made / "run")
    assert "is finished" in ok(*words)
    assert "began with group = patient_id, and cannot go on with site" in mistake(*words, "--group", "site")


def evaluate(made: Path, run: str, *words: object) -> str:
    return ok("evaluate", made / run, "--protocol", "knn", "--against", "none", "--accelerator", "cpu", *words)


def test_another_column_is_judged_on_the_images_that_were_held_out(made: Path) -> None:
    said = evaluate(made, "plain")
    assert "knn, 12 images of a held-out fifth (seed 0), by species" in said
    first = json.loads((made / "plain" / "evaluation.json").read_text())
    said = evaluate(made, "plain", "--label", "site")
    assert "12 images of a held-out fifth (seed 0), by site" in said
    other = json.loads((made / "plain" / "evaluation-site.json").read_text())
    same, there = (found["identity"].split() for found in (first, other))
    assert same[:3] == there[:3]  # the encoder, the images trained on, those judged on
    assert same[3] != there[3]  # the labels
    assert json.loads((made / "plain" / "evaluation.json").read_text()) == first
    assert "a measurement, no classes" in mistake("evaluate", made / "plain", "--label", "weight", "--protocol", "knn")
    message = mistake("evaluate", made / "plain", "--label", "specie", "--protocol", "knn")
    assert "no such column: give one of species, " in message


def test_groups_are_those_of_the_run(made: Path) -> None:
    said = evaluate(made, "run")
    assert "12 images of a part held out by patient_id (seed 0), by species" in said
    identity = json.loads((made / "run" / "evaluation.json").read_text())["identity"].split()
    kept = open_data(made / "x.csv", roles=Roles("species", "patient_id"))
    assert identity[1:3] == [kept.train.fingerprint, kept.test.fingerprint]
    said = evaluate(made, "run", "--label", "patient_id")
    assert "Of 12 labelled test images, 12 are of classes of which none is trained on" in said
    message = mistake("evaluate", made / "plain", "--group", "patient_id", "--protocol", "knn")
    assert "held out its test images without a group; by 'patient_id' it would be judged on images that it was" in message
    assert "by 'site'" in mistake("evaluate", made / "run", "--data", made / "x.csv", "--group", "site", "--protocol", "knn")


def test_other_data_are_held_out_as_is_asked(made: Path, tmp_path: Path) -> None:
    place = folder(tmp_path / "x", n=30)
    many = len(open_data(place).test)
    said = evaluate(made, "run", "--data", place, "--out", tmp_path / "a.json")
    assert f"{many} images of a held-out fifth (seed 0)" in said
    rows = [f"{path},{path.parent.name},{i % 10}\n" for i, path in enumerate(sorted(place.rglob("*.png")))]
    (tmp_path / "x.csv").write_text("path,kind,day\n" + "".join(rows))
    words = ("--data", tmp_path / "x.csv", "--out", tmp_path / "a.json")
    said = evaluate(made, "plain", *words, "--label", "kind", "--group", "day")
    many = len(open_data(tmp_path / "x.csv", roles=Roles("kind", "day")).test)
    assert f"{many} images of a part held out by day (seed 0), by kind" in said
    assert "name a column with --label: kind, day" in mistake("evaluate", made / "run", "--protocol", "knn", *words)


def test_torn_groups_are_told_by_pretrain_and_evaluate(made: Path, tmp_path: Path) -> None:
    lines = [row(i, i % 10) for i in range(60)]
    for name, part in (("train", lines[:40]), ("test", lines[40:])):
        (made / f"{name}.csv").write_text(HEAD + "".join(part))
    both = f"train={made / 'train.csv'},test={made / 'test.csv'}"
    told = "Groups are torn: 10 of the 10 values of 'patient_id' in the test split (p0, p1, p2, ...)"
    assert told in ok("pretrain", both, *ONE, "--label", "species", "--group", "patient_id", "--out", tmp_path / "run")
    assert told in evaluate(tmp_path, "run")


def test_what_is_said_of_columns_before_training(made: Path, tmp_path: Path) -> None:
    words = ("inspect", made / "x.csv", "--out", tmp_path, "--minutes", "1", "--accelerator", "cpu")
    said = ok(*words, "--label", "species")
    assert "species (label) names 3" in said
    assert "weight real numbers 60" in said
    assert "'site' looks like a group (5 values, 12 images each in the mean)" in said
    assert "'patient_id'" not in said  # each of its values is in one of site
    assert "--label species" in said
    found = json.loads((tmp_path / "inspect.json").read_text())
    assert [(c["name"], c["values"]["all"]) for c in found["columns"]] == [
        ("species", 3), ("weight", 60), ("patient_id", 10), ("site", 5),
    ]  # fmt: skip
    assert found["suggestion"]["recipe"]["label"] == "species"
    said = ok(*words, "--group", "patient_id")
    assert "looks like a group" not in said
    assert "--group patient_id" in said


def test_of_groups_within_groups_one_that_can_be_held_out_is_advised_and_all_torn_ones_are_told(made: Path) -> None:
    """Two sites of five patients: a fifth of two is none. In a given split the patients count that both parts have."""
    lines = [f"{i}.png,{'ab'[i // 2 % 2]},p{i // 6},{i // 30}\n" for i in range(60)]
    (made / "two.csv").write_text("path,label,patient,site\n" + "".join(lines))
    source = open_data(made / "two.csv", seed=None).train
    assert advised(describe({"all": source}), source) == "patient"
    (said,) = warnings(describe({"all": source}), {"all": source})
    assert said.startswith("'patient' looks like a group (10 values, 6 images each in the mean)")
    for name, part in (("left", lines[::2]), ("right", lines[1::2])):
        (made / f"{name}.csv").write_text("path,label,patient,site\n" + "".join(part))
    data = open_data(f"train={made / 'left.csv'},test={made / 'right.csv'}")
    assert data.test is not None
    both = {"train": data.train, "test": data.test}
    assert [text.split()[0] for text in warnings(describe(both), both)] == ["'patient'", "'site'"]


def test_the_suggestion_holds_out_what_looks_like_a_group(made: Path, tmp_path: Path) -> None:
    said = ok("inspect", made / "x.csv", "--out", tmp_path, "--minutes", "1", "--accelerator", "cpu", "--label", "species")
    assert "--label species --group site" in said


def test_samples_without_a_group_are_told(made: Path, tmp_path: Path) -> None:
    lines = [row(i, i // 6).replace(",p0,", ",,") for i in range(60)]
    (made / "holes.csv").write_text(HEAD + "".join(lines))
    words = ("--label", "species", "--group", "patient_id", "--out")
    told = "6 of 60 images have no value of 'patient_id': they are trained on"
    assert told in ok("pretrain", made / "holes.csv", *ONE, *words, tmp_path / "run")
    words = (*words, tmp_path / "seen", "--minutes", "1", "--accelerator", "cpu")
    assert told in ok("inspect", made / "holes.csv", *words)


def test_whole_numbers_with_gaps_are_whole_numbers(made: Path) -> None:
    lines = [f"{i}.png,{'ab'[i % 2]},{'' if i < 3 else i // 5},{i / 7:.2f}\n" for i in range(60)]
    (made / "gaps.csv").write_text("path,label,patient,weight\n" + "".join(lines))
    source = open_data(made / "gaps.csv", seed=None).train
    found = {column.name: column for column in describe({"all": source})}
    assert (found["patient"].holds, found["patient"].gaps, found["patient"].group) == ("whole numbers", 3, True)
    assert found["weight"].holds == "real numbers"


def listed(path: Path, name: str, lines: list[str]) -> Path:
    (path / name).write_text("path,label,scan,nurse,number\n" + "".join(lines))
    return path / name


def test_a_group_that_the_given_split_tears_apart_is_found(made: Path) -> None:
    """By its name, or as all samples of a value have one class; not what is in one split only, unless it is measured."""
    scans = [f"{i}.png,{'ab'[i // 10 % 2]},s{i // 5},n{i // 10},{i}\n" for i in range(60)]
    sources = dict(zip(("train", "test"), _two(made, scans[:32], scans[32:]), strict=True))
    found = {column.name: column for column in describe(sources)}
    assert [name for name, column in found.items() if column.group] == ["scan", "nurse"]
    assert (found["nurse"].shared, found["nurse"].torn) == (1, 8)
    assert (found["number"].shared, found["label"].label) == (0, True)
    finest, said = warnings(list(found.values()), sources)
    assert finest.startswith(
        "'scan' looks like a group that the split tears apart: 1 of the 6 values in the test split, with 3"
    )
    assert said.startswith(
        "'nurse' looks like a group that the split tears apart: 1 of the 3 values in the test split, with 8 of"
    )
    whole = dict(zip(("train", "test"), _two(made, scans[:40], scans[40:]), strict=True))
    assert warnings(describe(whole), whole) == []


def _two(made: Path, train: list[str], test: list[str]) -> tuple[unlabeled.data.Source, unlabeled.data.Source]:
    data = open_data(f"train={listed(made, 'a.csv', train)},test={listed(made, 'b.csv', test)}")
    assert data.test is not None
    return data.train, data.test


@pytest.mark.parametrize(
    ("name", "looks"),
    [("PatientID", True), ("slide", True), ("sessions", True), ("scanner-no", True), ("colour", False), ("casement", False)],
)
def test_a_group_is_known_by_its_name(made: Path, name: str, looks: bool) -> None:
    (made / "n.csv").write_text(f"path,label,{name}\n" + "".join(f"{i}.png,{i % 2},{i % 7}\n" for i in range(60)))
    sources = {"all": open_data(made / "n.csv", seed=None).train}
    assert [column.group for column in describe(sources)] == [False, looks]


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_embedded_columns(made: Path, tmp_path: Path, suffix: str) -> None:
    lines = [f"{i}.png,{'xy'[i % 2]},{i % 4 or ''},w\xe9\n" for i in range(20)]
    (made / "train.csv").write_text("path,label,age,split\n" + "".join(lines), encoding="latin-1")
    (made / "test.csv").write_text("path,label,night\n" + "".join(f"{i}.png,y,early\n" for i in range(3)))
    out = tmp_path / f"z.{suffix}"
    ok("embed", made / "run", f"train={made / 'train.csv'},test={made / 'test.csv'}", "--out", out)
    if suffix == "npz":
        with np.load(out, allow_pickle=False) as opened:
            columns = {name: values.tolist() for name, values in opened.items()}
    else:
        columns = {name: values.to_pylist() for name, values in zip(*_table(out), strict=True)}
        features = json.loads(pq.read_schema(out).metadata[b"huggingface"])["info"]["features"]
        assert features == {"label": {"names": ["x", "y"], "_type": "ClassLabel"}}
    assert list(columns)[:6] == ["index", "path", "split", "label", "class", "embedding"]
    assert columns["class"][:2] == ["x", "y"]
    assert list(columns)[6:] == ["data_label", "age", "data_split", "night"]
    assert columns["label"] == [0, 1] * 10 + [1] * 3
    assert columns["data_label"] == ["x", "y"] * 10 + ["y"] * 3
    assert columns["night"] == [""] * 20 + ["early"] * 3
    assert columns["age"][1:4] == [1, 2, 3]
    assert all(age is None or age != age for age in [columns["age"][0], columns["age"][22]])
    assert columns["data_split"][0].startswith("w")


def _table(path: Path) -> tuple[list[str], list[object]]:
    found = pq.read_table(path)
    return found.column_names, found.columns


def test_found_images_bear_the_labels_of_a_column(made: Path, tmp_path: Path) -> None:
    found = unlabeled.search(made / "run", 7, n=3, label="patient_id", out=tmp_path / "s.png", accelerator="cpu")
    assert found.label == "p1"
    assert all(n.label == f"p{n.number // 6}" for n in found.neighbours)


def test_names_of_files_from_the_command_line(made: Path, tmp_path: Path) -> None:
    x, y = images(30)
    (tmp_path / "d").mkdir()
    for i, image in enumerate(x):
        Image.fromarray(image).save(tmp_path / "d" / f"{y[i]}_{'abcde'[i % 5]}_{i}.png")
    pattern = ("--columns", "{digit}_{speaker}_{}")
    asked = (*pattern, "--label", "digit", "--group", "speaker", "--seed", "3")
    ok("pretrain", tmp_path / "d", *ONE, *asked, "--out", tmp_path / "run")
    assert "6 images of a part held out by speaker (seed 3), by digit" in evaluate(tmp_path, "run")
    found = unlabeled.embed(made / "run", tmp_path / "d", out=tmp_path / "z.npz", columns=pattern[1], label="speaker")
    with np.load(found) as z:
        assert ["abcde"[label] for label in z["label"]] == z["speaker"].tolist()


def test_rows_of_a_table_share_labels_and_groups(made: Path, tmp_path: Path) -> None:
    words = ("--grid", "seed=0", "--accelerator", "cpu", "--label", "species", "--group", "patient_id")
    message = mistake("sweep", made / "x.csv", *words, "--out", tmp_path / "s")
    assert "--grid seed=...: " in message
    assert "no labels of two classes" in mistake("sweep", made / "x.csv", "--grid", "epochs=1", "--out", tmp_path / "s")
    small = ("--encoder.width", "4", "--kind.size", "8", "--accelerator", "cpu", "--batch-size", "16", "--epochs", "1")
    columns = ("--label", "species", "--group", "patient_id")
    refused = mistake("compare", made / "x.csv", "--method", made / "plain", *columns, *small, "--out", tmp_path / "c")
    assert "trained on other images" in refused
