"""`Source`: the lazy cache, replacement of bad samples, threads, and how soon it starts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from unlabeled.data import Data, open_data, store
from unlabeled.data.formats.folder import FileReader
from unlabeled.errors import UserError

from .pictures import encoded, noise, write


@pytest.fixture
def one_bad(tmp_path: Path) -> Path:
    """20 unlabelled images of which number 7 is empty."""
    for i in range(20):
        write(tmp_path / "d" / f"{i:02d}.png", seed=i)
    (tmp_path / "d" / "07.png").write_bytes(b"")
    return tmp_path / "d"


def test_small_sets_are_decoded_once_for_ever(class_folder: Path, reads: list[int]) -> None:
    first = open_data(class_folder)
    assert len(reads) == 30
    pixels = first.train.seen(range(24))
    reads.clear()
    second = open_data(class_folder)
    assert torch.equal(second.train.seen(range(24)), pixels)
    assert reads == []
    assert second.train.fingerprint == first.train.fingerprint
    write(class_folder / "ant" / "0.png", seed=99)
    third = open_data(class_folder)
    assert len(reads) == 30
    assert third.train.fingerprint != first.train.fingerprint


def test_what_the_check_did_not_reach_is_decoded_when_fetched(class_folder: Path, reads: list[int], monkeypatch) -> None:
    monkeypatch.setattr("unlabeled.data.opening._CHECK_SECONDS", (0.0, 0.0))
    data = open_data(class_folder)
    assert reads == []
    data.train.seen([3, 3, 4])
    data.train.seen([4])
    assert len(reads) == 2


def test_too_large_for_a_cache_is_decoded_every_time(class_folder: Path, reads: list[int], monkeypatch, cache: Path) -> None:
    cached = open_data(class_folder).train.seen([5, 1, 5])
    monkeypatch.setattr(store, "MAX_CACHE_BYTES", 10)
    data = open_data(class_folder)
    reads.clear()
    assert torch.equal(data.train.seen([5, 1, 5]), cached)
    assert torch.equal(data.train.seen([5, 1, 5]), cached)
    assert len(reads) == 4
    assert len(list(cache.iterdir())) == 1


def test_a_cache_that_cannot_be_written_is_replaced(class_folder: Path, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("UNLABELED_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    data = open_data(class_folder)
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    assert data.train.seen([0]).shape == (1, 3, 16, 16)
    del data
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_bad_sample_is_replaced_counted_and_listed_once(one_bad: Path) -> None:
    data = open_data(f"train={one_bad},test={one_bad}")
    source = data.train
    assert torch.equal(source.seen([7]), source.seen([8]))
    assert [(s.index, Path(s.path).name, s.reason) for s in source.skipped] == [(7, "07.png", "empty file (0 bytes)")]
    assert np.flatnonzero(~source.good()).tolist() == [7]
    part = source.subset([6, 7])
    assert torch.equal(part.seen([1]), part.seen([0]))  # cyclic, and within the subset
    assert part.skipped[0].index == 1
    assert len(source.subset([7]).good()) == 1
    with pytest.raises(UserError, match="none of its 1 image"):
        source.subset([7]).seen([0])


def test_bad_samples_without_a_cache(one_bad: Path, monkeypatch) -> None:
    monkeypatch.setattr(store, "MAX_CACHE_BYTES", 10)
    source = open_data(f"train={one_bad},test={one_bad}").train
    x = source.seen([7, 8, 6])
    assert torch.equal(x[0], x[1])
    assert len(source.skipped) == 1


def test_more_than_a_tenth_bad_stops_at_once_or_later(one_bad: Path, monkeypatch) -> None:
    for i in (1, 2):
        (one_bad / f"{i:02d}.png").write_bytes(b"junk")
    with pytest.raises(UserError, match=r"(?s)3 of 20 .* bad, more than a tenth.*01.png: not an image.*07.png: empty"):
        open_data(one_bad)
    monkeypatch.setattr("unlabeled.data.opening._CHECK_SECONDS", (0.0, 0.0))
    source = open_data(f"train={one_bad},test={one_bad}").train
    source.seen([1, 2])
    with pytest.raises(UserError, match="more than a tenth"):
        source.seen([7])


def test_the_check_ends_when_it_has_seen_enough(tmp_path: Path, monkeypatch) -> None:
    for i in range(60):
        write(tmp_path / "d" / f"{i:02d}.png", seed=i)
    monkeypatch.setattr(store, "ENOUGH", 20)
    monkeypatch.setattr("unlabeled.data.opening._CHECK_SECONDS", (60.0, 60.0))
    for looked_at in (20, 40, 60, 60):  # what was decoded before is not looked at again
        decoded = np.flatnonzero(open_data(tmp_path / "d", seed=None).train._store._decoded)
        assert len(decoded) == looked_at
        if looked_at == 20:
            assert np.diff(decoded).max() <= 6, "they are not spread evenly"


def test_threads_and_processes_may_fill_a_cache_together(class_folder: Path, monkeypatch) -> None:
    monkeypatch.setattr("unlabeled.data.opening._CHECK_SECONDS", (0.0, 0.0))
    one, other = open_data(class_folder).train, open_data(class_folder).train
    order = np.random.default_rng(0).integers(0, 24, (20, 8))
    results: dict[tuple[int, int], torch.Tensor] = {}

    def work(who: int) -> None:
        for i, indices in enumerate(order):
            results[who, i] = (one, other)[who % 2].seen(indices)

    threads = [threading.Thread(target=work, args=(w,)) for w in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, indices in enumerate(order):
        assert all(torch.equal(results[w, i], one.seen(indices)) for w in range(4))


def test_grey_arrays_become_colour_and_colour_grey_where_an_encoder_wants_them() -> None:
    grey, colour = (np.random.default_rng(0).integers(0, 256, (20, 8, 8, c), dtype=np.uint8) for c in (1, 3))
    as_colour = open_data({"x_train": grey, "x_test": grey[:5]}, channels=3)
    for split in (as_colour.train, as_colour.test):
        assert split.channels == 3
        pixels = split.seen(range(len(split)))
        assert torch.equal(pixels, torch.from_numpy(grey[: len(split)]).permute(0, 3, 1, 2).expand(-1, 3, -1, -1))
    assert open_data(colour, channels=1).train.seen([0]).shape == (1, 1, 8, 8)
    assert open_data(colour, channels=3).train.seen([0]).shape == (1, 3, 8, 8)
    assert open_data(np.repeat(grey, 5, axis=3), channels=3).train.channels == 5


def test_indices(class_folder: Path) -> None:
    source = open_data(class_folder).train
    assert source.seen([]).shape == (0, 3, 16, 16)
    with pytest.raises(IndexError, match="outside"):
        source.seen([24])
    with pytest.raises(IndexError, match="outside"):
        source.seen([-1])
    sub = source.subset(torch.tensor([5, 2]))
    assert torch.equal(sub.seen([0, 1]), source.seen([5, 2]))
    assert sub.labels.tolist() == source.labels[[5, 2]].tolist()
    assert sub.fingerprint != source.fingerprint


def test_the_held_out_split_follows_the_seed(class_folder: Path) -> None:
    a, b, c = (open_data(class_folder, seed=s).test._rows.tolist() for s in (0, 0, 1))
    assert a == b != c


def took(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the quicker of two times, as something else may run here, and what came of it."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        made = work()
        seconds.append(time.perf_counter() - start)
    return min(seconds), made


def ready(path: Path) -> Data:
    """Data whose first samples are known."""
    opened = open_data(path)
    opened.train.seen(range(256))
    return opened


def test_many_files_start_at_once(tmp_path: Path, monkeypatch) -> None:
    """10,000 tiny files: listed and opened, besides the check, in about three times what it takes to read each plainly."""
    data = encoded(noise(0, (8, 8)), "PNG")
    for c in range(10):
        folder = tmp_path / "many" / str(c)
        folder.mkdir(parents=True)
        for i in range(1000):
            (folder / f"{i}.png").write_bytes(data + str(i).encode())
    monkeypatch.setattr("unlabeled.data.opening._CHECK_SECONDS", (0.0, 0.0))
    files = sorted((tmp_path / "many").rglob("*.png"))
    plainly = took(lambda: [file.read_bytes() for file in files])[0]
    ours, opened = took(lambda: ready(tmp_path / "many"))
    assert ours < 12 * plainly
    assert 7_700 < len(opened.train) < 8_300


def test_many_listed_paths_start_at_once(tmp_path: Path, monkeypatch) -> None:
    """100,000 lines over ten files: opened, besides the check, in what it takes to ask for the size of each."""
    for i in range(10):
        write(tmp_path / f"{i}.png", seed=i)
    (tmp_path / "many.txt").write_text("".join(f"{i % 10}.png\t{i % 10}\n" for i in range(100_000)))
    monkeypatch.setattr("unlabeled.data.opening._CHECK_SECONDS", (0.0, 0.0))
    plainly = took(lambda: [(tmp_path / f"{i % 10}.png").stat() for i in range(100_000)])[0]
    ours, opened = took(lambda: ready(tmp_path / "many.txt"))
    assert ours < 5 * plainly
    assert len(opened.train) in range(10_000, 100_000, 10_000)


def test_a_reader_of_links(tmp_path: Path) -> None:
    """A link to a folder that holds it is followed once; a broken link is a bad file, not a missing one."""
    for i in range(12):
        write(tmp_path / "d" / f"{i:02d}.png", seed=i)
    (tmp_path / "d" / "loop").symlink_to(tmp_path / "d")
    (tmp_path / "d" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    data = open_data(f"train={tmp_path / 'd'},test={tmp_path / 'd'}")
    assert len(data.train) == 13
    assert [s.reason for s in data.train.skipped] == ["No such file or directory"]
    assert len(FileReader(tmp_path / "d", ["00.png"])) == 1
