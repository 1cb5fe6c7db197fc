"""The verb compare: real processes; one story of a table that is stopped, goes on, grows and keeps what it has."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import ABOUT, SMALL, file, mistake, ok, unlabeled

from unlabeled.comparing.board import Board, Row
from unlabeled.comparing.child import Child, ChildError
from unlabeled.comparing.forks import ForkServer
from unlabeled.comparing.history import History
from unlabeled.comparing.remarks import off_budget, remarks
from unlabeled.data import open_data
from unlabeled.files import lock
from unlabeled.probes.paired import packed
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.run import Run
from unlabeled.training.setup import resolved

COMMON = (*SMALL, "--encoder", "resnet10t", "--precision", "32")
COLUMNS = ("kNN 1%", "fine-tuned 1%", "kNN 100%", "linear top-1", "linear top-5", "s/epoch", "samples/s", "peak memory, MiB")


def times(out: Path) -> dict[str, int]:
    """When each row's file was written."""
    return {p.name: p.stat().st_mtime_ns for p in out.glob("*.json") if p.name not in ("table.json", "question.json")}


def until(there: Any) -> None:
    limit = time.monotonic() + 300
    while not there() and time.monotonic() < limit:
        time.sleep(0.02)
    assert there()


def test_a_table_is_stopped_goes_on_and_grows(tmp_path: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "out"
    common = ("compare", data, *COMMON, "--epochs", 20, "--out", out)
    command = (*common, "--method", "simclr:temperature=0.2")
    process = subprocess.Popen([sys.executable, "-m", "unlabeled", *map(str, command)], stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: len(Run(out / "rows" / "simclr-temperature=0.2").history) > 5)
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "stopped with 1 of 4 rows done; to go on:" in said
    assert not Run(out / "rows" / "simclr-temperature=0.2").finished
    before = times(out)
    assert set(before) == {"random.json"}

    said = ok(*command)
    assert "resumed after step" in (out / "rows" / "simclr-temperature=0.2.log").read_text()
    assert "supervised 1%: batches of 3 images" in said
    table = json.loads((out / "table.json").read_text())
    rows = {row["name"]: row for row in table["rows"]}
    assert list(rows) == ["random", "simclr:temperature=0.2", "supervised 1%", "supervised 100%"]
    assert times(out)["random.json"] == before["random.json"]
    text = (out / "table.md").read_text()
    head = [cell.strip() for cell in text.splitlines()[2].split("|")]
    assert set(COLUMNS) <= set(head)
    assert len(re.findall(r"^\| (?!---|row)", text, re.MULTILINE)) == 4
    for bold in re.findall(r"^\| supervised.*$", text, re.MULTILINE):
        assert "**" not in bold
    assert "`random`" in text
    assert (out / "curves.svg").read_text().count("<svg") == 1
    row = rows["simclr:temperature=0.2"]
    assert row["recipe"]["method"]["temperature"] == 0.2
    assert row["recipe"]["encoder"] == rows["random"]["recipe"]["encoder"] == {"name": "resnet10t", "width": 4}
    assert [len(row["figures"][name]) for name in ("knn_few", "finetuned_few", "knn", "linear")] == [5, 1, 1, 1]
    assert 10 <= len(row["curve"]) <= 20
    assert row["curve"] == sorted(row["curve"])
    assert row["minutes"] == pytest.approx(row["curve"][-1][0])
    assert row["seconds_per_epoch"] == pytest.approx(60 * row["minutes"] / row["epochs"])
    assert 50 < row["peak_memory_mib"] < 5000
    assert row["environment"]["data"]["train"] == 48
    assert rows["supervised 1%"]["recipe"]["labels"] == "1%"
    assert rows["random"]["images_per_s"] is None

    shutil.rmtree(out / "rows")
    for path in (out / "question.json", out / "simclr-temperature=0.2.json"):  # as if begun before there was this option
        said = json.loads(path.read_text())
        assert said.get("asked", said).pop("whiten") is False
        path.write_text(json.dumps(said))
    before = times(out)
    ok(*command)
    assert times(out) == before
    assert "whiten = False, and this asks for True" in mistake(*command, "--recipe", _whitened(tmp_path))

    bad = tmp_path / "bad.yaml"
    bad.write_text(
        "method: simclr\nencoder: {name: resnet10t, width: 4}\nbatch_size: 16\noptimizer: {name: sgd, lr: 1.0e+30}\n"
    )
    run = tmp_path / "mine"
    ok("pretrain", data, *COMMON, "--method", "moco", "--method.queue", 32, "--epochs", 20, "--out", run)
    result = unlabeled(*common, "--method", run, "--method", bad)
    assert result.code == 1
    assert "bad failed:" in " ".join(result.out.split())
    assert times(out).items() >= before.items()
    rows = {row["name"]: row for row in json.loads((out / "table.json").read_text())["rows"]}
    assert set(rows) == {"random", "mine", "bad", "simclr:temperature=0.2", "supervised 1%", "supervised 100%"}
    assert "smaller --optimizer.lr" in rows["bad"]["failed"]
    assert rows["mine"]["figures"]["knn"]
    assert "| bad | – |" in (out / "table.md").read_text()

    bad.write_text(bad.read_text().replace("1.0e+30", "0.01"))
    ok(*common, "--method", run, "--method", bad)
    assert json.loads((out / "bad.json").read_text())["figures"]["knn"]

    asked = {
        ("--epochs", 2): "budget = epochs 20, and this asks for epochs 2",
        ("--batch-size", 8): "batch size = 16, and this asks for 8",
        ("--precision", "bf16"): "precision = 32, and this asks for bf16",
        ("--encoder.width", 6): "encoder = name resnet10t, width 4, and this asks for name resnet10t, width 6",
    }
    for (option, value), answer in asked.items():
        words = [str(word) for word in (*common, "--method", "simclr")]
        words[words.index(option) + 1] = str(value)
        assert answer in mistake(*words)
    with np.load(data) as was:
        corrected = {**was, "y": was["y"][::-1]}
    np.savez(data, **corrected)
    assert "with data =" in mistake(*command)
    file(data, seed=1)
    assert "with data =" in mistake(*command)
    assert times(out).items() >= before.items()


def _whitened(path: Path) -> Path:
    (path / "whiten.yaml").write_text("whiten: true\n")
    return path / "whiten.yaml"


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    data, out = file(tmp_path / "x.npz"), tmp_path / "out"
    one, other = tmp_path / "one.yaml", tmp_path / "other.yaml"
    one.write_text("method: simclr\nbatch_size: 16\n")
    other.write_text("method: byol\nbatch_size: 8\n")
    base = tmp_path / "base.yaml"
    base.write_text("method: byol\n")
    bare = file(tmp_path / "bare.npz", labels=False)
    cases = [
        ((data, "--method", "simlr"), "did you mean 'simclr'?"),
        ((data, "--method", "moco:quue=3"), "did you mean 'queue'?"),
        ((data, "--method", "moco:queue"), "NAME:OPTION=VALUE"),
        ((data, "--method", "moco", "--recipe", "nowhere.yaml"), "cannot be read"),
        ((data, "--method", "nowhere.yaml"), "cannot be read"),
        ((data, "--method", "moco", "--recipe", base), "each has its own"),
        ((data, "--method", "moco", "--method.queue", "8"), "each has its own"),
        ((data, "--method", "moco", "--epochs", 1, "--minutes", 1), "two budgets"),
        ((data, "--method", "moco", "--minutes", 0), "must be above 0"),
        ((data, "--method", one, "--method", other), "has batch_size = 8, and the others have 16"),
        ((data, "--method", "simclr", "--method", "simclr"), "two rows would be called 'simclr'"),
        ((data, "--method", "moco", "--batch-size", "64"), "larger than the 48 images"),
        ((bare, "--method", "moco"), "has no labels"),
        (("--method", "moco"), "no data given"),
    ]
    for words, said in cases:
        batch = () if {"--batch-size", one} & set(words) else ("--batch-size", 16)
        more = ("--encoder", "resnet10t", "--encoder.width", "4", "--image-size", "8", "--accelerator", "cpu")
        assert said in mistake("compare", *words, *more, *batch, "--out", out)
        assert not out.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    assert "holds other things" in mistake("compare", data, "--method", "moco", *COMMON, "--out", tmp_path / "full")


def test_minutes_become_epochs(tmp_path: Path) -> None:
    """A trial measures the method's own steps; the epochs are as many as fit, and stay the same when it goes on."""
    data, out = file(tmp_path / "x.npz"), tmp_path / "out"
    layer = {"encoder": {"name": "resnet10t", "width": 4}, "batch_size": 16, "data": str(data)}
    opened, published = open_data(str(data), kind=Choice("", {"size": 8})), []
    row = Row("a", resolved(compose(layer, {"method": {"name": "moco", "queue": 32}, "kind.size": 8}), opened.train))
    board = Board(out, {}, lambda run, tell: {"figures": {}}, published.append, minutes=0.02, accelerator="cpu")
    board.claim([row], opened.train)
    assert board.fill([row])
    made = Run(out / "rows" / "a").recipe
    trial = made.about
    assert trial["minutes"] == 0.02
    left = 0.02 * 60 - trial["first_s"] + trial["prepare_s"]
    assert made.epochs == max(1, round(left / (3 * trial["step_s"] + trial["prepare_s"])))
    assert published[-1][0]["epochs"] == made.epochs
    again = Board(out, {}, lambda run, tell: {"figures": {}}, published.append, minutes=0.02, accelerator="cpu")
    again.claim([row], opened.train)  # the row that is there is the one that is asked for
    assert board.asked(made) == board.asked(row.recipe)
    assert published[-1][0]["minutes"] == pytest.approx(0.02, rel=0.9)


def test_minutes_are_of_training_and_the_first_speed_does_not_count(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.start(compose({"batch_size": 60, "epochs": 2}), ABOUT)
    speeds = {1: 1.0, 10: 60.0, 20: 30.0, 30: 60.0}
    for step, speed in speeds.items():
        run.log({"step": step, "epoch": step / 15, "images_per_s": speed})
        if step == 20:
            run.log({"step": 15, "epoch": 1, "knn": 0.5, "monitor_s": 100.0})
    run.log({"step": 30, "epoch": 2, "knn": 0.75, "peak_memory_mib": 7.0})
    history = History(run)
    assert history.minutes == pytest.approx((60 + 9 + 20 + 10) / 60)
    assert history.images_per_s == 60
    assert history.json()["seconds_per_epoch"] == pytest.approx((60 + 9 + 20 + 10) / 2)
    assert history.curve == [(pytest.approx((60 + 9 + 10) / 60), 1, 0.5), (history.minutes, 2, 0.75)]
    assert history.peak_memory_mib == 7


def test_a_row_belongs_to_one_process_and_to_the_child_that_it_leaves_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with lock(path, wait=False) as handle:
        assert handle is not None
        with lock(path, wait=False) as second:
            assert second is None
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(handle,))
    with lock(path, wait=False) as third:
        assert third is None
    child.communicate(b"\n")
    with lock(path, wait=False) as fourth:
        assert fourth is not None


def test_a_child_says_why_it_failed(tmp_path: Path) -> None:
    with closing(ForkServer()) as server, lock(tmp_path / "lock", wait=False) as handle:
        child = Child(tmp_path / "log", handle or -1, server)
        with pytest.raises(ChildError, match="unknown encoder"):
            child.run(["unlabeled", "pretrain", "digits", "--encoder", "resnet81", "--out", f"{tmp_path}/a"], lambda: None)
        one = ["timeit", "-n1", "-r1"]
        with pytest.raises(ChildError, match="killed by SIGKILL"):
            child.run([*one, "import os; os.kill(os.getpid(), 9)"], lambda: None)
        held = f"import fcntl; fcntl.flock(open({str(tmp_path / 'lock')!r}), fcntl.LOCK_EX | fcntl.LOCK_NB)"
        with pytest.raises(ChildError, match="BlockingIOError"):
            child.run([*one, held], lambda: None)
        child.run([*one, "import os, sys; assert 'torch' in sys.modules and os.getsid(0) == os.getpid()"], lambda: None)
    with pytest.raises(ChildError, match="No module named"):
        Child(tmp_path / "log").run(["no_such_module"], lambda: None)
    assert "unknown encoder" in child.log.read_text()


def test_a_collapsed_row_is_named() -> None:
    wrong = "the run 'runs/a' went wrong: complete collapse: all images get nearly the same embedding z (step 9); try less"
    assert f"a: {wrong}." in remarks([{"name": "a", "kind": "method", "alarm": wrong}, {"name": "b", "kind": "method"}])
    assert not any("wrong" in line for line in remarks([{"name": "b", "kind": "method"}]))


def test_a_defeat_is_named_and_so_is_who_is_as_good_as_the_best() -> None:
    """Judged on the same 400 images: who is wrong where the other is right decides, not the accuracies alone."""
    right = {"random": range(200), "lost": range(150), "even": range(2, 202), "won": range(300), "close": range(1, 300)}
    each = {name: np.isin(np.arange(400), list(those)).astype(float) for name, those in right.items()}
    rows = [
        {
            "name": name,
            "kind": "baseline" if name == "random" else "method",
            "figures": {"knn": [x.mean()]},
            "each": [packed(x)],
        }
        for name, x in each.items()
    ]
    said = " ".join(remarks(rows))
    assert "raw pixels" not in said
    rows[0]["raw"] = {"name": "raw pixels", "figures": {"knn": [0.9]}, "each": [packed(np.arange(400) % 10 > 0)]}
    beaten = " ".join(remarks(rows))
    assert (
        "Worse than raw pixels by kNN with 100% of the labels (95% interval of the difference): lost, even, won, close."
        in beaten
    )
    assert "Points above raw pixels there: lost -52.5 ± " in beaten
    assert "Worse than `random` by kNN with 100% of the labels (95% interval of the difference): lost." in said
    assert "Not clearly better than `random` by kNN with 100% of the labels (95% interval of the difference): even." in said
    assert "lost -12.5 ± " in said
    assert "Not clearly worse than won, the best by kNN with 100% of the labels: close (-0.2 ± " in said
    assert "All methods clearly beat" in remarks([row for row in rows if row["name"] in ("random", "won")])[0]


def test_who_always_names_the_largest_class_is_neither_worse_nor_better() -> None:
    def row(name: str, right: int, *, constant: bool = False, kind: str = "method") -> dict[str, object]:
        x = (np.arange(400) < right).astype(float)
        return {"name": name, "kind": kind, "figures": {"knn": [x.mean()]}, "each": [packed(x)], "constant": constant}

    rows = [row("random", 250, kind="baseline"), row("idle", 280, constant=True), row("won", 360)]
    said = " ".join(remarks(rows))
    assert said.startswith("All methods clearly beat `random`") and "Points above `random` there: won +27.5" in said
    assert "By kNN with 100% of the labels one class is always named, which counts neither way: idle." in said
    assert "idle" not in said.partition("By kNN")[0]
    rows[0]["constant"] = True
    assert "beat" not in " ".join(remarks(rows))


def test_rows_off_the_budget_are_named() -> None:
    rows = [{"name": name, "minutes": minutes, "epochs": 3} for name, minutes in (("a", 8.1), ("b", 10.0), ("c", 6.0))]
    rows.append({"name": "random", "minutes": 0.0, "epochs": 0})
    assert off_budget({"budget": {"minutes": 8.0}}, rows) == ["Not the 8 minutes by more than 15%: b 10.0, c 6.0."]
    assert off_budget({"budget": {"minutes": 8.0}}, rows[:1]) == []
    assert off_budget({"budget": {"epochs": 3}}, rows) == []
