"""The real loop: a run that Ctrl-C stops in the middle of an epoch and that is resumed ends in the same bits."""

from __future__ import annotations

import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import unlabeled
from unlabeled.run import Run
from unlabeled.testing import Trial
from unlabeled.training import step

from .suite import BY_NAME

EPOCHS, BATCH, IMAGES = 2, 16, 80  # a fifth of the images is held out: 4 steps an epoch


def pretrain(out: Path, trial: Trial, **more: Any) -> Run:
    source = trial.samples(IMAGES)
    images, y = source.fields["image"].permute(0, 2, 3, 1).numpy(), source.labels
    options = {f"method.{k}": v for k, v in trial.options.items()}
    network = trial.encoder
    given = {"encoder": network.name, "epochs": EPOCHS, "batch_size": BATCH, "warmup_epochs": 0.5, "precision": "32"}
    return unlabeled.pretrain(
        (images, y.numpy()),
        method=trial.name,
        out=out,
        accelerator="cpu",
        options={**options, **{f"encoder.{k}": v for k, v in network.options.items()}},
        **(given | more),
    )


def interrupt(at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the views of that step are drawn."""
    draw = step.generator

    def pressing(seed: int, rank: int, number: int, *stream: int) -> torch.Generator:
        if number == at:
            signal.raise_signal(signal.SIGINT)
        return draw(seed, rank, number, *stream)

    monkeypatch.setattr(step, "generator", pressing)


def bits(value: Any) -> Any:
    """A checkpoint with its tensors as plain values, for `==`."""
    if isinstance(value, torch.Tensor):
        return value.shape, value.flatten().tolist()
    if isinstance(value, dict):
        return {k: bits(v) for k, v in value.items()}
    return [bits(v) for v in value] if isinstance(value, list | tuple) else value


LOOPS: list[tuple[str, dict[str, Any]]] = [
    ("mochi", {"ema": 0.9}),  # a queue, a copy that follows, and the average of the weights beside
    ("npid", {"optimizer": "lars"}),  # a bank, filled before the first epoch
    ("deepcluster", {"optimizer": "muon"}),  # clusters before each epoch, and a draw by them
]
"""One of each kind of state that the loop keeps. That steps are resumed in the same bits is a rule for every method."""


def test_nothing_to_train_takes_no_step(tmp_path: Path) -> None:
    run = pretrain(tmp_path / "run", BY_NAME["random"])
    assert run.finished
    assert not any("z_std" in line for line in run.history)


@pytest.mark.parametrize(("method", "more"), LOOPS, ids=[name for name, _ in LOOPS])
def test_a_run_stopped_by_ctrl_c_and_resumed_gives_the_same_bits(
    method: str, more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = BY_NAME[method]
    whole = pretrain(tmp_path / "whole", trial, **more)
    assert whole.finished
    assert any("z_std" in line for line in whole.history) == trial.compares
    with monkeypatch.context() as patch:
        interrupt(5, patch)
        with pytest.raises(KeyboardInterrupt):
            pretrain(tmp_path / "stopped", trial, **more)
    stopped = Run(tmp_path / "stopped")
    state = stopped.read_checkpoint()
    assert state is not None
    assert not stopped.finished
    assert state["step"] == 6
    resumed = pretrain(tmp_path / "stopped", trial, **more, resume=True)
    assert resumed.finished
    assert bits(resumed.read_checkpoint()) == bits(whole.read_checkpoint())
    assert (resumed.path / "encoder.safetensors").read_bytes() == (whole.path / "encoder.safetensors").read_bytes()


def test_the_average_of_the_weights_is_judged_in_place_of_the_encoder(tmp_path: Path) -> None:
    """The average is that of `Ema`, which has its own oracle; here: what it averages, from where on, and who gets it."""
    plain = pretrain(tmp_path / "plain", BY_NAME["simclr"]).encoder().state_dict()
    first = pretrain(tmp_path / "first", BY_NAME["simclr"], epochs=0, warmup_epochs=0).encoder().state_dict()
    for share, expected in ((1e-7, plain), (1 - 1e-7, first)):
        run = pretrain(tmp_path / f"{share}", BY_NAME["simclr"], ema=share)
        state = run.read_checkpoint()
        assert state is not None
        for name, value in run.encoder().state_dict().items():
            assert torch.equal(state["method"][f"encoder.{name}"], plain[name])  # what is trained stays the same
            if value.is_floating_point():
                torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-4)


def test_the_learning_rate_is_scaled_once_and_follows_the_schedule(tmp_path: Path) -> None:
    run = pretrain(tmp_path / "a", BY_NAME["simclr"], optimizer="sgd", lr_scaling="linear")
    base = run.recipe.optimizer.options["lr"] * BATCH / 256
    state = run.read_checkpoint()
    assert state is not None
    total = state["total"]
    warmup = round(0.5 * total / EPOCHS)
    last = base * (1 + math.cos(math.pi * (total - 1 - warmup) / (total - warmup))) / 2
    recorded = [group["lr"] for group in state["optimizers"][""]["param_groups"]]
    assert recorded == pytest.approx([last] * len(recorded))
