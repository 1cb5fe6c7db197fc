"""One thread: the tensors here are small, and threads that wait for each other on a busy machine take ten times as long.
The cache lies in the test's own folder."""

from __future__ import annotations

import gc
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command import ONE, folder, ok
from threadpoolctl import threadpool_limits

from unlabeled import own, registry

torch.set_num_threads(1)  # collecting computes, too: which rules a method has
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start
os.environ["TORCHINDUCTOR_VEC_ISA_OK"] = "1"  # what compiles need not ask the C++ compiler for each kind of vectors
SLOW = frozenset((Path(__file__).parent / "slow.txt").read_text(encoding="utf-8").split())
"""The tests that `make quick` leaves out, by their measured times: `slow.py` writes them."""
NUMBERS = itertools.count()
"""Of tests without a folder."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with many slow cases come first: at the end no process waits long for another's last file."""
    heavy: Counter[Path] = Counter()
    for item in items:
        if item.nodeid.partition("[")[0] in SLOW:
            item.add_marker(pytest.mark.slow)
            heavy[item.path] += 1
    items.sort(key=lambda item: -heavy[item.path])


def pytest_collection_finish() -> None:
    """What collecting made stays: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="session", autouse=True)
def no_disk_is_waited_for() -> Iterator[None]:
    """Files are synchronised against a loss of power, which no test has: thousands of them are minutes on a busy disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 60 images, of which evaluate holds out a fifth, and a run of one epoch on it; some modules make others."""
    path = tmp_path_factory.mktemp("made")
    folder(path / "data")
    ok("pretrain", path / "data", *ONE, "--out", path / "run")
    return path


@pytest.fixture(autouse=True)
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the test's folder. One that asks for none gets none, as making it takes a system longer than many tests."""
    own, base = "tmp_path" in request.fixturenames, tmp_path_factory.getbasetemp()
    folder: Path = request.getfixturevalue("tmp_path") if own else base / f"without-{next(NUMBERS)}"
    folder /= "cache"
    monkeypatch.setenv("UNLABELED_CACHE", str(folder))
    monkeypatch.delenv("UNLABELED_DATA", raising=False)
    return folder


@pytest.fixture
def two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine-tuning takes two, where nobody says how many."""
    from unlabeled.probes.finetune import Finetune

    for option in ("epochs", "steps"):
        monkeypatch.setitem(Finetune.__init__.__kwdefaults__, option, 2)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are made but not drawn, and their files are empty."""
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda self, path, **how: Path(path).touch())


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a test gives in Python in place of a name is gone after it."""
    yield
    for key in list(own._given):
        del own._given[key], registry._registered[key]
