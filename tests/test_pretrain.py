"""The verb pretrain: bad data, resuming, stopping, what is said, and every kind of data from Python."""

from __future__ import annotations

import errno
import json
import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from command import ONE, SMALL, file, folder, images, mistake, ok
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import unlabeled
from unlabeled import registry
from unlabeled.batch import Batch, DataShape, Loss, Progress
from unlabeled.encoders import Encoder
from unlabeled.files import alone
from unlabeled.methods.base import Method
from unlabeled.registry import Entry
from unlabeled.run import Run

LITTLE: dict[str, Any] = {
    "encoder": "resnet18", "batch_size": 16, "image_size": 8, "epochs": 1, "accelerator": "cpu",
    "options": {"encoder.width": 4},
}  # fmt: skip


def test_a_mistake_leaves_no_folder_behind(tmp_path: Path) -> None:
    """Though a bad file was met before it was seen: the same folder is then free for the right command."""
    data = folder(tmp_path / "data", n=40)
    next(data.rglob("*.png")).write_bytes(b"no picture")
    out, large = tmp_path / "run", [{"16": "64"}.get(word, word) for word in ONE]
    assert "larger than" in mistake("pretrain", data, "--out", out, *large)
    assert not out.exists()
    ok("pretrain", data, "--out", out, *ONE)
    assert (out / "skipped.csv").is_file()


def test_the_first_lines_and_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    said = ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--precision", "32", "--seed", "0", "--resume", "--out", out)
    assert "48 images of 8×8, 3 channels, views of 8 px; 12 of 60 images are held out" in said
    assert "the stem is one 3×3 convolution of stride 1, without max-pool; small stem at 8 px: " in said
    assert "lars, learning rate 0.075 = 0.3 for 256 samples, sqrt scaling to 16; 0.1 epochs of warm-up, then cosine" in said
    assert "3 steps of 16 in 1 epoch on 1 × cpu, precision 32-true" in said
    assert re.search(r"epoch 1: kNN [\d.]+% \(within the training split[^)]*\), rank of h", said)
    assert f"next: unlabeled evaluate {out}" in said
    assert {p.name for p in out.iterdir()} == {
        "recipe.yaml", "environment.json", "metrics.jsonl", "checkpoint.pt", "encoder.safetensors", "tensorboard",
    }  # fmt: skip
    assert any(p.name.startswith("events.out.tfevents") for p in (out / "tensorboard").rglob("*"))
    about = json.loads((out / "environment.json").read_text())
    assert about["data"]["train"] == 48
    assert about["data"]["held_out"]
    assert {"torch", "timm", "unlabeled"} <= about["versions"].keys()
    history = Run.open(out).history
    assert [line["step"] for line in history if "h_std" not in line] == [1, 3, 3, 3]
    assert [line["step"] for line in history if "h_std" in line] == [0, 1, 2, 3]


@pytest.mark.parametrize("method", ["simclr", "moco"])
def test_the_bound_of_the_mutual_information_is_logged(method: str, tmp_path: Path) -> None:
    """log(number of candidates) - loss: 2·16 - 1 in a batch of 16, the key and the queue in MoCo."""
    out, queue = tmp_path / "run", ("--method.queue", "32") if method == "moco" else ()
    ok("pretrain", file(tmp_path / "x.npz"), *ONE, "--precision", "32", "--method", method, *queue, "--out", out)
    lines = [line for line in Run.open(out).history if "mutual_information" in line]
    assert lines
    for line in lines:
        assert line["mutual_information"] == pytest.approx(
            math.log(31 if method == "simclr" else 33) - line["loss"], abs=1e-4
        )


def test_a_finished_run_is_left_alone(tmp_path: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "run"
    ok("pretrain", data, *ONE, "--out", out)
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    assert "add --resume" in mistake("pretrain", data, *ONE, "--out", out)
    assert "is finished: nothing is left to do" in ok("pretrain", data, *ONE, "--out", out, "--resume")
    assert "began with seed = 0, and cannot go on with 3" in mistake("pretrain", data, "--seed", 3, "--out", out, "--resume")
    assert "cannot go on with" in mistake("pretrain", data, "--method", "byol", "--out", out, "--resume")
    assert "began with paper = False" in mistake("pretrain", data, "--paper", "--out", out, "--resume")
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()} == before
    kept = out / "recipe.yaml"
    text = kept.read_text().replace("paper: false\n", "").replace("limit: 0\n", "")
    kept.write_text(text)  # as a version wrote it that did not know the words
    assert "began with limit = 0" in mistake("pretrain", data, *ONE, "--limit", "40", "--out", out, "--resume")
    assert "nothing is left to do" in ok("pretrain", data, *ONE, "--paper", "--out", out, "--resume")


def test_bad_images_are_skipped_counted_and_listed(tmp_path: Path) -> None:
    data, out = folder(tmp_path / "data"), tmp_path / "run"
    (data / "a" / "broken.png").write_bytes(b"no picture")
    (data / "b" / "empty.png").touch()
    said = ok("pretrain", data, *ONE, "--out", out)
    assert f"skipped 2 bad images: see {out / 'skipped.csv'}" in said
    rows = (out / "skipped.csv").read_text().splitlines()
    assert rows[0] == "split,path,reason"
    assert any("broken.png" in row and "not an image" in row for row in rows)
    assert any("empty.png" in row and "empty file" in row for row in rows)


def test_the_recipe_may_name_the_data(tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {file(tmp_path / 'x.npz')}\nepochs: 3\nmethod: {{name: byol, hidden: 8}}\n")
    ok("pretrain", *ONE, "--recipe", recipe, "--out", tmp_path / "a")
    run = Run(tmp_path / "a")
    assert (run.recipe.data, run.recipe.epochs, run.recipe.method.options["hidden"]) == (str(tmp_path / "x.npz"), 1, 8)
    ok("pretrain", file(tmp_path / "y.npz"), *ONE, "--recipe", recipe, "--out", tmp_path / "b")
    assert Run(tmp_path / "b").recipe.data == str(tmp_path / "y.npz")
    assert "no data given" in mistake("pretrain", *ONE, "--out", tmp_path / "c")


def test_data_that_cannot_be_used_leave_no_run(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "a.txt").write_text("dear")
    bad = folder(tmp_path / "bad")
    for i in range(10):
        (bad / "a" / f"bad{i}.png").touch()
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken.zip").write_bytes(b"PK")
    cases = [
        ("empty", "is empty"), ("letters", "no image"), ("none", "no such file"), ("broken.parquet", "broken.parquet"),
        ("broken.zip", "broken.zip"), ("bad", "10 of 70 images looked at are bad"),
    ]  # fmt: skip
    for name, said in cases:
        line = mistake("pretrain", tmp_path / name, *ONE, "--out", tmp_path / "run")
        assert said in line
        assert name in line
        assert not (tmp_path / "run").exists()


def test_supervised_trains_on_the_labelled_part_and_is_not_accused(tmp_path: Path) -> None:
    x, y = images(200, classes=2)
    y[60:] = -1
    with pytest.raises(unlabeled.UserError, match=r"larger than the \d\d images"):
        unlabeled.pretrain((x, y), method="supervised", out=tmp_path / "a", **{**LITTLE, "batch_size": 64})
    run = unlabeled.pretrain((x, y), method="supervised", out=tmp_path / "b", **LITTLE | {"epochs": 20})
    assert "z_rank" not in run.history[-1]
    assert "accuracy" in next(line for line in reversed(run.history) if "loss" in line)
    assert run.alarm == ""
    with pytest.raises(unlabeled.UserError, match="needs labels of at least 2 classes"):
        unlabeled.pretrain(x, method="supervised", out=tmp_path / "c", **LITTLE)
    assert not (tmp_path / "c").exists()


def test_unlabelled_images_have_rank_but_no_knn(tmp_path: Path) -> None:
    run = unlabeled.pretrain(images()[0], out=tmp_path / "run", **LITTLE)
    assert run.history[-2]["h_rank"] > 1
    assert "knn" not in run.history[-2]


@pytest.mark.parametrize("kind", ["array", "dataset", "dictionary"])
def test_data_of_python_and_a_second_call(tmp_path: Path, kind: str) -> None:
    x, y = images()
    tensors = torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y)
    data = {"array": (x, y), "dataset": TensorDataset(*tensors), "dictionary": {"x": x, "y": y}}[kind]
    for out in ("a", "b"):
        run = unlabeled.pretrain(data, out=tmp_path / out, **LITTLE)
    assert run.finished
    first, second = (unlabeled.load(tmp_path / out)(tensors[0]) for out in ("a", "b"))
    assert torch.equal(first, second)
    found = unlabeled.evaluate(run.path, data=data, labels=1, protocol="knn", draws=2, against="none")
    assert found.score("run", "1", "knn").draws == 2
    with pytest.raises(unlabeled.UserError, match="give them again as data="):
        unlabeled.evaluate(run.path)


def test_it_runs_in_a_thread(tmp_path: Path) -> None:
    made: list[Run] = []
    thread = threading.Thread(target=lambda: made.append(unlabeled.pretrain(images(), out=tmp_path / "run", **LITTLE)))
    thread.start()
    thread.join()
    assert made[0].finished


def test_no_warning_is_given(tmp_path: Path) -> None:
    program = (
        "import numpy as np, unlabeled\n"
        "x = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)\n"
        f"unlabeled.pretrain(x, out={str(tmp_path / 'run')!r}, batch_size=16, epochs=1, options={{'encoder.width': 4}})"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_loss_that_is_not_finite_is_said(tmp_path: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "run"
    said = mistake(
        "pretrain",
        data,
        *SMALL,
        "--epochs",
        30,
        "--optimizer",
        "sgd",
        "--optimizer.lr",
        "1e30",
        "--precision",
        32,
        "--out",
        out,
    )
    assert "the loss is" in said or "not finite" in said
    assert "a smaller --optimizer.lr" in said
    assert (out / "metrics.jsonl").is_file()


class Collapsing(Method):
    """Every embedding is pulled to one point."""

    n_views = 1

    def __init__(self, encoder: Encoder, shape: DataShape) -> None:
        super().__init__(encoder, shape)
        self.head = nn.Linear(encoder.dim, 8)

    def forward(self, batch: Batch, at: Progress) -> Loss:
        """Mean squared distance to that point."""
        z = self.head(self.encoder(batch.views[0]))
        return Loss(F.mse_loss(z, torch.full_like(z, 10.0)), memory={"z": z.detach()})


@pytest.fixture
def collapsing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    files = {**registry._files("methods"), "collapsing": __name__}
    monkeypatch.setattr(registry, "_files", lambda kind: files if kind == "methods" else REAL_FILES(kind))
    monkeypatch.setitem(registry._registered, ("methods", "collapsing"), Entry("methods", "collapsing", Collapsing))
    yield


REAL_FILES = registry._files


@pytest.mark.usefixtures("collapsing")
def test_a_collapse_is_said_once_and_a_healthy_run_is_not_accused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Healthy runs of each method are in contract/test_alarms.py, without looks at kNN."""
    more = {"optimizer": "adamw", "lr_scaling": "none", "views": "none", "epochs": 20, "monitor_every": 0}
    options = {"encoder.width": 4, "optimizer.lr": 0.1}
    unlabeled.pretrain(images(), method="collapsing", out=tmp_path / "a", **LITTLE | more | {"options": options})
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("warning after step") in (1, 2)
    assert "complete collapse: all images get nearly the same embedding" in said
    options = {"encoder.width": 4, "method.hidden": 64}
    unlabeled.pretrain(images(), method="byol", out=tmp_path / "b", **LITTLE | {"epochs": 10, "options": options})
    assert "warning" not in capsys.readouterr().out


def started(data: Path, out: Path, *more: object) -> subprocess.Popen[str]:
    """A pretraining of 180 steps in a process of its own, some steps on."""
    command = Path(sys.executable).with_name("unlabeled")
    words = ["pretrain", data, *SMALL, "--epochs", 60, "--monitor-every", 0, "--out", out, *more]
    lines = len(Run(out).history)
    process = subprocess.Popen([str(command), *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while len(Run(out).history) < lines + 5 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    return process


def test_a_run_that_is_stopped_then_killed_goes_on_without_a_gap(tmp_path: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "run"
    process = started(data, out)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    found = re.search(r"stopped and saved after step (\d+) of 180; to go on: (unlabeled pretrain .* --resume)", said)
    assert found, said
    step, command = int(found[1]), found[2].split()[1:]
    assert 5 < step < 180
    assert not Run(out).finished
    assert unlabeled.load(out)(torch.zeros(1, 3, 8, 8)).shape == (1, 32)

    file(data, seed=1)
    assert "has changed since" in mistake(*command)
    file(data)
    process = started(data, out, "--resume")
    process.kill()
    process.communicate()
    with (out / "metrics.jsonl").open("a") as log:
        log.write('{"step": 9')
    assert max(line["step"] for line in Run(out).history) > step

    assert f"resumed after step {step}" in ok(*command)
    assert Run(out).finished
    assert [line["step"] for line in Run(out).history if "loss" in line] == [1, *range(3, 181, 3)]


def test_one_folder_is_of_one_training(tmp_path: Path) -> None:
    """Two at once mixed their metrics, and both ended well."""
    file(tmp_path / "x.npz", n=48)
    words = ["pretrain", tmp_path / "x.npz", *ONE, "--out", tmp_path / "run"]
    with alone(tmp_path / "run"):
        said = mistake(*words)
        assert "belongs to a training that is under way: wait for its end, or give another --out" in said
    assert not (tmp_path / "run").exists()
    ok(*words)
    with alone(tmp_path / "run"):
        assert "under way" in mistake(*words, "--resume")


def test_a_mistake_leaves_no_folder_on_the_way(tmp_path: Path) -> None:
    file(tmp_path / "x.npz", n=48)
    mistake("pretrain", tmp_path / "x.npz", *ONE, "--method", "nonsense", "--out", tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["x.npz"]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (
            {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"},
            "--devices 3, and the launcher made 2 processes: leave",
        ),
        ({"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, "4 processes on several machines, 2 on this one"),
    ],
)
def test_the_launcher_decides_how_many_processes(
    made: dict[str, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file(tmp_path / "x.npz", n=48)
    for name, value in {**made, "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert said in mistake("pretrain", tmp_path / "x.npz", *ONE, "--devices", 3, "--out", tmp_path / "run")


def test_a_world_without_a_rank_is_no_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file(tmp_path / "x.npz", n=48)
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "on 1 × cpu" in ok("pretrain", tmp_path / "x.npz", *ONE, "--out", tmp_path / "run")


def test_a_file_system_without_locks_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with alone(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


def test_a_log_file_is_told_loss_and_time_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("pretrain", file(tmp_path / "x.npz"), *ONE, "--monitor-every", 0)
    assert "left" not in ok(*words, "--out", tmp_path / "quick"), "it took less than a minute"
    monkeypatch.setattr("unlabeled.console.SAID_EVERY", 0)
    said = ok(*words, "--out", tmp_path / "run")
    assert re.findall(r"step (\d) of 3, epoch \d\.\d of 1: loss \d+\.\d{3}, \d:\d\d:\d\d left", said) == ["1", "2"]
