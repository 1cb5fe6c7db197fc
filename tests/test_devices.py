"""Two processes through the command line: they share the work, and only the first writes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import ONE, SMALL, file, mistake, ok

import unlabeled
from unlabeled.run import Run

SLOW_END = """
import time
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from unlabeled.cli import main
from unlabeled.distributed import rank
from unlabeled.training.monitor import Monitor
_ChildProcessObserver.__init__.__defaults__ = (1,)
end = Monitor.end
Monitor.end = lambda *args: (time.sleep(3 * (rank() == 0)), end(*args))
main()
"""
"""Fabric kills all processes some 5 s after one has failed, here after 1 s; one that ends early must not look like that."""


def test_two_processes_of_which_the_first_takes_its_time_at_the_end(tmp_path: Path) -> None:
    data, out, script = file(tmp_path / "x.npz"), tmp_path / "run", tmp_path / "slow.py"
    script.write_text(SLOW_END)
    words = ["pretrain", str(data), *ONE, "--devices", "2", "--precision", "32", "--out", str(out)]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert said.count("3 steps of 16 in 1 epoch on 2 × cpu") == 1
    assert said.count("rank of h") == 1
    assert said.count("written:") == 1
    history = Run(out).history
    assert [line["step"] for line in history if "h_std" not in line] == [1, 3, 3, 3]
    assert [line["step"] for line in history if "h_std" in line] == [0, 1, 2, 3]
    assert "100%" in ok("evaluate", out, "--protocol", "knn", "--against", "none")
    assert unlabeled.load(out).dim == 32
    assert "is finished" in ok(*words, "--resume")


def test_a_batch_that_cannot_be_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unlabeled.training.setup.world", lambda: 3)
    monkeypatch.setattr("unlabeled.training.setup.share_statistics", lambda method: method)
    assert "3 devices cannot share" in mistake("pretrain", file(tmp_path / "x.npz"), *ONE, "--out", tmp_path / "run")


IMPATIENT = """
from unlabeled.cli import main
from unlabeled.training import failing
failing.SILENCE = 25.0
main()
"""
"""Processes that wait for a silent one for 25 s and not for 10 minutes."""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not say who its children are")
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGSTOP])
def test_the_end_or_the_silence_of_one_process_ends_the_other_in_one_line(way: signal.Signals, tmp_path: Path) -> None:
    script, run = tmp_path / "impatient.py", Run(tmp_path / "run")
    script.write_text(IMPATIENT)
    words = ["pretrain", str(file(tmp_path / "x.npz")), *SMALL, "--epochs", "4000", "--monitor-every", "0", "--devices", "2"]
    process = subprocess.Popen([sys.executable, script, *words, "--out", str(run.path)], stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 120
        while len(run.history) < 3 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        (other, *_) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(other), way)
        began = time.monotonic()
        _, errors = process.communicate(timeout=150)
    finally:
        process.kill()
    assert process.returncode == 2
    assert time.monotonic() - began < 120
    assert "Traceback" not in errors
    lines = [line for line in errors.splitlines() if line.startswith("unlabeled: error: another process of this training")]
    assert len(lines) == 1
    until = time.monotonic() + 10
    while Path(f"/proc/{other}").is_dir() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{other}").is_dir(), "the silent one is ended, too"


BUSY = """
import os, signal, time
from pathlib import Path
from unlabeled.cli import main
from unlabeled.distributed import rank
from unlabeled.training.monitor import Monitor
def step(self, loss, at, lr):
    if rank() == 0:
        (other, *_) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        os.kill(int(other), signal.SIGKILL)
        time.sleep(60)
Monitor.step = step
main()
"""
"""The first process computes for a minute, without a word to the other, which is killed."""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="this system does not say who its children are")
def test_the_end_of_one_process_is_told_by_one_that_is_busy_too(tmp_path: Path) -> None:
    script = tmp_path / "busy.py"
    script.write_text(BUSY)
    words = ["pretrain", str(file(tmp_path / "x.npz")), *ONE, "--devices", "2", "--out", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [
        line for line in done.stderr.splitlines() if line.startswith("unlabeled: error: another process of this training")
    ]
    assert len(lines) == 1, done.stderr
