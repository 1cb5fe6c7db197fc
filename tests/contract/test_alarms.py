"""A run that goes wrong is said to, in words, by every verb that tells of it; a healthy one is not accused."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unlabeled
from unlabeled.cli import main
from unlabeled.errors import UserError
from unlabeled.methods.base import Method
from unlabeled.recipe import compose
from unlabeled.run import Run
from unlabeled.testing import Trial
from unlabeled.training import setup

from .suite import BY_NAME, TRIALS, each

PICTURES = [trial for trial in TRIALS if trial.kind_name == "image" and trial.learns]


def short(out: Path, trial: Trial, images: Any, *, times: float = 1, **more: Any) -> Run:
    """A run of 20 steps by the method's own recipe, but small; with so many times its learning rate."""
    network = trial.encoder
    options = {f"method.{k}": v for k, v in trial.options.items()}
    options |= {f"encoder.{k}": v for k, v in network.options.items()}
    if "permutations" in trial.options:
        options["views.permutations"] = trial.options["permutations"]
    if times != 1:
        recipe = compose({"method": trial.name})
        options["optimizer.lr"] = times * recipe.optimizer.options["lr"]
    given = {"encoder": network.name, "epochs": 5, "batch_size": 16, "monitor_every": 0, "accelerator": "cpu"}
    given |= {"precision": "32", "speed": "channels-last workers=1"}
    return unlabeled.pretrain(str(images), method=trial.name, out=out, options=options, **given | more)


def clusters(trial: Trial, folder: Path, n: int = 80, *, alike: bool = False) -> Path:
    """A file of images and labels, the last 16 for the test; of one image alone, if they are to be alike."""
    source = trial.samples(n)
    x, y = source.fields["image"].permute(0, 2, 3, 1).numpy(), source.labels.numpy()
    x = np.repeat(x[:1], n, 0) if alike else x
    np.savez(folder / "x.npz", x_train=x[:-16], y_train=y[:-16], x_test=x[-16:], y_test=y[-16:])
    return folder / "x.npz"


def words(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


@each(*PICTURES)
def test_a_healthy_run_is_not_accused(trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = short(tmp_path / "run", trial, clusters(trial, tmp_path))
    assert "warning" not in capsys.readouterr().out
    assert run.alarm == ""
    first, *looks = [line for line in run.history if "h_std" in line]
    assert first["step"] == 0
    assert [line["step"] for line in looks] == [1, *range(2, 21, 2)]


@each(*PICTURES)
def test_images_that_are_all_one(trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = short(tmp_path / "run", trial, clusters(trial, tmp_path, 48, alike=True), epochs=1)
    said = words(capsys)
    assert "warning before the first step: the images are the same: all" in said
    assert "warning: so the run ended: the images are the same" in said
    assert run.alarm.endswith(f"to see them: unlabeled inspect {tmp_path / 'x.npz'}")


@pytest.mark.parametrize("method", ["byol", "simsiam", "supervised"])
def test_a_hundred_times_the_learning_rate(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = BY_NAME[method]
    run = short(tmp_path / "run", trial, clusters(trial, tmp_path), times=100, lr_scaling="none")
    said = words(capsys)
    assert "warning after step" in said
    assert "times the usual" in run.alarm
    assert "likely because the learning rate of" in said
    assert "--optimizer.lr " in said


class Line(nn.Module):
    """Brings features (B, D) to a line beside the origin: of rank 1, in many directions."""

    def forward(self, h: Tensor) -> Tensor:
        out = torch.zeros_like(h)
        out[:, 0] = 1.0
        out[:, 1] = h.sum(dim=1)
        return out


def on_a_line(method: Method) -> None:
    method.encoder.backbone = nn.Sequential(method.encoder.backbone, Line())


def dead(method: Method) -> None:
    for module in method.encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.zeros_(module.weight)


@pytest.fixture
def hurt(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Method], None]], None]:
    """Hurts the methods that are built from now on."""

    def patch(harm: Callable[[Method], None]) -> None:
        whole = setup.built

        def built(*given: Any) -> Method:
            method = whole(*given)
            harm(method)
            return method

        monkeypatch.setattr(setup, "built", built)

    return patch


@pytest.mark.parametrize("method", ["supervised", "simclr", "barlow", "rotation", "fixmatch"])
def test_a_representation_of_rank_one(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], hurt: Any) -> None:
    hurt(on_a_line)
    trial = BY_NAME[method]
    run = short(tmp_path / "run", trial, clusters(trial, tmp_path))
    assert "dimensional collapse: the representation h has rank 1 of" in words(capsys)
    assert "has rank 1 of" in run.alarm


def test_a_dead_encoder_is_told_by_every_verb(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], hurt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a method whose objective sees no embedding."""
    monkeypatch.chdir(tmp_path)
    clusters(BY_NAME["supervised"], Path())
    hurt(dead)
    run = short(Path("run"), BY_NAME["supervised"], Path("x.npz"))
    seen = "complete collapse: all images get nearly the same representation h (spread 0.000 of 1, untrained 0.000)"
    said = words(capsys)
    assert said.count(f"warning after step 2: {seen}") == 1
    assert f"warning: so the run ended: {seen}" in said
    assert run.alarm.startswith(f"the run 'run' went wrong: {seen} (step 20); ")
    told = f"The run 'run' went wrong: {seen}"
    evaluation = unlabeled.evaluate("run", protocol=["knn", "health"], against="random")
    assert evaluation.opening[0].startswith(told)
    assert "To try:" not in str(evaluation.opening[1])
    assert told in " ".join(str(evaluation).split())
    assert "health of the run encoder: complete collapse" in " ".join(str(evaluation).split())
    assert told in unlabeled.report("run").read_text().replace("&#39;", "'")
    with pytest.raises(SystemExit):
        main(["embed", "run", "x.npz", "--out", "z.npz"])
    assert f"the run 'run' went wrong: {seen}" in words(capsys)
    program, *typed = shlex.split(run.alarm.rpartition("to try: ")[2])
    assert program == "unlabeled"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(typed)
    assert not end.value.code
    assert Run.open("run-2").recipe.optimizer.options["lr"] == pytest.approx(run.recipe.optimizer.options["lr"] / 10)
    assert Run.open("run-2").alarm == ""


def test_a_loss_that_is_not_finite_is_kept(tmp_path: Path) -> None:
    trial = BY_NAME["supervised"]
    with pytest.raises(UserError, match="likely because the learning rate of") as error:
        short(tmp_path / "run", trial, clusters(trial, tmp_path), times=1e30)
    assert "--optimizer.lr 0.06 " in str(error.value)
    assert "at step" in Run.open(tmp_path / "run").alarm
