"""The verb embed: rows in the order of the data, equal to what `load` computes, readable by others."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from command import ONE, file, folder, images, mistake, ok
from numpy.testing import assert_allclose, assert_array_equal

import unlabeled


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made")
    ok("pretrain", file(path / "x.npz"), *ONE, "--out", path / "run")
    return path


def features(made: Path, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        h: np.ndarray = unlabeled.load(made / "run")(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    return h


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
def test_the_columns(made: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"z.{suffix}"
    assert f"written: {out}" in ok("embed", made / "run", made / "x.npz", "--out", out, "--batch-size", "7")
    if suffix == "npz":
        with np.load(out, allow_pickle=False) as opened:
            columns = dict(opened)
    else:
        table = pq.read_table(out)
        columns = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    x, y = images()
    assert list(columns) == ["index", "path", "split", "label", "class", "embedding"]
    assert_array_equal(columns["index"], np.arange(60))
    assert_array_equal(columns["label"], y)
    assert_array_equal(columns["class"], y.astype(str))
    assert set(columns["split"]) == {"all"}
    assert columns["path"][7].endswith("x.npz[7]")
    assert columns["embedding"].dtype in (np.float32, np.float64)
    assert_allclose(columns["embedding"], features(made, x), atol=1e-5)
    assert [p.name for p in tmp_path.iterdir() if p.suffix] == [out.name]


def test_a_folder_with_a_bad_file_and_no_labels(made: Path, tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (data / "a" / "0bad.png").write_bytes(b"no picture")
    unlabeled.embed(made / "run", data / "a", out=tmp_path / "z.npz")
    with np.load(tmp_path / "z.npz") as z:
        assert len(z["path"]) == 20
        assert not any("0bad" in path for path in z["path"])
        assert all(Path(path).is_file() for path in z["path"])
        assert set(z["label"]) == {-1}


def test_a_column_may_be_called_file(made: Path, tmp_path: Path) -> None:
    """A name that numpy.savez has for itself."""
    data = folder(tmp_path / "data", 12)
    ok("embed", made / "run", data, "--columns", "{kind}/{file}", "--out", tmp_path / "z.npz")
    with np.load(tmp_path / "z.npz") as z:
        assert sorted(z["file"]) == sorted(int(path.stem) for path in data.rglob("*.png"))
        assert len(z["embedding"]) == 12


def test_tables_of_text_and_bare_arrays(made: Path, tmp_path: Path) -> None:
    """Folders are called as classes are, in another order than their numbers."""
    x, _ = images()
    arrays = unlabeled.embed(made / "run", made / "x.npz")
    assert isinstance(arrays, dict)
    assert_allclose(arrays["embedding"], features(made, x), atol=1e-5)
    ok("embed", made / "run", made / "x.npz", "--out", tmp_path / "z.npy")
    assert_array_equal(np.load(tmp_path / "z.npy"), arrays["embedding"])
    data = folder(tmp_path / "data")
    for old, new in (("c", "2"), ("a", "10"), ("b", "é")):
        (data / old).rename(data / new)
    ok("embed", made / "run", data, "--out", tmp_path / "z.csv")
    head, *rows = csv.reader((tmp_path / "z.csv").read_text(encoding="utf-8").splitlines())
    assert head[:6] == ["index", "path", "split", "label", "class", "h0"]
    assert len(head) == 5 + features(made, x).shape[1]
    assert {(Path(row[1]).parent.name, row[4]) for row in rows} == {("2", "2"), ("10", "10"), ("é", "é")}
    assert_allclose(np.array([row[5:] for row in rows], np.float32), unlabeled.embed(made / "run", data)["embedding"])


def test_a_file_is_needed_on_the_command_line(made: Path) -> None:
    assert "--out" in mistake("embed", made / "run", made / "x.npz")


def test_samples_without_a_row_are_listed_beside(made: Path, tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (data / "a" / "0bad.png").write_bytes(b"no picture")
    said = ok("embed", made / "run", data, "--out", tmp_path / "z.csv")
    assert f"written: {tmp_path / 'z-skipped.csv'}" in said
    rows = list(csv.reader((tmp_path / "z-skipped.csv").read_text(encoding="utf-8").splitlines()))
    assert [Path(row[1]).name for row in rows] == ["path", "0bad.png"]
    (data / "a" / "0bad.png").unlink()
    ok("embed", made / "run", data, "--out", tmp_path / "z.csv")
    assert not (tmp_path / "z-skipped.csv").exists(), "of another time"


def test_both_splits_are_there_where_the_data_have_two(made: Path, tmp_path: Path) -> None:
    test = file(tmp_path / "test.npz", n=9, seed=5)
    out = unlabeled.embed(made / "run", f"train={made / 'x.npz'},test={test}", out=tmp_path / "z.npz")
    with np.load(out) as z:
        assert z["split"].tolist() == ["train"] * 60 + ["test"] * 9
        assert z["index"].tolist() == [*range(60), *range(9)]
        assert_allclose(z["embedding"][60:], features(made, images(9, seed=5)[0]), atol=1e-5)


def test_other_images_are_refused_and_nothing_is_left(made: Path, tmp_path: Path) -> None:
    odd = file(tmp_path / "odd.npz", channels=2)
    assert "has 2 channels, and the run was trained on images with 3" in mistake(
        "embed", made / "run", odd, "--out", tmp_path / "z.npz"
    )
    assert not (tmp_path / "z.npz").exists()


def test_an_array_of_features_has_what_its_rows_are_beside_it(made: Path, tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    said = ok("embed", made / "run", data, "--out", tmp_path / "h.npy")
    assert f"written: {tmp_path / 'h-rows.csv'}, which says what each row is" in said
    rows = list(csv.DictReader((tmp_path / "h-rows.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(np.load(tmp_path / "h.npy")) == 60
    assert [row["class"] for row in rows] == [Path(row["path"]).parent.name for row in rows]


def test_pandas_reads_the_features_as_the_page_says(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    page = (Path(__file__).parent.parent / "docs" / "exporting.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for suffix in ("parquet", "csv"):
        ok("embed", made / "run", folder(tmp_path / "data"), "--out", f"features.{suffix}")
    space: dict[str, Any] = {}
    exec(page.partition("```py\n")[2].partition("```")[0], space)
    assert space["h"].shape == space["same"].shape == (60, 32)
    assert_allclose(space["h"].to_numpy(), space["same"].to_numpy(), rtol=1e-5)
    assert list(space["h"].index) == list(space["table"]["path"])
