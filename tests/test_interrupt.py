"""Signals, kills and what they leave."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from command import ONE, SMALL, file, mistake, ok

from unlabeled.errors import UserError
from unlabeled.files import alone, clear_leftovers, lock, write_whole
from unlabeled.run import Run
from unlabeled.training import interrupt, step, train
from unlabeled.training.interrupt import stoppable
from unlabeled.training.monitor import Monitor

HANGUP = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")


@contextmanager
def handled_as(number: int, how: Any) -> Iterator[None]:
    before = signal.signal(number, how)
    try:
        yield
    finally:
        signal.signal(number, before)


def raising(error: BaseException) -> Callable[..., None]:
    """A function that fails."""

    def fails(*given: Any, **more: Any) -> None:
        raise error

    return fails


@HANGUP
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_each_asks_to_stop(name: str) -> None:
    with stoppable() as stop:
        signal.raise_signal(getattr(signal, name))
        assert stop.is_set()


def test_two_at_once_are_one_and_a_later_one_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with stoppable() as stop:
        for _ in range(3):  # of the terminal and of a wrapper
            signal.raise_signal(signal.SIGINT)
            now[0] += 0.06
        assert stop.is_set()
        now[0] += interrupt.TOGETHER
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@HANGUP
def test_a_terminal_that_goes_twice_interrupts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "TOGETHER", -1.0)
    with stoppable() as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert stop.is_set()


@HANGUP
def test_what_nohup_ignores_stays_ignored() -> None:
    with handled_as(signal.SIGHUP, signal.SIG_IGN), stoppable() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert not stop.is_set()


@HANGUP
def test_a_run_whose_terminal_goes_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = step.generator

    def closing(seed: int, rank: int, number: int, *stream: int) -> torch.Generator:
        if number == 1:
            signal.raise_signal(signal.SIGHUP)
        return draw(seed, rank, number, *stream)

    words = ["pretrain", file(tmp_path / "x.npz"), *SMALL, "--epochs", "2", "--out", tmp_path / "run"]
    with monkeypatch.context() as patch, pytest.raises(AssertionError):  # exit code 130
        patch.setattr(step, "generator", closing)
        ok(*words)
    assert (Run(tmp_path / "run").read_checkpoint() or {})["step"] == 2
    ok(*words, "--resume")
    assert Run(tmp_path / "run").finished


@pytest.mark.parametrize("moment", ["check", "end"])
def test_a_signal_between_the_last_step_and_the_last_save(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., None] = getattr(Monitor, moment)

    def pressed(*given: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        real(*given)

    monkeypatch.setattr(Monitor, moment, pressed)
    ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run")
    assert Run(tmp_path / "run").finished


def test_a_run_that_was_stopped_after_its_last_step_is_finished_by_resuming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run"]
    monkeypatch.setattr(train, "SAVE_EVERY", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Monitor, "end", raising(KeyboardInterrupt()))
        with pytest.raises(AssertionError):
            ok(*words)
    run = Run(tmp_path / "run")
    assert (run.read_checkpoint() or {})["step"] == 3
    assert not run.finished
    ok(*words, "--resume")
    assert run.finished


def test_what_a_kill_left_is_cleared_and_is_no_other_thing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    left = [out / name for name in (".recipe.yaml.abcd", ".checkpoint.pt.x1y2z3_a", ".encoder.safetensors.abcdefgh")]
    for path in left:
        path.write_text("half")
    ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", out)
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]


def test_what_somebody_else_wrote_stays(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".notes.txt.abcdefgh").write_text("mine")
    assert "holds other things" in mistake("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", out)
    assert (out / ".notes.txt.abcdefgh").read_text() == "mine"


def test_what_another_process_is_writing_stays(tmp_path: Path) -> None:
    kept = tmp_path / ".checkpoint.pt.abcdefgh"
    kept.write_text("half")
    with lock(kept, wait=False):
        clear_leftovers(tmp_path, ["checkpoint.pt"])
        assert kept.exists()
    clear_leftovers(tmp_path, ["checkpoint.pt"])
    assert not kept.exists()


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        happened.append(Path(f"/proc/self/fd/{handle}").readlink().name[:2])
        sync(handle)

    def replaced(path: Path, to: Path) -> Path:
        happened.append("replaced")
        return replace(path, to)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    write_whole(tmp_path / "a", lambda path: path.write_text("all of it"))
    assert happened == [".a", "replaced", tmp_path.name[:2]]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_killed_writer_leaves_what_the_next_start_clears(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom unlabeled.files import write_whole\n"
        "write_whole(Path(sys.argv[1]), lambda path: (path.write_text('half'), os.kill(os.getpid(), 9)))"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "checkpoint.pt"], check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".checkpoint.pt.")
    with alone(tmp_path):
        clear_leftovers(tmp_path, ["checkpoint.pt"])
    assert not left.exists()


def full(*given: Any, **more: Any) -> None:
    torch.empty(2**45)  # PyTorch's own error


@pytest.mark.parametrize("fails", [full, raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB"))])
def test_a_full_memory_is_one_line(fails: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step.Step, "backward", fails)
    error = mistake("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run")
    assert "a batch of 16 does not fit the memory" in error
    assert "smaller --batch-size, or --accumulate 2" in error
    monkeypatch.setattr("unlabeled.exporting.embed.features", fails)
    ok("pretrain", tmp_path / "x.npz", *SMALL, "--epochs", "0", "--out", tmp_path / "made")
    assert "does not fit the memory" in mistake("embed", tmp_path / "made", tmp_path / "x.npz", "--out", tmp_path / "e.npz")


def test_other_errors_of_libraries_are_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = RuntimeError("Connection closed by peer")  # with a single process it says nothing of another
    monkeypatch.setattr(step.Step, "backward", raising(gone))
    with pytest.raises(RuntimeError, match="closed by peer"):
        ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run")


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    words = ["pretrain", file(tmp_path / "x.npz"), *SMALL, "--epochs", "2", "--out", tmp_path / "run"]
    ok(*words)
    run = Run(tmp_path / "run")
    run.write_checkpoint({**(run.read_checkpoint() or {}), "step": 3, "finished": False, "processes": 2})
    said = ok(*words, "--resume")
    assert "begun on 2 processes, and goes on with 1: the batches stay the same" in said
    assert run.finished


def test_a_finished_run_is_given_more_epochs(tmp_path: Path) -> None:
    words = ["pretrain", file(tmp_path / "x.npz"), *SMALL, "--monitor-every", "0", "--out", tmp_path / "run"]
    ok(*words, "--epochs", "1")
    said = ok(*words, "--epochs", "3", "--resume")
    assert "1 epoch becomes 3: from here on the learning rate is that of a run of 3" in said
    run = Run.open(tmp_path / "run")
    assert run.finished
    assert run.recipe.epochs == 3
    assert (run.read_checkpoint() or {})["step"] == 9
    assert [line["step"] for line in run.history if "loss" in line] == [1, 3, 6, 9]
    assert "took 9 steps already, and would have 6" in mistake(*words, "--epochs", "2", "--resume")
    assert "nothing is left to do" in ok(*words, "--epochs", "3", "--resume")


def test_a_longer_run_that_was_cut_off_while_it_was_told_so_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["pretrain", file(tmp_path / "x.npz"), *SMALL, "--monitor-every", "0", "--out", tmp_path / "run"]
    ok(*words, "--epochs", "1")
    with monkeypatch.context() as patch, pytest.raises(UserError):
        patch.setattr(Run, "write_text", raising(UserError("killed here")))
        run = Run(tmp_path / "run")
        run.prolong(run.recipe, {**(run.read_checkpoint() or {}), "total": 6, "finished": False}, [])
    ok(*words, "--epochs", "1", "--resume")
    ok(*words, "--epochs", "2", "--resume")
    assert Run(tmp_path / "run").finished
