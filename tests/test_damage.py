"""Files of a run that are damaged in their content, of another kind or of another version: one line, and a true one."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command import ONE, file, mistake, ok
from hypothesis import given
from hypothesis import strategies as st

from unlabeled.data import open_data, told
from unlabeled.encoders import files as encoder_files
from unlabeled.errors import LONGEST, UserError, bounded
from unlabeled.evaluating.evaluation import held
from unlabeled.forms import FormError, check
from unlabeled.recipe import compose, read
from unlabeled.run import LAYOUT, Run, load


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data and a run that was evaluated."""
    path = tmp_path_factory.mktemp("made")
    ok("pretrain", file(path / "x.npz"), *ONE, "--method", "supervised", "--out", path / "run")
    ok("evaluate", path / "run", "--protocol", "knn", "--against", "none")
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made / "run", tmp_path / "run", ignore=shutil.ignore_patterns("tensorboard"))
    return tmp_path / "run"


def edited(path: Path, change: Callable[[Any], Any]) -> None:
    """Changes what a JSON file says."""
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"step": 1, "lo": 2.5}{', "no JSON"),
        (b'{"step": 1, "loss": "\xf2"}', "can't decode byte"),
        (b"[]", "it is []"),
        (b'{"step": "one"}', "step is 'one'"),
        (b'{"loss": 1.5}', "it has no step"),
        (b'{"step": 1, "loss": "low"}', "loss is 'low'"),
    ],
)
def test_a_damaged_line_of_the_metrics_is_named(made: Path, run: Path, line: bytes, said: str) -> None:
    path = run / "metrics.jsonl"
    first, rest = path.read_bytes().split(b"\n", 1)
    path.write_bytes(first + b"\n" + line + b"\n" + rest)
    for verb in (("report", run), ("evaluate", run, "--against", "none")):
        error = mistake(*verb)
        assert "metrics.jsonl', line 2, is damaged" in error
        assert said in error
    path.write_bytes(first + b"\n" + rest)
    assert len(Run.open(run).history) > 1


@pytest.mark.parametrize("state", [[1], {}, torch.zeros(2), {"step": "3", "finished": True, "method": {}, "optimizers": {}}])
def test_another_file_of_torch_is_no_checkpoint(made: Path, run: Path, state: Any) -> None:
    torch.save(state, run / "checkpoint.pt")
    for verb in (
        ("pretrain", made / "x.npz", *ONE, "--out", run, "--resume"),
        ("embed", run, made / "x.npz", "--out", "e.npz"),
    ):
        assert "checkpoint.pt' is missing or damaged (" in mistake(*verb)


def test_a_run_of_before_a_layout_is_judged_and_says_why_it_cannot_go_on(made: Path, run: Path) -> None:
    """Checkpoints of version 0.1 hold one optimiser."""
    edited(run / "environment.json", lambda about: {key: value for key, value in about.items() if key != "layout"})
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    state["optimizer"] = state.pop("optimizers")
    torch.save({**state, "finished": False}, run / "checkpoint.pt")
    said = mistake("pretrain", made / "x.npz", *ONE, "--method", "supervised", "--out", run, "--resume")
    assert "the checkpoint is of another version of unlabeled" in said
    assert "stopped" in ok("evaluate", run, "--data", made / "x.npz", "--protocol", "knn", "--against", "none")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: [], "it is []"),
        (lambda about: {**about, "data": None}, "data is None"),
        (lambda about: {**about, "data": {**about["data"], "channels": "3"}}, "data.channels is '3'"),
        (lambda about: {**about, "command": [1]}, "command.0 is 1"),
    ],
)
def test_an_environment_of_another_form(run: Path, change: Any, said: str) -> None:
    edited(run / "environment.json", change)
    for verb in (("report", run), ("evaluate", run)):
        assert f"environment.json' is missing or damaged ({said})" in mistake(*verb)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": None}, {"channels": 10**12}, {"kept": {"epoch": 1}},
        {"kind": []}, {"kind": {"name": 3}}, {"encoder": {}}, {"tta": 0},
        {"encoder": {"name": "resnet18", "width": "wide"}}, {"encoder": {"name": "resnet18", "drop_rate": [1, 2]}},
        {"kind": {"name": "image", "size": None, "eval_size": None}},
    ],
)  # fmt: skip
def test_an_encoder_of_odd_metadata(run: Path, change: dict[str, Any]) -> None:
    """With the sum that they should have: only their form tells."""
    path = run / "encoder.safetensors"
    tensors, about = encoder_files.read_tensors(path)
    encoder_files.save_tensors(path, tensors, {**about, **change})
    with pytest.raises(UserError):
        load(run)


def test_an_evaluation_without_a_figure_is_not_shown_nor_kept(made: Path, run: Path) -> None:
    path = run / "evaluation.json"
    path.write_text(path.read_text().replace('"tested"', '"testedd"'))
    ok("report", run, "--out", run / "page.html")
    assert "evaluation.json cannot be read (scores.0 has no tested): evaluate again." in (run / "page.html").read_text()
    said = ok("evaluate", run, "--data", made / "x.npz", "--protocol", "knn", "--against", "none")
    assert "is damaged (scores.0 has no tested): what it held is not kept" in said
    assert held(path)[0]


@pytest.mark.parametrize("damage", ["shape", "kind", "places", "bytes"])
def test_features_that_were_kept_in_another_form_are_found_anew(made: Path, run: Path, damage: str) -> None:
    (path,) = [path for path in (run / "features").iterdir() if len(np.load(path)["h"]) > 40]
    words = "evaluate", run, "--data", made / "x.npz", "--protocol", "knn", "--against", "none"
    before = held(run / "evaluation.json")[0][0]["scores"]
    h, bad = np.load(path)["h"], np.load(path)["bad"]
    whole = path.read_bytes()
    if damage == "bytes":
        path.write_bytes(whole[:60] + b"\0" * 40 + whole[100:])
    else:
        changed = {"shape": (h[:1], bad), "kind": (h.astype("U9"), bad), "places": (h, np.array([10**6]))}[damage]
        np.savez(path, h=changed[0], bad=changed[1])
    ok(*words)
    assert held(run / "evaluation.json")[0][0]["scores"] == before
    assert path.read_bytes() == whole


def test_a_place_that_keeps_no_features_is_no_hindrance(made: Path, run: Path, tmp_path: Path) -> None:
    """A run in someone else's folder, or on a full disk."""
    shutil.rmtree(run / "features")
    (run / "features").touch()
    ok("evaluate", run, "--data", made / "x.npz", "--protocol", "knn", "--against", "none", "--out", tmp_path / "k.json")
    assert held(tmp_path / "k.json")[0]


def test_a_folder_that_nobody_may_write_to_is_said_at_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, how: Path(path) != run)
    assert "cannot be written to: give a file elsewhere as --out" in mistake("evaluate", run)


ODD: list[Any] = [None, [], {}, "x", "", -1, 2**70, 1e308, float("nan"), True, [[1]], {"name": "x"}, "a" * 3000, "\x00"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def mutated(value: Any, draw: random.Random) -> Any:
    """The value with one part, at any depth, replaced by something odd, or taken away."""
    path = draw.choice(list(places(value)))
    if not path:
        return draw.choice(ODD)
    copied = json.loads(json.dumps(value))
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    if draw.random() < 0.2:
        del inner[path[-1]]
    else:
        inner[path[-1]] = draw.choice(ODD)
    return copied


def test_whatever_stands_in_a_file_is_read_or_refused_in_one_line(made: Path, run: Path) -> None:
    """Fifty files of each kind, one part of each replaced."""
    draw = random.Random(0)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    evaluation, about = (json.loads((run / f"{name}.json").read_text()) for name in ("evaluation", "environment"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    refused = 0
    for _ in range(50):
        (run / "recipe.yaml").write_text(yaml.safe_dump(mutated(recipe, draw)))
        (run / "evaluation.json").write_text(json.dumps(mutated(evaluation, draw)))
        (run / "environment.json").write_text(json.dumps(mutated(about, draw)))
        (run / "metrics.jsonl").write_text(json.dumps(mutated(lines[0], draw)) + "\n")
        readers: list[Callable[[], Any]] = [
            lambda: compose(read(run / "recipe.yaml")), lambda: Run(run).environment, lambda: Run(run).history,
            lambda: held(run / "evaluation.json"), lambda: Run.open(run).layout,
        ]  # fmt: skip
        for reader in readers:
            try:
                reader()
            except (UserError, FormError) as error:
                refused += 1
                assert "\n" not in str(error)
                assert len(str(error)) <= LONGEST
    assert refused > 60


def test_a_form_is_checked_at_every_depth() -> None:
    form = {"a": [{"b": (int, None)}], "c?": range(3), ...: float}
    for right in ({"a": []}, {"a": [{"b": 1}, {"b": None}], "c": 2, "d": 1.5, "e": 3}):
        check(right, form)
    for wrong, said in [
        ({}, "it has no a"), ({"a": {}}, "a is {}"), ({"a": "xy"}, "a is 'xy'"), ({"a": [{"b": True}]}, "a.0.b is True"),
        ({"a": [], "c": 3}, "c is 3"), ({"a": [], "d": "x"}, "d is 'x'"), ({"a": [{"b": 2**63}]}, "a.0.b is "),
    ]:  # fmt: skip
        with pytest.raises(FormError, match=f"^{said}"):
            check(wrong, form)


@given(st.text(max_size=3000))
def test_an_error_is_one_line_of_bounded_length(message: str) -> None:
    line = bounded(message)
    assert len(line) <= LONGEST
    assert len(line.splitlines()) <= 1
    assert line.endswith(" ".join(message.splitlines())[-300:])


def test_no_error_is_longer_than_a_screen(tmp_path: Path) -> None:
    error = mistake("pretrain", file(tmp_path / "x.npz"), "--method", "m" * 100_000, "--out", tmp_path / "run")
    assert len(error) < LONGEST + 30
    assert error.strip().endswith("--plugin FILE")


@pytest.mark.parametrize("at", ["out", "data", "recipe", "run"])
def test_a_name_that_is_too_long_is_said(made: Path, tmp_path: Path, at: str) -> None:
    long = "x" * 300
    words = {
        "out": ("pretrain", made / "x.npz", "--epochs", "0", "--out", tmp_path / long),
        "data": ("pretrain", tmp_path / long, "--out", tmp_path / "a"),
        "recipe": ("pretrain", made / "x.npz", "--recipe", tmp_path / f"{long}.yaml", "--out", tmp_path / "a"),
        "run": ("evaluate", tmp_path / long),
    }[at]
    assert "name too long" in mistake(*words)


def test_a_run_of_a_later_layout_says_what_to_install(made: Path, run: Path) -> None:
    assert Run.open(run).layout == LAYOUT
    edited(run / "environment.json", lambda about: {**about, "layout": LAYOUT + 1, "versions": {"unlabeled": "9.1"}})
    for verb in (("report", run), ("embed", run, made / "x.npz", "--out", "e.npz"),
                 ("pretrain", made / "x.npz", *ONE, "--out", run, "--resume")):  # fmt: skip
        assert "was written by unlabeled 9.1, which is later than this one" in mistake(*verb)


def test_a_run_of_an_older_layout_is_gone_on_with_and_judged_or_told_truly_why_not(made: Path, run: Path) -> None:
    """It held out a fifth of each class, and knew files by their times."""
    then = open_data(made / "x.npz", split="balanced")

    def older(about: dict[str, Any], **data: Any) -> dict[str, Any]:
        about.pop("layout", None)
        about["data"].pop("split", None)
        known = {"fingerprint": "as it was known then", "labels": told(then.train, then.test)}
        return {**about, "versions": {"unlabeled": "0.1"}, "data": {**about["data"], **known, **data}}

    words = ("pretrain", made / "x.npz", *ONE, "--method", "supervised", "--out", run, "--resume")
    begun = Run(run)
    begun.write_checkpoint({**(begun.read_checkpoint() or {}), "step": 1, "finished": False})
    edited(run / "environment.json", lambda about: older(about, train=50))
    assert "has changed since" in mistake(*words)
    assert "was trained, by a version that held out others of it then" in mistake("evaluate", run)
    edited(run / "environment.json", lambda about: older(about, train=len(then.train)))
    said = ok(*words)
    assert "was begun by an earlier version, which knew files by their times" in said
    assert "resumed after step 1" in said
    ok("embed", run, made / "x.npz", "--out", run / "e.npz")
    assert "not what the run was trained on" not in ok("evaluate", run, "--protocol", "knn", "--against", "none")
