"""Pipes and devices where files are expected: refused or left out with words, and never waited for."""

from __future__ import annotations

import faulthandler
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from unlabeled.data import open_data
from unlabeled.errors import UserError

from .pictures import encoded, noise, write


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Ends the tests where one waits for a pipe: no exception could."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


def reasons(path: Path) -> dict[str, str]:
    source = open_data(f"train={path},test={path}").train
    return {Path(skipped.path).name: skipped.reason for skipped in source.skipped}


def test_in_a_folder_and_behind_links(tmp_path: Path) -> None:
    for i in range(40):
        write(tmp_path / "d" / f"{i}.png", seed=i)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "d" / "linked.png").symlink_to(tmp_path / "pipe")
    (tmp_path / "d" / "device.png").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "d" / "itself.png")
    device = "a device, not a file"
    assert reasons(tmp_path / "d") == {
        "linked.png": "a pipe, not a file", "itself.png": "a pipe, not a file", "device.png": device,
    }  # fmt: skip


def test_in_a_list(tmp_path: Path) -> None:
    for i in range(60):
        write(tmp_path / f"{i}.png", seed=i)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    lines = [*(f"{i}.png" for i in range(60)), "pipe.png", "/dev/zero", "folder.png", "gone.png"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    assert reasons(tmp_path / "a.txt") == {
        "pipe.png": "a pipe, not a file", "zero": "a device, not a file", "folder.png": "a folder, not a file",
        "gone.png": "No such file or directory",
    }  # fmt: skip


def test_among_recordings(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for i in range(20):
        soundfile.write(tmp_path / "d" / f"{i}.wav", np.random.default_rng(i).normal(0, 0.1, 800), 8000)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "d" / "linked.wav").symlink_to(tmp_path / "pipe")
    assert reasons(tmp_path / "d") == {"linked.wav": "a pipe, not a file"}


def test_named_in_a_parquet_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    cells = [{"bytes": encoded(noise(i)), "path": ""} for i in range(20)] + [{"bytes": None, "path": "pipe.png"}]
    pq.write_table(pa.table({"image": cells}), tmp_path / "a.parquet")
    assert list(reasons(tmp_path / "a.parquet").values()) == ["a pipe, not a file"]


@pytest.mark.parametrize("suffix", ["csv", "txt", "zip", "npz", "npy", "parquet", "png", "wav"])
def test_in_place_of_the_data(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"a.{suffix}")
    with pytest.raises(UserError, match="a pipe or a device, which cannot be read twice"):
        open_data(tmp_path / f"a.{suffix}")
    (tmp_path / "d").mkdir()
    shutil.move(tmp_path / f"a.{suffix}", tmp_path / "d")
    with pytest.raises(UserError, match=r"a pipe, not a file|no image in this folder"):
        open_data(tmp_path / "d")
