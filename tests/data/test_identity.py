"""What counts as the same data: content for a run that goes on, content and place for what is kept of it."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from command import ONE, file, folder, ok

from unlabeled.data import Source, content, open_data
from unlabeled.data.formats import parquet

from .pictures import encoded, noise, write


def source(path: Path) -> Source:
    return open_data(path, seed=None).train


def twins(root: Path, make: str) -> tuple[Path, Path]:
    """The same names, sizes and times in two places, with other pixels."""
    made = []
    for place, seed in (("one", 0), ("other", 100)):
        path = root / place / "d"
        for i in range(6):
            picture = np.zeros((16, 16, 3), np.uint8) + seed + i
            data = encoded(picture, "BMP")
            path.mkdir(parents=True, exist_ok=True)
            (path / f"{i}.bmp").write_bytes(data)
            os.utime(path / f"{i}.bmp", (10**9 + i, 10**9 + i))
        if make == "list":
            (path.parent / "d.txt").write_text("".join(f"d/{i}.bmp\n" for i in range(6)))
            path = path.parent / "d.txt"
        elif make == "zip":
            with zipfile.ZipFile(path.parent / "d.zip", "w") as archive:
                for i in range(6):
                    archive.write(path / f"{i}.bmp", f"{i}.bmp")
            path = path.parent / "d.zip"
        elif make == "parquet":
            cells = [{"bytes": (path / f"{i}.bmp").read_bytes(), "path": ""} for i in range(6)]
            pq.write_table(pa.table({"image": cells}), path.parent / "d.parquet", compression="none", use_dictionary=False)
            path = path.parent / "d.parquet"
        os.utime(path, (5, 5))
        made.append(path)
    return made[0], made[1]


@pytest.mark.parametrize("make", ["folder", "list", "zip", "parquet"])
def test_other_content_of_the_same_names_sizes_and_times_is_other_data(tmp_path: Path, make: str, monkeypatch) -> None:
    monkeypatch.setattr(parquet, "_HASHED_BYTES", 100)  # as a file that is too large to be read whole
    one, other = (source(path) for path in twins(tmp_path, make))
    assert one.fingerprint != other.fingerprint
    assert one.key != other.key
    assert int(one.seen([0]).max()) == 0
    assert int(other.seen([0]).max()) == 100


@pytest.mark.parametrize("make", ["folder", "list", "zip", "parquet"])
def test_a_copy_is_the_same_data_in_another_place(tmp_path: Path, make: str, monkeypatch) -> None:
    monkeypatch.setattr(parquet, "_HASHED_BYTES", 100)
    path = twins(tmp_path, make)[0]
    shutil.copytree(tmp_path / "one", tmp_path / "copy")  # with other times
    copied = tmp_path / "copy" / path.name
    os.utime(copied, (9, 9))
    one, copy = source(path), source(copied)
    assert one.fingerprint == copy.fingerprint
    assert one.key != copy.key


def test_what_is_kept_of_a_file_is_not_given_once_it_was_written_again(tmp_path: Path, reads: list[int]) -> None:
    folder_ = twins(tmp_path, "folder")[0]
    before = source(folder_)
    os.utime(folder_ / "3.bmp", (77, 77))
    reads.clear()
    after = source(folder_)
    assert len(reads) == 6
    assert before.fingerprint == after.fingerprint
    assert before.key != after.key


def test_a_change_of_any_file_of_some_thousand_is_seen_and_of_a_long_one_anywhere_it_is_looked_at(tmp_path: Path) -> None:
    for i in range(20):
        write(tmp_path / "d" / f"{i:02d}.png", seed=i)
    before = source(tmp_path / "d").fingerprint
    for i in (0, 7, 19):
        data = (tmp_path / "d" / f"{i:02d}.png").read_bytes()
        (tmp_path / "d" / f"{i:02d}.png").write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
        assert source(tmp_path / "d").fingerprint != before
        (tmp_path / "d" / f"{i:02d}.png").write_bytes(data)
    assert source(tmp_path / "d").fingerprint == before
    long = bytearray(np.random.default_rng(0).bytes(5 * content.PIECE))
    known = content.of_bytes(bytes(long))
    (tmp_path / "long").write_bytes(long)
    assert content.of_file(tmp_path / "long") == known
    for at in (0, content.PIECE - 1, len(long) // 2, len(long) - 1):
        changed = long.copy()
        changed[at] ^= 1
        assert content.of_bytes(bytes(changed)) != known
    assert content.of_bytes(bytes(long[:-1])) != known


def test_a_run_goes_on_with_a_copy_of_its_data_and_not_with_other_data(tmp_path: Path, monkeypatch) -> None:
    folder(tmp_path / "home" / "photos")
    ok("pretrain", tmp_path / "home" / "photos", *ONE, "--out", tmp_path / "run")
    (tmp_path / "away").mkdir()
    shutil.copytree(tmp_path / "home" / "photos", tmp_path / "away" / "photos")
    there, copy = (open_data(tmp_path / place / "photos").train for place in ("home", "away"))
    assert there.fingerprint == copy.fingerprint
    monkeypatch.chdir(tmp_path / "away")
    recipe = (tmp_path / "run" / "recipe.yaml").read_text()
    (tmp_path / "run" / "recipe.yaml").write_text(recipe.replace(str(tmp_path / "home" / "photos"), "photos"))
    asked = ("evaluate", tmp_path / "run", "--protocol", "knn", "--against", "none")
    assert "not what the run was trained on" not in ok(*asked)
    for path in sorted(Path("photos").rglob("*.png"))[::2]:
        write(path, noise(7, (8, 8)))
    assert "'photos' is not what the run was trained on" in ok(*asked)


def test_features_of_another_folder_are_not_given(tmp_path: Path) -> None:
    """Nor where names, sizes, times and all that is looked at of the content are the same."""
    one, other = twins(tmp_path, "folder")
    ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run")
    for at, path in enumerate((one, other)):
        ok("embed", tmp_path / "run", path, "--out", tmp_path / f"{at}.npz")
    first, second = (np.load(tmp_path / f"{at}.npz")["embedding"] for at in (0, 1))
    assert not np.allclose(first, second)
    assert not torch.equal(source(one).seen([0]), source(other).seen([0]))
