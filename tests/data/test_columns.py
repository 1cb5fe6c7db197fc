"""Columns beside the samples: typed cells, parts of file names, labels and groups taken from them."""

from __future__ import annotations

import datetime
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unlabeled.data import Data, open_data
from unlabeled.data.columns import numbered, parts, printable, shared, typed
from unlabeled.data.split import on_test_side
from unlabeled.errors import UserError
from unlabeled.recipe import Roles

from .pictures import encoded, noise, write


def listed(folder: Path, head: str, lines: list[str], name: str = "a.csv", encoding: str = "utf-8") -> Path:
    """A list of as many images as lines; {} in a line is the path."""
    text = [head, *(line.format(f"d/{i}.png") for i, line in enumerate(lines))]
    for i in range(len(lines)):
        write(folder / "d" / f"{i}.png", seed=i)
    (folder / name).write_text("\n".join(text) + "\n", encoding=encoding)
    return folder / name


def opened(data: Any, **roles: Any) -> Data:
    return open_data(data, roles=Roles(**roles))


def whole(data: Any, **roles: Any) -> Any:
    return open_data(data, seed=None, roles=Roles(**roles)).train


def classes_of(source: Any) -> list[str]:
    return ["" if y < 0 else source.classes[y] for y in source.labels]


@pytest.mark.parametrize(
    ("cells", "kind", "values"),
    [
        (["1", "-2", " 30 "], "i", [1, -2, 30]),
        (["1", "", "3"], "f", [1.0, np.nan, 3.0]),
        (["0.5", "1e3", "nan", ".25", "7"], "f", [0.5, 1000.0, np.nan, 0.25, 7.0]),
        (["007", "7"], "O", ["007", "7"]),
        (["1234567890123456789", "1"], "O", ["1234567890123456789", "1"]),
        (["1_000", "2"], "O", ["1_000", "2"]),
        ([" cat", "", "dog "], "O", ["cat", "", "dog"]),
        (["", ""], "O", ["", ""]),
    ],
)
def test_cells_of_text_become_numbers_where_all_are(cells: list[str], kind: str, values: list[Any]) -> None:
    found = typed(cells)
    assert found.dtype.kind == kind
    assert np.array_equal(found, np.array(values, found.dtype), equal_nan=kind == "f")


@settings(max_examples=80, deadline=None)
@given(st.lists(st.one_of(st.integers(-99, 99).map(str), st.floats(-9, 9).map(repr), st.sampled_from(["", "a", "b b"]))))
def test_numbering_gives_the_values_back(cells: list[str]) -> None:
    values = typed(cells)
    which, names = numbered(values)
    assert len(set(names)) == len(names)
    for value, at in zip(values.tolist(), which.tolist(), strict=True):
        missing = value == "" or value != value
        assert missing == (at < 0)
        assert missing or (names[at] == value if isinstance(value, str) else float(names[at]) == value)


def test_what_two_splits_share() -> None:
    train, test = typed(["a", "b", "b", ""]), typed(["b", "c", "b", "", "d"])
    assert shared(train, test) == (["b"], 3, 2)
    assert shared(typed(["1", "2"]), typed(["2", ""])) == (["2"], 1, 1)  # whole numbers and real ones


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("{digit}_{speaker}_{index}", "z.zip/a/7_jackson_32.wav", {"digit": 7, "speaker": "jackson", "index": 32}),
        ("{digit}_{}", "7_jackson_32.wav", {"digit": 7}),
        ("{patient}/{side}-{}", "x/p03/left-0-1.b.png", {"patient": "p03", "side": "left"}),
        ("s{number}", "s012.png", {"number": "012"}),
        ("{a}.{}", "x.y.z.png", {"a": "x"}),
        ("{}_{speaker}", "7_32_jackson.wav", {"speaker": "jackson"}),
        ("{day}_{camera}", "d/2024-02-29_c1.png", {"day": "2024-02-29", "camera": "c1"}),
        ("[{a}]-{b}", "[x]-7.png", {"a": "x", "b": 7}),
        ("{a}^{b}", "x^7.png", {"a": "x", "b": 7}),
        ("{{{a}}}", "{q}.png", {"a": "q"}),
    ],
)
def test_parts_of_file_names(pattern: str, path: str, found: dict[str, Any]) -> None:
    assert {name: values.tolist() for name, values in parts(pattern, [path], "x").items()} == {
        name: [value] for name, value in found.items()
    }


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("digit", "name each part once"),
        ("{}", "name each part once"),
        ("{a}_{a}", "name each part once"),
        ("{a!r}", "name each part once"),
        ("{a:3}", "name each part once"),
        ("{a}{b}", "where does {a} end"),
        ("{a", "is not a pattern"),
        ("{a}_{b}", "does not fit 3 of 3 files, the first of them 'd/1_2_3.png'"),
        ("{a}_{b}_{c}", "does not fit 2 of 3 files, the first of them 'd/x.png'"),
    ],
)
def test_patterns_that_are_none_or_do_not_fit(pattern: str, why: str) -> None:
    with pytest.raises(UserError, match=why):
        parts(pattern, ["d/1_2_3.png", "d/x.png", "1_2/y.png"], "data")


def test_a_list_with_several_label_columns(tmp_path: Path) -> None:
    lines = [f"{{}},{'ab'[i % 2]},{i % 5},{i / 7},s{i % 3}" for i in range(30)]
    data = listed(tmp_path, "path, Label ,grade,age,speaker,", lines)
    source = whole(data)
    assert (source.label, source.classes) == ("Label", ("a", "b"))
    assert list(source.columns) == ["Label", "grade", "age", "speaker"]
    assert source.notices == ()
    assert source.columns["grade"].tolist() == [i % 5 for i in range(30)]
    assert source.columns["age"].dtype == np.float64
    part = source.subset([7, 3])
    assert part.columns["speaker"].tolist() == ["s1", "s0"]
    by = whole(data, label="speaker")
    assert classes_of(by) == [f"s{i % 3}" for i in range(30)]
    assert whole(data, label="grade").classes == ("0", "1", "2", "3", "4")
    again = part.labelled_by("speaker")
    assert (classes_of(again), classes_of(again.labelled_by(""))) == (["s1", "s0"], ["b", "b"])
    assert again.fingerprint == part.fingerprint


def test_a_column_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path) -> None:
    data = listed(tmp_path, "path,kind,site,speaker_id", ["{},a,1,2"] * 4)
    for role in ("label", "group"):
        with pytest.raises(UserError, match=f"--{role} 'speaker', and there is no such column: give one of speaker_id, "):
            opened(data, **{role: "speaker"})
    with pytest.raises(UserError, match=r"there are no columns: a \.csv with a header"):
        opened(np.zeros((9, 8, 8), np.uint8), label="speaker")
    assert whole(data).labels is None
    assert whole(data).candidates == "; or name a column with --label: kind, site, speaker_id"


def test_what_is_measured_is_no_class_unless_its_values_are_few(tmp_path: Path) -> None:
    many = [f"{{}},{i * 0.37:.2f},{i % 4 / 2}" for i in range(60)]
    data = listed(tmp_path, "path,label,magnification", many)
    source = whole(data)
    assert source.labels is None
    assert open_data(data).remarks() == [f"No labels: {source.remark}.", "Not used of the columns: label, magnification."]
    assert "column 'label' holds 60 different real numbers, from 0 to 21.83: a measurement" in source.remark
    with pytest.raises(
        UserError, match=r"60 different real numbers, from 0 to 21\.83: a measurement, no classes; give a col"
    ):
        opened(data, label="label")
    assert whole(data, label="magnification").classes == ("0", "0.5", "1", "1.5")
    assert classes_of(whole(data, label="magnification"))[:4] == ["0", "0.5", "1", "1.5"]
    given = open_data((np.zeros((60, 8, 8), np.uint8), np.linspace(0, 1, 60)), seed=None).train
    assert given.labels is None
    assert "60 different real numbers, from 0 to 1: a measurement" in given.remark


def test_gaps_in_columns(tmp_path: Path) -> None:
    data = listed(tmp_path, "path,label,empty,short", ["{},3,,", "{},,,x", "{},4,,", "{},3"])
    source = whole(data)
    assert source.classes == ("3", "4")
    assert source.labels.tolist() == [0, -1, 1, 0]
    assert source.columns["short"].tolist() == ["", "x", "", ""]
    with pytest.raises(UserError, match="column 'empty' has no value: give another --label"):
        whole(data, label="empty")


def test_a_list_of_excel_and_one_without_a_header(tmp_path: Path) -> None:
    source = whole(listed(tmp_path, "path,label", [f"{{}},{'ab'[i % 2]}" for i in range(6)], encoding="utf-8-sig"))
    assert source.classes == ("a", "b")
    bare = tmp_path / "bare.csv"
    bare.write_text("".join(f"d/{i}.png,x{i % 2},kept out\n" for i in range(6)))
    assert list(whole(bare).columns) == ["label", "column3"]
    assert whole(bare, label="label").classes == whole(bare).classes == ("x0", "x1")
    assert whole(bare, label="column3").classes == ("kept out",)


def table(n: int, **columns: Any) -> pa.Table:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": encoded(noise(i)), "path": f"{i}.png"} for i in range(n)]
    return pa.table({"image": pa.array(cells, kind), **columns})


def test_columns_of_parquet(tmp_path: Path) -> None:
    day = datetime.date(2024, 2, 29)
    made = table(
        4,
        name=["x", None, "y", "x"],
        word=pa.array(["x", None, "y", "x"]).dictionary_encode(),
        whole=pa.array([1, 2, 3, 4], pa.uint64()),
        gap=pa.array([1, None, 3, 4], pa.int16()),
        real=[0.5, None, 1.5, 2.5],
        price=[Decimal("1.50")] * 4,
        flag=[True, False, True, True],
        maybe=[True, None, True, False],
        day=[day] * 4,
        time=pa.array([datetime.datetime(2024, 2, 29, 12, 30)] * 4, pa.timestamp("s", tz="Europe/Berlin")),
        nothing=pa.nulls(4),
        several=[["a"], ["b"], [], []],
        vector=pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(8)), 2),
    )
    pq.write_table(made, tmp_path / "a.parquet")
    found = {name: values.tolist() for name, values in whole(tmp_path / "a.parquet").columns.items()}
    assert found.pop("gap")[::2] == [1.0, 3.0]
    assert found.pop("real")[2:] == [1.5, 2.5]
    assert found.pop("time")[0].startswith("2024-02-29 12:30:00")
    assert found == {
        "name": ["x", "", "y", "x"],
        "word": ["x", "", "y", "x"],
        "whole": [1, 2, 3, 4],
        "price": [1.5] * 4,
        "flag": [True, False, True, True],
        "maybe": ["True", "", "True", "False"],
        "day": ["2024-02-29"] * 4,
        "nothing": [""] * 4,
    }


def test_labels_of_parquet_and_names_that_it_declares(tmp_path: Path) -> None:
    features = {name: {"_type": "ClassLabel", "names": list(names)} for name, names in (("coarse", "zy"), ("fine", "cab"))}
    text = '{"info": {"features": ' + str(features).replace("'", '"') + "}}"
    shards = [table(3, coarse=[0, 1, 1], fine=[2, 1, 0], slide=[f"s{k}"] * 3) for k in range(2)]
    (tmp_path / "d").mkdir()
    for k, shard in enumerate(shards):
        pq.write_table(shard.replace_schema_metadata({"huggingface": text}), tmp_path / "d" / f"train-{k}.parquet")
    assert (whole(tmp_path / "d").label, whole(tmp_path / "d").classes) == ("coarse", ("z", "y"))
    assert classes_of(whole(tmp_path / "d", label="fine")) == ["b", "a", "c"] * 2
    assert classes_of(whole(tmp_path / "d", label="slide")) == ["s0"] * 3 + ["s1"] * 3
    pq.write_table(table(2, slide=["s1", "s1"]), tmp_path / "d" / "train-2.parquet")
    with pytest.raises(UserError, match="differ from train-0"):
        opened(tmp_path / "d", label="slide")
    (tmp_path / "d" / "train-2.parquet").unlink()
    pq.write_table(table(2, slide=["s1", "s7"]), tmp_path / "d" / "test-0.parquet")
    assert opened(tmp_path / "d").test.labels is None
    data = opened(tmp_path / "d", label="slide")
    assert data.train.classes == ("s0", "s1", "s7")
    assert classes_of(data.test) == ["s1", "s7"]
    again = opened(tmp_path / "d").labelled_by("slide")
    assert (again.train.classes, classes_of(again.train)) == (data.train.classes, classes_of(data.train))


def test_the_multilabel_column_of_parquet_is_left_out(tmp_path: Path) -> None:
    pq.write_table(table(4, label=[[0], [1, 2], [], [0]], site=["a", "b", "a", "b"]), tmp_path / "a.parquet")
    source = whole(tmp_path / "a.parquet")
    assert source.labels is None
    assert list(source.columns) == ["site"]


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A zip of 60 files, named by digit, speaker and index."""
    with zipfile.ZipFile(tmp_path / "digits.zip", "w") as archive:
        for i in range(60):
            archive.writestr(f"all/{i % 3}_{'abcde'[i // 3 % 5]}_{i // 15}.png", encoded(noise(i)))
    return tmp_path / "digits.zip"


def test_names_of_files_make_columns(digits: Path) -> None:
    source = whole(digits, columns="{digit}_{speaker}_{index}", label="speaker")
    assert source.classes == tuple("abcde")
    assert all(Path(source.path(i)).stem.split("_")[1] == name for i, name in enumerate(classes_of(source)))
    data = open_data(digits, seed=3, roles=Roles("", "speaker", "{class}_{speaker}_{}"))
    assert data.train.classes == ("0", "1", "2")
    assert data.held() == "1 of 5 values of 'speaker' is held out, 12 of 60 images"
    assert not set(data.train.columns["speaker"]) & set(data.test.columns["speaker"])


def test_a_folder_keeps_its_classes_beside_the_parts_of_names(class_folder: Path) -> None:
    source = whole(class_folder, columns="{animal}/{number}")
    assert (source.label, source.classes) == ("", ("ant", "bee", "cat"))
    assert (
        classes_of(source.labelled_by("animal"))
        == classes_of(source)
        == classes_of(source.labelled_by("number").labelled_by(""))
    )
    with pytest.raises(UserError, match="does not fit 30 of 30 files"):
        whole(class_folder, columns="{a}_{b}")


def test_a_part_of_the_name_that_is_a_column_already(tmp_path: Path) -> None:
    data = listed(tmp_path, "path,speaker", ["{},a"] * 4)
    with pytest.raises(UserError, match="--columns names 'speaker', and there is such a column"):
        whole(data, columns="{speaker}")


def test_what_a_run_says_of_its_data_holds_for_others_where_they_allow_it(class_folder: Path, digits: Path) -> None:
    said = Roles("speaker", "speaker", "{digit}_{speaker}_{index}")
    other = open_data(class_folder, roles=said.given(elsewhere=True))
    assert (other.group, other.train.classes) == ("", ("ant", "bee", "cat"))
    same = open_data(digits, seed=None, roles=said.given(elsewhere=True))
    assert (same.group, same.train.classes) == ("speaker", tuple("abcde"))
    with pytest.raises(UserError, match="--label 'digit', and there are no columns"):
        open_data(class_folder, roles=said.given(label="digit", elsewhere=True))
    with pytest.raises(UserError, match="does not fit"):
        open_data(class_folder, roles=said.given(columns="{a}_{b}", elsewhere=True))
    assert said.given(group="") == Roles("speaker", "", "{digit}_{speaker}_{index}")


def test_groups_in_both_of_two_given_splits_are_told(tmp_path: Path) -> None:
    lines = [f"{{}},{'ab'[i % 2]},p{i % 6}" for i in range(24)]
    train = listed(tmp_path / "train", "path,label,patient", lines)
    test = listed(tmp_path / "test", "path,label,patient", [*lines[:3], "{},a,p9"])
    data = opened(f"train={train},test={test}", group="patient")
    assert data.remarks() == [
        "Groups are torn: 3 of the 4 values of 'patient' in the test split (p0, p1, p2) are in train, too, with 3 of its 4 "
        "images: figures say little of new ones."
    ]
    said = ["Not used of the columns: patient (labels: label)."]
    assert opened(f"train={train},test={test}").remarks() == said
    assert not any("torn" in said for said in opened(train, group="patient").remarks())


def test_other_labels_are_judged_on_what_was_held_out(tmp_path: Path) -> None:
    data = listed(tmp_path, "path,label,site", [f"{{}},{'ab'[i % 2]},{i * i % 7}" for i in range(40)])
    first = opened(data)
    other = first.labelled_by("site")
    for one, two in ((first.train, other.train), (first.test, other.test)):
        assert one.fingerprint == two.fingerprint
        assert classes_of(two) == [str(v) for v in one.columns["site"]]
        assert two.classes == first.train.labelled_by("site").classes


def test_classes_that_only_held_out_groups_have_are_told(tmp_path: Path) -> None:
    data = listed(tmp_path, "path,label,slide", [f"{{}},{'ab'[i % 2]},s{i // 4}" for i in range(40)])
    by = opened(data, group="slide").labelled_by("slide")
    held = [f"s{i}" for i in range(10) if on_test_side([f"s{i}".encode()], 0)[0]]
    n = 4 * len(held)
    said = f"Of {n} labelled test images, {n} are of classes of which none is trained on: no classifier can know them."
    assert said in by.remarks()
    assert said in opened(data, group="slide", label="slide").remarks()


def test_names_that_are_no_utf_8_can_be_written_and_drawn(tmp_path: Path) -> None:
    assert printable("caf\udce9 é") == "caf\\xe9 é"
    data = listed(tmp_path, "path,label,café", [f"{{}},{'ab'[i % 2]}ä,ÿ" for i in range(6)], encoding="latin-1")
    source = whole(data)
    assert source.classes == ("a\\xe4", "b\\xe4")
    assert set(source.columns["caf\\xe9"]) == {"\\xff"}
    for name in ("\udce4pfel", "birnen"):
        write(tmp_path / "f" / "x.png", seed=len(name))
        (tmp_path / "f" / name).mkdir()
        (tmp_path / "f" / "x.png").rename(tmp_path / "f" / name / "\udcfc.png")
    source = whole(tmp_path / "f")
    assert sorted(source.classes) == ["\\xe4pfel", "birnen"]
    assert Path(source.path(0)).is_file()
