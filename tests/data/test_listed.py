"""Lists of image files: `.csv` and `.txt`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unlabeled.data import open_data

from .pictures import noise, write


def numbered(folder: Path, n: int) -> list[str]:
    return [str(write(folder / f"{i}.png", seed=i).relative_to(folder.parent)) for i in range(n)]


@pytest.mark.parametrize(
    ("name", "head", "line", "classes"),
    [
        ("a.csv", "", "{path},{word}", ("one", "two")),
        ("a.csv", "id,Label,path\n", "7,{word},{path}", ("one", "two")),
        ("a.csv", "path,species\n", "{path},{word}", ()),
        ("a.csv", "", "{path},{number}", ("9", "10")),
        ("a.txt", "", "{path}\t{word}", ("one", "two")),
        ("a.txt", "", "{path}", ()),
    ],
)
def test_lists_of_files(tmp_path: Path, name: str, head: str, line: str, classes: tuple[str, ...]) -> None:
    paths = numbered(tmp_path / "d", 8)
    paths[3] = str(tmp_path / paths[3])  # absolute
    lines = [line.format(path=p, word=("one", "two")[i % 2], number=9 + i % 2) for i, p in enumerate(paths)]
    (tmp_path / name).write_text(head + "\n".join([*lines, "", lines[5]]))
    source = open_data(str(tmp_path / name), seed=None).train
    assert len(source) == 9
    assert source.classes == classes
    assert (source.labels is None) == (not classes)
    if classes:
        assert source.labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 1]
    for at, seed in ((3, 3), (7, 7), (8, 5)):
        assert np.array_equal(source.seen([at])[0].numpy(), noise(seed).transpose(2, 0, 1))
        assert Path(source.path(at)) == tmp_path / "d" / f"{seed}.png"


def test_a_list_may_lack_labels_and_hold_odd_names(tmp_path: Path) -> None:
    numbered(tmp_path, 4)
    (tmp_path / "0.png").rename(tmp_path / 'a "quoted, name.png')
    (tmp_path / "a.txt").write_text('a "quoted, name.png\tcat\n1.png\n2.png\tdog\n3.png\tcat\n')
    (tmp_path / "a.csv").write_text('"a ""quoted, name.png",0\n1.png,-1\n2.png,1\n3.png,0\n')
    for name in ("a.txt", "a.csv"):
        source = open_data(tmp_path / name, seed=None).train
        assert source.labels.tolist() == [0, -1, 1, 0]
        assert source.skipped == []


def test_a_pair_of_lists(tmp_path: Path) -> None:
    paths = numbered(tmp_path / "d", 8)
    (tmp_path / "a.csv").write_text("\n".join(f"{p},{'xyz'[i % 3]}" for i, p in enumerate(paths[:6])))
    (tmp_path / "b.csv").write_text("\n".join(f"{p},z" for p in paths[6:]))
    data = open_data(f"train={tmp_path / 'a.csv'},test={tmp_path / 'b.csv'}")
    assert data.test.labels.tolist() == [2, 2]


def test_a_changed_file_or_list_is_other_data(tmp_path: Path, monkeypatch) -> None:
    listed = tmp_path / "a.txt"
    listed.write_text("\n".join(numbered(tmp_path / "d", 6)))
    first = open_data(listed, seed=None).train.fingerprint
    assert open_data(listed, seed=None).train.fingerprint == first
    write(tmp_path / "d" / "2.png", seed=99)
    second = open_data(listed, seed=None).train.fingerprint
    listed.write_text(listed.read_text() + "\nd/0.png")
    assert len({first, second, open_data(listed, seed=None).train.fingerprint}) == 3
    monkeypatch.setattr("unlabeled.data.formats.listed._STAMPED", 3)
    long = open_data(listed, seed=None).train
    assert not long._store.reader.lasting
    assert torch.equal(long.seen([6]), long.seen([0]))
