"""Options that cannot work are refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE, file, mistake, ok

import unlabeled
from unlabeled.errors import UserError
from unlabeled.run import Run
from unlabeled.training import train


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--method.temperature", "-0.5"), "must be above 0"),
        (("--method.temperature", "0"), "must be above 0"),
        (("--method.dim", "0"), "must be at least 1"),
        (("--method.hidden", "-1"), "must be at least 0"),
        (("--method", "moco", "--method.queue", "0"), "must be at least 1"),
        (("--method", "byol", "--method.momentum", "2.0"), "at least 0 and at most 1"),
        (("--optimizer.lr", "-1"), "must be above 0"),
        (("--views", "multi-crop"), "draws 8 views of each image, and 'simclr' compares 2"),
        (("--views", "none"), "draws 1 view of each image, and 'simclr' compares 2"),
        (("--method", "moco", "--views", "multi-crop"), "draws 8 views"),
        (("--warmup-epochs", "3"), "must be at most the 1 epoch of"),
    ],
)
def test_an_impossible_option(words: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    assert reason in mistake("pretrain", file(tmp_path / "x.npz"), *ONE, *words, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_range_of_an_option_is_a_number_of_its_type(tmp_path: Path) -> None:
    assert "must be a whole number" in mistake(
        "pretrain", file(tmp_path / "x.npz"), *ONE, "--method.dim", "1.5", "--out", tmp_path / "run"
    )


def test_a_model_that_diverged_is_not_saved_over_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "SAVE_EVERY", -1.0)
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    options = {"encoder.width": 4, "optimizer.lr": 1e30}
    with pytest.raises(UserError, match="another --out"):
        unlabeled.pretrain(
            images,
            optimizer="sgd",
            epochs=20,
            batch_size=16,
            image_size=8,
            warmup_epochs=0,
            out=tmp_path / "run",
            options=options,
        )
    state = Run(tmp_path / "run").read_checkpoint()
    assert state is None or all(v.isfinite().all() for v in state["method"].values() if torch.is_floating_point(v))


def test_resume_says_that_there_is_nothing(tmp_path: Path) -> None:
    said = ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--resume", "--out", tmp_path / "run")
    assert "nothing to resume" in said


def test_another_number_of_devices_than_before_is_said(tmp_path: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "run"
    ok("pretrain", data, *ONE, "--out", out)
    run = Run(out)
    state = run.read_checkpoint()
    assert state is not None
    run.write_checkpoint({**state, "finished": False, "step": 1, "processes": 2})
    assert "begun on 2 processes, and goes on with 1" in ok("pretrain", data, *ONE, "--resume", "--out", out)
