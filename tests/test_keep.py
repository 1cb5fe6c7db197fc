"""Which epoch a run gives: that of the best look, by what is measured; through stops, kills and two processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import file, images, mistake, ok, unlabeled
from safetensors.torch import load_file

from unlabeled import files
from unlabeled.comparing.history import History
from unlabeled.comparing.remarks import remarks
from unlabeled.data import open_data
from unlabeled.evaluating.subjects import whole
from unlabeled.recipe import compose
from unlabeled.run import Run, load
from unlabeled.training import monitor
from unlabeled.training.keep import keeps_best
from unlabeled.training.monitor import looked_at

WORDS = ("--encoder", "resnet9", "--encoder.width", 2, "--batch-size", 16, "--image-size", 8, "--accelerator", "cpu",
         "--precision", 32, "--speed", "workers=1", "--monitor-every", 1)  # fmt: skip


def seen(values: Sequence[float], patch: pytest.MonkeyPatch, by: str = "knn") -> None:
    """Has the monitor see these values after the epochs of a run, whatever they are."""

    def measured(self: Any, encoder: Any, at: Any) -> dict[str, float]:
        return {"h_rank": 1.0, by: values[at.epoch]}

    patch.setattr(monitor.Monitor, "_measure", measured)


def pretrain(out: Path, *more: object, epochs: int = 4, labels: bool = True) -> str:
    data = out.parent / "x.npz"
    if not data.is_file():
        file(data, n=46, labels=labels)
    return ok("pretrain", data, *WORDS, "--epochs", epochs, "--out", out, *more)


def same(one: Path, other: Path) -> bool:
    """Whether two files hold the same weights."""
    ours, theirs = load_file(one), load_file(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("more", [(), ("--ema", 0.5)], ids=["plain", "average"])
@pytest.mark.parametrize("method", ["simclr", "moco-v2"])
def test_the_encoder_is_that_of_the_best_epoch(
    method: str, more: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen([0.5, 0.75, 0.75, 0.625], monkeypatch)  # of equal ones the later
    queue = ("--method.queue", 32) if method != "simclr" else ()
    said = pretrain(tmp_path / "a", "--method", method, *queue, *more, "--keep", "best", "--keep-every", 1)
    assert "best at epoch 3 of 4 (kNN 75.0%), last 62.5%: encoder.safetensors is of epoch 3" in said
    run = Run.open(tmp_path / "a")
    files_of = {name: run.path / name for name in ("encoder.safetensors", "last.safetensors")}
    assert same(files_of["encoder.safetensors"], run.path / "epochs" / "3.safetensors")
    assert same(files_of["last.safetensors"], run.path / "epochs" / "4.safetensors")
    assert not same(*files_of.values())
    assert run.kept is not None
    assert (run.kept.epoch, run.kept.trained, run.kept.epochs) == (3, 4, 4)
    assert run.history[-1]["kept_epoch"] == 3
    pretrain(tmp_path / "b", "--method", method, *queue, *more, "--keep", "last", epochs=4)
    assert same(files_of["last.safetensors"], tmp_path / "b" / "encoder.safetensors"), "training itself is not changed"
    state = run.read_checkpoint()
    assert state is not None
    assert not all(torch.equal(state["method"][k], v) for k, v in state["kept"]["weights"]["method"].items())
    method_of_best = whole(run, run.encoder(), open_data(str(tmp_path / "x.npz"), kind=run.recipe.kind, seed=0).train)
    held = state["kept"]["weights"]["method"]
    assert all(torch.equal(value, held[name]) for name, value in method_of_best.state_dict().items())


def test_the_last_is_kept_on_request_and_the_best_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen([0.75, 0.5], monkeypatch)
    said = pretrain(tmp_path / "a", "--keep", "last", epochs=2)
    assert "best at epoch 1 of 2 (kNN 75.0%), last 50.0%" in said
    assert "encoder.safetensors is" not in said
    run = Run.open(tmp_path / "a")
    assert run.kept is not None and run.kept.epoch == 2 and not run.kept.said
    assert not (run.path / "last.safetensors").exists()
    seen([0.5, 0.75], monkeypatch)
    assert "best at epoch 2 of 2 (kNN 75.0%), the last" in pretrain(tmp_path / "b", "--keep", "best", epochs=2)
    state = Run.open(tmp_path / "b").read_checkpoint()
    assert state is not None and not state["kept"]["weights"], "held twice where the last is the best"


def test_without_labels_the_best_is_that_of_the_highest_rank(tmp_path: Path) -> None:
    said = pretrain(tmp_path / "a", "--keep", "best", labels=False, epochs=3)
    run = Run.open(tmp_path / "a")
    ranks = {line["epoch"]: line["h_rank"] for line in run.history if "h_rank" in line}
    assert len(ranks) == 3
    best = max(ranks, key=lambda epoch: (ranks[epoch], epoch))
    assert f"best at epoch {best} of 3 (rank of h {ranks[best]:.1f})" in said
    assert run.kept is not None and run.kept.epoch == best


def test_what_is_kept_unasked(tmp_path: Path) -> None:
    """The best where there are labels enough to tell, and the method learns from none."""

    def best(n: int, labels: bool = True, **given: Any) -> bool:
        x, y = images(n)
        source = open_data((x, y) if labels else x, seed=None).train
        return keeps_best(compose(given), source)

    assert best(500) and best(600, labels=False, keep="best")
    assert not best(499) and not best(600, labels=False) and not best(600, keep="last")
    assert not best(600, method="supervised") and not best(600, monitor_every=0)


def test_no_class_that_is_held_out_is_looked_at() -> None:
    x, y = images(400, classes=5)
    source = open_data((x, y), seed=None).train
    every, held = (looked_at(compose({"hold_out_classes": n, "seed": 3}), source) for n in (0, 2))
    assert len(set(y[every[0]])) == 5 and every[1] == 80
    assert len(set(y[held[0]])) == 3 and held[1] == 48


def test_mistakes(tmp_path: Path) -> None:
    data = file(tmp_path / "x.npz")
    words = ("pretrain", data, *WORDS, "--out", tmp_path / "run")
    assert "no epoch is looked at" in mistake(*words[:-4], *words[-2:], "--keep", "best", "--monitor-every", 0)
    assert "no epoch is looked at" in mistake(*words[:-4], *words[-2:], "--patience", 2, "--monitor-every", 0)
    assert "learns from labels" in mistake(*words, "--method", "supervised", "--patience", 2)
    assert "keep" in mistake(*words, "--keep", "first")
    assert "patience is -1" in mistake(*words, "--patience", -1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stop", [0, 4, 10, 16, 17, 18])
def test_a_run_that_is_killed_while_it_writes_keeps_the_same(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps an epoch, two files a step: killed at the first, within an epoch, after the best look, and at each file of
    the end."""
    seen([0.5, 0.75, 0.25, 0.625], monkeypatch)
    pretrain(tmp_path / "whole", "--keep", "best", "--keep-every", 2)
    with monkeypatch.context() as patch:
        killed(stop, patch)
        assert unlabeled("pretrain", tmp_path / "x.npz", *WORDS, "--epochs", 4, "--keep", "best", "--keep-every", 2,
                         "--out", tmp_path / "a").code == 2  # fmt: skip
    pretrain(tmp_path / "a", "--keep", "best", "--keep-every", 2, "--resume")
    alike(tmp_path / "a", tmp_path / "whole")


def killed(writes: int, patch: pytest.MonkeyPatch) -> None:
    """Has a run end at its so many-th file, as if it were killed while it writes it; it saves after each step."""
    patch.setattr("unlabeled.training.train.SAVE_EVERY", -1.0)
    write, count = files.write_whole, []

    def failing(path: Path, fill: Any) -> Path:
        count.append(path)
        if len(count) > 3 + writes:
            raise files.cannot_write(path, OSError("killed"))
        return write(path, fill)

    patch.setattr("unlabeled.run.write_whole", failing)


def alike(one: Path, other: Path) -> None:
    for name in ("encoder.safetensors", "last.safetensors", "epochs/2.safetensors", "epochs/4.safetensors"):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name
    ours, theirs = (torch.load(path / "checkpoint.pt", weights_only=True)["kept"] for path in (one, other))
    weights = [kept.pop("weights")["method"] for kept in (ours, theirs)]
    assert ours == theirs
    assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())


def test_patience_ends_a_run_early_and_more_of_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen([0.5, 0.75, 0.625, 0.7, 0.7, 0.8], monkeypatch)
    words = ("--keep", "best", "--keep-every", 2)
    said = pretrain(tmp_path / "a", *words, "--patience", 2, epochs=6)
    early = "ended early after epoch 4 of 6: no better look in 2 epochs (--patience)"
    assert early in said and "best at epoch 2 of 6 (kNN 75.0%), last 70.0%" in said
    run = Run.open(tmp_path / "a")
    assert run.finished and not run.unfinished
    assert run.history[-1]["epoch"] == 4
    assert run.kept is not None and run.kept.said == f"{early}; the encoder is that of epoch 2: {run.kept.looks}"
    before = (run.path / "checkpoint.pt").read_bytes()
    for words_again in ((), ("--patience", 1), ("--patience", 2)):
        assert "is finished (ended early" in pretrain(tmp_path / "a", *words, *words_again, "--resume", epochs=6)
        assert (run.path / "checkpoint.pt").read_bytes() == before
    said = pretrain(tmp_path / "a", *words, "--patience", 0, "--resume", epochs=6)
    assert "resumed after step 8" in said and "best at epoch 6 of 6 (kNN 80.0%), the last" in said
    pretrain(tmp_path / "whole", *words, epochs=6)
    for name in ("encoder.safetensors", "epochs/4.safetensors", "epochs/6.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "a" / "last.safetensors").exists()
    assert Run.open(tmp_path / "a").recipe.patience == 0


def test_patience_counts_epochs_from_the_first_of_equal_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen([0.5, 1.0, 1.0, 1.0, 1.0, 1.0], monkeypatch)
    said = pretrain(tmp_path / "a", "--keep", "best", "--patience", 2, epochs=6)
    assert "ended early after epoch 4 of 6" in said and "best at epoch 4 of 6 (kNN 100.0%), the last" in said


TRANSFORMER = ("--encoder", "vit_tiny_patch16_224", "--encoder.embed-dim", 8, "--encoder.depth", 1, "--encoder.num-heads", 2)


def test_two_processes_end_early_together(tmp_path: Path) -> None:
    """At such a learning rate a network without batch norm stays as it is, and no look is better than the first."""
    words = [sys.executable, "-m", "unlabeled", "pretrain", file(tmp_path / "x.npz", n=46), *WORDS[4:], *TRANSFORMER,
             "--optimizer", "sgd", "--optimizer.lr", 1e-30, "--epochs", 4, "--patience", 1, "--keep", "best", "--devices", 2,
             "--out", tmp_path / "run"]  # fmt: skip
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert said.count("ended early after epoch 2 of 4") == 1
    run = Run.open(tmp_path / "run")
    assert run.finished and run.kept is not None and run.kept.epoch == 2


MAE = ("--method.width", 8, "--method.depth", 1, "--method.heads", 2, "--views.masked", 0.5)


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("dino", ("--method.prototypes", 8, "--method.hidden", 8, "--method.bottleneck", 4)),
        ("mae", (*TRANSFORMER[2:], *MAE)),
    ],
    ids=["dino", "mae"],
)
def test_other_kinds_of_methods(
    method: str, more: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen([0.5, 0.75, 0.25], monkeypatch)
    network = ("--encoder.width", 4, *WORDS[4:]) if method == "dino" else WORDS[4:]
    data = file(tmp_path / "x.npz", n=46)
    ok("pretrain", data, *network, "--method", method, *more, "--epochs", 3, "--keep", "best", "--keep-every", 1,
       "--out", tmp_path / "a")  # fmt: skip
    assert same(tmp_path / "a" / "encoder.safetensors", tmp_path / "a" / "epochs" / "2.safetensors")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that gives the encoder of its first epoch, in `a`, and data."""
    with monkeypatch.context() as patch:
        seen([0.75, 0.5], patch)
        pretrain(tmp_path / "a", "--keep", "best", "--whiten", epochs=2)
    return tmp_path


SAID = "the encoder is that of epoch 1: best at epoch 1 of 2 (kNN 75.0%), last 50.0%"


def test_every_verb_uses_and_says_the_epoch_that_is_kept(made: Path) -> None:
    run, data = made / "a", made / "x.npz"
    assert SAID in ok("embed", run, data, "--out", made / "z.npz")
    x = torch.from_numpy(np.load(data)["x"]).permute(0, 3, 1, 2)
    with np.load(made / "z.npz") as z:
        torch.testing.assert_close(load(run)(x), torch.from_numpy(z["embedding"]), rtol=1e-3, atol=1e-3)
    assert SAID in ok("export", run, "--format", "safetensors")
    assert f"T{SAID[1:]}." in (run / "export" / "encoder.safetensors.md").read_text()
    assert f"T{SAID[1:]}" in ok("evaluate", run, "--protocol", "knn", "--against", "none")
    assert json.loads((run / "evaluation.json").read_text())["kept"] == SAID
    ok("report", run, "--out", made / "report.html")
    assert "of epoch 1; best at epoch 1 of 2 (kNN 75.0%), last 50.0%" in (made / "report.html").read_text()
    history = History(Run.open(run))
    assert "the best is kept" in history.said()
    rows = [{"name": "a", "kind": "method", "figures": {}, **history.json()}]
    assert remarks(rows) == ["Judged with the encoder of the best epoch, not of the last: a 1 of 2."]


def test_runs_of_earlier_versions_say_nothing(made: Path) -> None:
    run = Run.open(made / "a")
    run.write_encoder(run.encoder())
    state = run.read_checkpoint()
    assert state is not None
    del state["kept"]
    run.write_checkpoint(state)
    old = Run.open(made / "a")
    assert old.kept is None and old.remarks == []
    assert "is finished: nothing" in pretrain(made / "a", "--resume", "--keep", "best", "--whiten", epochs=2)
    recipe = run.path / "recipe.yaml"
    recipe.write_text(
        "".join(line for line in recipe.read_text().splitlines(True) if not line.startswith(("keep", "patience")))
    )
    run.write_checkpoint({**state, "step": 4, "finished": False})
    said = pretrain(made / "a", "--resume", "--whiten", epochs=2)
    assert "best at epoch 1 of 2 (kNN 75.0%), last 50.0%" in said, "by what its metrics say"
    kept = Run.open(made / "a").kept
    assert kept is not None and kept.epoch == 2, "as it would have been when it began"
