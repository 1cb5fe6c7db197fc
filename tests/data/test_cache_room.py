"""The cache of decoded samples on a disk that is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from unlabeled.data import open_data, store
from unlabeled.files import reserve


def full(limit: int):
    """A disk of so many bytes, as `posix_fallocate` finds it."""
    taken: dict[int, int] = {}

    def allocate(handle: int, start: int, length: int) -> None:
        taken[os.fstat(handle).st_ino] = start + length
        if sum(taken.values()) > limit:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.truncate(handle, max(os.fstat(handle).st_size, start + length))

    return allocate


def test_what_is_reserved_has_its_room_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    reserve(path, 1 << 20)
    assert path.stat().st_size == 1 << 20
    assert path.stat().st_blocks * 512 >= 1 << 20, "the file has holes"
    assert path.read_bytes()[:4] == b"abc\0"
    reserve(path, 2)
    assert path.read_bytes() == b"ab"


def test_a_file_with_holes_is_filled_before_it_is_mapped(class_folder: Path, cache: Path) -> None:
    """As an earlier version left it, or a process that died of the full disk."""
    pixels = open_data(class_folder).train.seen([0, 1])
    (file,) = cache.rglob("image.bin")
    length = file.stat().st_size
    file.write_bytes(b"")
    os.truncate(file, length)
    assert file.stat().st_blocks == 0
    (state,) = cache.rglob("decoded.u8")
    state.write_bytes(bytes(state.stat().st_size))
    assert torch.equal(open_data(class_folder).train.seen([0, 1]), pixels)
    assert file.stat().st_blocks * 512 >= length


@pytest.mark.parametrize("limit", [0, 30 * 16 * 16 * 3])  # nothing fits, or the pixels and not the state beside them
def test_without_room_it_goes_on_and_says_so_and_leaves_nothing(
    class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    pixels = open_data(class_folder).train.seen(range(5))
    monkeypatch.setenv("UNLABELED_CACHE", str(tmp_path / "other"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(os, "posix_fallocate", full(limit))
    data = open_data(class_folder)
    assert torch.equal(data.train.seen(range(5)), pixels)
    (said,) = data.remarks()
    assert "no room for 0 MiB of them in" in said
    assert "No space left on device). Make room, or name another folder with $UNLABELED_CACHE" in said
    assert not list(tmp_path.rglob("other/*"))
    assert not list((tmp_path / "temporary").iterdir())


def test_room_in_a_temporary_folder_is_enough(class_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual, refused = store.reserve, tmp_path / "other"

    def in_one_folder_only(path: Path, length: int) -> None:
        if refused in path.parents:
            raise OSError(errno.ENOSPC, "No space left on device")
        usual(path, length)

    monkeypatch.setenv("UNLABELED_CACHE", str(refused))
    monkeypatch.setattr(store, "reserve", in_one_folder_only)
    data = open_data(class_folder)
    assert data.remarks() == []
    assert data.train._store._held is not None
