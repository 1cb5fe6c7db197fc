"""Lists as people have them: separators, headers, blanks, backslashes, splits, rows that are too short, numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unlabeled.data import Data, open_data
from unlabeled.errors import UserError
from unlabeled.recipe import Roles

from .pictures import noise, write

N = 12


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """d/0.png to d/11.png, and one whose name has a blank."""
    for i in range(N):
        write(tmp_path / "d" / f"{i}.png", seed=i)
    write(tmp_path / "d" / "my cat.png", seed=99)
    return tmp_path


def opened(file: Path, text: str, encoding: str = "utf-8", seed: int | None = None, **roles: Any) -> Data:
    file.write_text(text, encoding=encoding)
    return open_data(file, seed=seed, roles=Roles(**roles))


def rows(form: str, n: int = N) -> str:
    """A line for each picture; of two classes."""
    return "".join(form.format(i=i, word=("no", "yes")[i % 2], bit=i % 2) + "\n" for i in range(n))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", "path;label\n" + rows("d/{i}.png;{word}")),
        ("a.csv", "filename , category\n" + rows(" d/{i}.png , {word}")),
        ("a.csv", "category\tfilename\n" + rows("{word}\td/{i}.png")),
        ("a.csv", "Bild,label\n" + rows("d/{i}.png,{word}")),
        ("a.csv", rows("{word},d/{i}.png")),
        ("a.csv", "path,label\n" + rows("d\\{i}.png,{word}")),
        ("a.csv", rows("d/{i}.png {word}")),
        ("a.txt", rows("d/{i}.png {word}")),
        ("a.txt", rows("d/{i}.png   {word}")),
        ("a.txt", "path label\n" + rows("d/{i}.png {word}")),
        ("a.txt", rows("d/{i}.png;{word}")),
        ("a.txt", "label,image\n" + rows("{word},d/{i}.png")),
    ],
)
def test_a_list_is_read_however_it_is_written(pictures: Path, name: str, text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        source = opened(pictures / name, text, encoding).train
        assert source.classes == ("no", "yes")
        assert source.labels.tolist() == [0, 1] * (N // 2)
        assert np.array_equal(source.seen([7])[0].numpy(), noise(7).transpose(2, 0, 1))


def test_names_with_blanks_and_the_columns_of_a_list_between_blanks(pictures: Path) -> None:
    source = opened(pictures / "a.txt", rows("d/{i}.png  {bit}.5   mono") + "d/my cat.png 0.5 poly\n").train
    assert list(source.columns) == ["label", "column3"]
    assert source.columns["column3"].tolist() == ["mono"] * N + ["poly"]
    assert Path(source.path(N)).name == "my cat.png"
    source = opened(pictures / "a.txt", "d/my cat.png\n" + rows("d/{i}.png")).train
    assert (len(source), source.labels, source.skipped) == (N + 1, None, [])
    source = opened(pictures / "b.csv", "path,label\n d/my cat.png ,1\n" + rows("d/{i}.png,0")).train
    assert source.skipped == []


def test_a_file_that_is_called_so_is_meant(pictures: Path) -> None:
    write(pictures / "x\\y.png", seed=5)
    write(pictures / "x" / "y.png", seed=6)
    source = opened(pictures / "a.csv", "path\nx\\y.png\n" + rows("d\\{i}.png")).train
    assert np.array_equal(source.seen([0])[0].numpy(), noise(5).transpose(2, 0, 1))
    assert source.skipped == []


def test_the_user_says_which_column_names_the_files(pictures: Path) -> None:
    text = "path,scan,kind\n" + rows("{i}.tif,d/{i}.png,{word}")
    source = opened(pictures / "a.csv", text, path="scan", label="kind").train
    assert source.skipped == []
    assert source.classes == ("no", "yes")
    with pytest.raises(UserError, match="--path 'scam', and there is no such column: give one of scan, "):
        opened(pictures / "a.csv", text, path="scam")
    with pytest.raises(UserError, match="--path 'scan' names the column of the files of a list"):
        open_data(pictures / "d", roles=Roles(path="scan"))
    elsewhere = Roles(path="scan").given(elsewhere=True)
    assert len(open_data(pictures / "d", seed=None, roles=elsewhere).train) == N + 1
    assert open_data(pictures / "a.csv", seed=None, roles=elsewhere).train.skipped == []


def test_rows_of_another_length_are_told(pictures: Path) -> None:
    text = "path,label,site\n" + rows("d/{i}.png,{word},s") + "d/3.png\nd/4.png,yes,t,more\n,yes,s\n,,\n"
    data = opened(pictures / "a.csv", text)
    assert len(data.train) == N + 2
    assert data.train.labels.tolist()[-2:] == [-1, 1]
    said = " ".join(data.remarks())
    assert "1 row has (the first is row 14) fewer than the 3 cells of the first line: what they lack counts as empty" in said
    assert "(the first is row 15) more than the 3 cells" in said
    assert "(the first is row 16) no name of a file: they are left out" in said
    assert opened(pictures / "a.csv", "path,label\n" + rows("d/{i}.png,{word}")).notices() == []


def test_columns_that_are_not_used_are_told(pictures: Path) -> None:
    text = "filename,category,age,sex\n" + rows("d/{i}.png,{word},{i},f")
    assert opened(pictures / "a.csv", text).remarks() == ["Not used of the columns: age, sex (labels: category)."]
    said = opened(pictures / "a.csv", text, label="sex", group="age").remarks()
    assert said == ["Not used of the columns: category (labels: sex)."]
    said = opened(pictures / "a.csv", "filename,finding\n" + rows("d/{i}.png,{word}")).remarks()
    assert said == ["No labels: no column is called label, class or the like; --label takes one of finding."]


def test_a_column_says_what_is_of_test(pictures: Path) -> None:
    words = ["train", "Test", "val"]
    text = "path,label,split\n" + "".join(f"d/{i}.png,{i % 2},{words[i % 3]}\n" for i in range(N)) + "d/0.png,1,\n"
    data = opened(pictures / "a.csv", text, seed=0)
    assert [Path(data.train.path(i)).stem for i in range(4)] == ["0", "3", "6", "9"]
    assert [Path(data.test.path(i)).stem for i in range(4)] == ["1", "4", "7", "10"]
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert np.array_equal(data.test.seen([2])[0].numpy(), noise(7).transpose(2, 0, 1))
    assert not data.held_out
    said = " ".join(data.notices())
    assert "the split is that of its column 'split'" in said
    assert "val (4 samples) is not used beside test" in said
    assert "left out: 1 sample without a value of 'split'" in said
    assert list(data.train.columns) == ["label"]


def test_a_column_of_other_words_is_no_split(pictures: Path) -> None:
    text = "path,label,split\n" + rows("d/{i}.png,x,{word}")
    data = opened(pictures / "a.csv", text, seed=0)
    assert data.held_out
    assert "Not used of the columns: split (labels: label)." in data.remarks()
    with pytest.raises(UserError, match="--split 'split', and that column holds no, yes: it must say train, and test"):
        opened(pictures / "a.csv", text, split="split")
    both = f"train={pictures / 'a.csv'},test={pictures / 'a.csv'}"
    with pytest.raises(UserError, match="--split 'split', and the data have a test split"):
        open_data(both, roles=Roles(split="split"))
    elsewhere = Roles(split="split").given(elsewhere=True)  # what another run was told
    assert open_data(pictures / "a.csv", roles=elsewhere).held_out
    assert not open_data(both, roles=elsewhere).held_out
    named = text.replace("split", "fold").replace(",no\n", ",train\n").replace(",yes\n", ",valid\n")
    assert opened(pictures / "a.csv", named, seed=0).held_out
    assert len(opened(pictures / "a.csv", named, seed=0, split="fold").test) == N // 2


def test_numbers_are_numbers(pictures: Path) -> None:
    def labels(cells: list[Any], sep: str = ",") -> Any:
        lines = (f"d/{i % N}.png{sep}{cell}\n" for i, cell in enumerate(cells))
        return opened(pictures / "a.csv", f"path{sep}label\n" + "".join(lines)).train

    counted = labels([i * 3 for i in range(40)])
    assert counted.labels is None
    assert "column 'label' holds 40 different numbers, from 0 to 117: a measurement, no classes" in counted.remark
    with pytest.raises(UserError, match="40 different numbers, from 0 to 117: a measurement, no classes; give a column"):
        opened(pictures / "a.csv", (pictures / "a.csv").read_text(), label="label")
    assert len(labels([i // 2 for i in range(60)]).classes) == 30  # two samples of each
    assert labels([f"p{i}" for i in range(40)]).remark.startswith("column 'label' holds 40 different names for 40 samples")
    german = labels([f"{i},5" for i in range(40)], ";")
    assert german.columns["label"].tolist() == [i + 0.5 for i in range(40)]
    assert german.labels is None
    assert labels([i % 3 / 2 for i in range(40)]).classes == ("0", "0.5", "1")


@pytest.mark.parametrize(
    ("listed", "written"), [("train.csv", "{name}"), ("train/list.csv", "train/{name}"), ("l/a.csv", "train/{name}")]
)
def test_files_are_found_where_people_put_them(
    listed: str, written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside the list's folder, in a folder beside the list, or from where the program runs; and it is said."""
    names = [f"{i}.png" for i in range(N)]
    for i, name in enumerate(names):
        write(tmp_path / "train" / name, seed=i)
    (tmp_path / "l").mkdir()
    (tmp_path / listed).write_text("path\n" + "\n".join(written.format(name=name) for name in names) + "\n")
    monkeypatch.chdir(tmp_path if listed == "l/a.csv" else "/")
    data = open_data(tmp_path / listed, seed=None)
    assert len(data.train.fetch(range(N))["image"]) == N
    assert data.train.skipped == []
    assert "its files are not beside it, and were found in" in " ".join(data.remarks())
