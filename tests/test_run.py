"""A run's folder: damage, a full disk, its history; and files that appear whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import ONE, SMALL, file, images, mistake, ok, unlabeled

from unlabeled.encoders.files import save_encoder
from unlabeled.errors import UserError
from unlabeled.files import write_whole
from unlabeled.registry import Choice
from unlabeled.run import Run, load


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run of one epoch."""
    path = tmp_path_factory.mktemp("made")
    ok("pretrain", file(path / "x.npz"), *ONE, "--out", path / "run")
    return path


def copied(made: Path, tmp_path: Path) -> Path:
    for original in (made / "run").iterdir():
        if original.is_file():
            (tmp_path / original.name).write_bytes(original.read_bytes())
    return tmp_path


@pytest.mark.parametrize("length", [0, 7, 2000])
@pytest.mark.parametrize("name", ["encoder.safetensors", "checkpoint.pt", "recipe.yaml", "environment.json"])
def test_damage_is_one_line(made: Path, tmp_path: Path, name: str, length: int) -> None:
    run = copied(made, tmp_path)
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[:length] if length < len(whole) else whole[: len(whole) // 2] + b"\xff\x00{")
    if name == "encoder.safetensors":
        assert "is missing or damaged" in mistake("evaluate", run, "--data", made / "x.npz")
    elif name == "checkpoint.pt":
        assert "is missing or damaged" in mistake("pretrain", made / "x.npz", "--out", run, "--resume")
    elif name == "recipe.yaml" and length != 7:
        assert "recipe" in mistake("evaluate", run)
    else:
        assert unlabeled("pretrain", made / "x.npz", "--out", run, "--resume").code in (0, 2)


def test_an_encoder_that_is_not_there_or_not_ours(made: Path, tmp_path: Path) -> None:
    run = copied(made, tmp_path)
    choice = Choice("resnet18", {"width": 6})  # as if another version had built another network by this name
    save_encoder(run / "encoder.safetensors", load(run), choice)
    with pytest.raises(UserError, match="weights of another network"):
        load(run)
    (run / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match="finish it with"):
        load(run)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, run / "encoder.safetensors")
    with pytest.raises(UserError, match="is missing or damaged"):
        load(run)
    with pytest.raises(UserError, match="holds no run"):
        load(tmp_path / "nowhere")


def test_a_full_disk_is_one_line_and_leaves_no_half_file(tmp_path: Path) -> None:
    data = file(tmp_path / "x.npz")
    program = (
        "import resource, sys; from unlabeled.cli import main\n"
        "import unlabeled.training.train\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))\n"
        f"main({['pretrain', str(data), *ONE, '--out', str(tmp_path / 'run')]!r})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "cannot be written" in done.stderr
    left = {p.name for p in (tmp_path / "run").iterdir()}
    assert left <= {"recipe.yaml", "environment.json", "metrics.jsonl", "tensorboard"}


def test_history_forgets_a_line_that_was_cut_off(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.history == []
    run.log({"step": 1, "loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as log:
        log.write('{"step": 2, "lo')
    assert run.history == [{"step": 1, "loss": 0.5}]
    run.keep_history(1)
    run.log({"step": 2})
    assert [line["step"] for line in run.history] == [1, 2]


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail(to: Path) -> None:
        to.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_whole(path, fail)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old"}
    write_whole(path, lambda p: p.write_text("new"))
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "new"}


def test_uint8_and_float_images_of_any_size_give_the_same_features(made: Path) -> None:
    encoder = load(made / "run")
    assert not encoder.training
    for side in (8, 16, 5):
        x = torch.randint(0, 256, (4, 3, side, side), dtype=torch.uint8)
        assert encoder(x).shape == (4, 32)
        torch.testing.assert_close(encoder(x), encoder(x.double() / 255))
    with pytest.raises(UserError, match=r"images of shape \(B, 3, H, W\), and got \(4, 1, 8, 8\)"):
        encoder(torch.zeros(4, 1, 8, 8))


def test_a_run_that_was_stopped_says_how_far_it_came(tmp_path: Path) -> None:
    """By every verb that uses what it learned, and no more once it is finished."""
    file(tmp_path / "x.npz", n=60)
    words = ["pretrain", tmp_path / "x.npz", *SMALL, "--epochs", "2", "--out", tmp_path / "run"]
    ok(*words)
    run = Run.open(tmp_path / "run")
    assert not run.unfinished
    state = run.read_checkpoint()
    assert state is not None
    assert state["total"] == state["step"]
    run.write_checkpoint({**state, "step": 2, "total": 40, "finished": False})
    command = {"command": ["unlabeled", "pretrain", "x.npz", "--out", "run"]}
    run.write_text("environment.json", json.dumps(run.environment | command))
    stopped = f"the run '{tmp_path / 'run'}' is not finished: it was stopped at step 2 of 40 (5%)"
    said = f"{stopped}; to go on: unlabeled pretrain x.npz --out run"
    for verb in (
        ("evaluate", tmp_path / "run", "--protocol", "knn:100%", "--against", "none"),
        ("embed", tmp_path / "run", tmp_path / "x.npz", "--out", tmp_path / "e.npz"),
        ("export", tmp_path / "run", "--format", "safetensors", "--out", tmp_path / "made.safetensors"),
        ("search", tmp_path / "run", 0, "--out", tmp_path / "found.png"),
    ):
        assert f"{said} --resume".lower() in ok(*verb).lower(), verb
    answer = json.loads((tmp_path / "run" / "evaluation.json").read_text())["answer"]
    assert answer[0] == f"T{said[1:]} --resume"
    ok("report", tmp_path / "run", "--out", tmp_path / "page.html")
    assert "it was stopped at step 2 of 40 (5%)" in (tmp_path / "page.html").read_text()
    run.write_checkpoint(state)
    assert "not finished" not in ok("embed", tmp_path / "run", tmp_path / "x.npz", "--out", tmp_path / "e.npz")


@pytest.mark.parametrize("name", ["encoder.safetensors", "checkpoint.pt", "classifier.safetensors"])
def test_one_flipped_bit_is_found(name: str, tmp_path: Path) -> None:
    """Nine of ten were taken for good, some with features off by thousands."""
    file(tmp_path / "x.npz", n=48)
    ok("pretrain", tmp_path / "x.npz", *ONE, "--method", "supervised", "--out", tmp_path / "run")
    run = Run.open(tmp_path / "run")
    readers: list[Callable[[], Any]] = [run.encoder, run.read_checkpoint, run.classifier]
    read = dict(zip(("encoder.safetensors", "checkpoint.pt", "classifier.safetensors"), readers, strict=True))
    whole = (run.path / name).read_bytes()
    start = whole.index(b"}", 8) if name != "checkpoint.pt" else 0
    for share in (0.3, 0.5, 0.7, 0.9):
        bits = bytearray(whole)
        bits[start + int(share * (len(whole) - start))] ^= 64
        (run.path / name).write_bytes(bits)
        with pytest.raises(UserError, match="is missing or damaged"):
            read[name]()
    (run.path / name).write_bytes(whole)
    assert read[name]() is not None


def test_other_labels_are_not_gone_on_with(tmp_path: Path) -> None:
    x, y = images(48)
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    words = ["pretrain", tmp_path / "x.npz", *SMALL, "--epochs", "3", "--out", tmp_path / "run"]
    ok(*words)
    run = Run.open(tmp_path / "run")
    run.write_checkpoint({**(run.read_checkpoint() or {}), "finished": False})
    np.savez(tmp_path / "x.npz", x_train=x, y_train=np.roll(y, 1), x_test=x[:9], y_test=y[:9])
    assert "the labels of " in mistake(*words, "--resume")
    np.savez(tmp_path / "x.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    ok(*words, "--resume")
