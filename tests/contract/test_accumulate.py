"""A run whose batches come in pieces, from outside. That pieces give the gradient of the whole is a rule of the contract."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from unlabeled.errors import UserError
from unlabeled.testing import Trial

from .suite import BY_NAME, TRIALS, each
from .test_the_loop import bits, interrupt, pretrain


@each(*(trial for trial in TRIALS if not trial.in_pieces and trial.kind_name == "image"))
def test_other_methods_refuse(trial: Trial, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--accumulate 2 is for methods that compare embeddings"):
        pretrain(tmp_path / "run", trial, accumulate=2)
    assert not (tmp_path / "run").exists()


def test_pieces_of_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --accumulate 8 or less"):
        pretrain(tmp_path / "run", BY_NAME["simclr"], accumulate=9)
    with pytest.raises(UserError, match="accumulate is 0, and must be at least 1"):
        pretrain(tmp_path / "run", BY_NAME["simclr"], accumulate=0)


@each(BY_NAME["moco"])
def test_a_run_in_pieces_that_was_stopped_and_resumed_gives_the_same_bits(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = pretrain(tmp_path / "whole", trial, accumulate=4)
    said = " ".join(capsys.readouterr().out.split())
    assert "each batch in 4 pieces: the gradient is that of the whole batch; but the statistics of the encoder's" in said
    with monkeypatch.context() as patch:
        interrupt(5, patch)
        stopped = pretrain(tmp_path / "stopped", trial, accumulate=4)
    assert not stopped.finished
    with pytest.raises(UserError, match="began with accumulate = 4, and cannot go on with 2"):
        pretrain(tmp_path / "stopped", trial, accumulate=2, resume=True)
    resumed = pretrain(tmp_path / "stopped", trial, accumulate=4, resume=True)
    assert resumed.finished
    assert bits(resumed.read_checkpoint()) == bits(whole.read_checkpoint())
    at_once = pretrain(tmp_path / "at once", trial)
    assert bits(at_once.read_checkpoint()) != bits(whole.read_checkpoint())


PROGRAM = """
import sys
import torch

from unlabeled import registry
from unlabeled.batch import Batch, Progress
from unlabeled.registry import Choice
from unlabeled.testing import Trial
from unlabeled.training import accumulate
torch.set_num_threads(1)
method = Trial(registry.get("methods", "simclr"), Choice("resnet10t", {"width": 16})).make().train()
views = [torch.rand(512, 3, 16, 16) for _ in range(2)]


def memory(what):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(what))


batch, at = Batch(views, torch.arange(512)), Progress(0, 1, 0)
before = memory("VmRSS")
accumulate.backward(method, batch, at, range(9))
print(memory("VmHWM") - before)
method(batch, at).total.backward()
print(memory("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from Linux's /proc")
def test_the_memory_is_that_of_a_piece() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True)
    pieces, whole = (int(line) // 1024 for line in done.stdout.split())
    assert pieces < whole / 3, f"{pieces} MiB in 8 pieces, {whole} MiB at once, above what is there before the step"
