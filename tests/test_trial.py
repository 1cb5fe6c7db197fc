"""The trial that says how many epochs of a method fit some minutes: its clock, and what it sees of later epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from command import file

from unlabeled.comparing.budget import MEASURED, WARM_UP, Cost, Plan, Watch, measure
from unlabeled.data import open_data
from unlabeled.recipe import compose

TIMED = {"encoder": {"name": "resnet10t", "width": 4}, "batch_size": 16, "kind.size": 8}
"""With ways to compute that are timed before the trial."""
LAYER = {**TIMED, "precision": "32", "speed": "channels-last workers=1"}


def trial(folder: Path, data: str, minutes: float, method: dict[str, Any]) -> dict[str, Any]:
    recipe, out = folder / "recipe.yaml", folder / "found.json"
    recipe.write_text(compose(LAYER, {"data": data, "method": method}).to_yaml())
    measure(recipe, out, None, "cpu", minutes)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def test_the_clock_of_a_trial() -> None:
    """Two steps an epoch, steps of 2 s, preparations of 5 s, the first of 7; the first steps take longer."""
    watch, now = Watch(), 0.0
    for step in range(WARM_UP + MEASURED + 1):
        watch.readings.append((step, now))
        if step % 2 == 0:
            now += 7 if step == 0 else 5
            watch.readings.append((step, now))
        now += 9 if step < WARM_UP else 2
    assert watch.result() == Cost(step_s=2, first_s=7, prepare_s=5)


def test_a_trial_of_many_images_tells_the_first_preparation_from_later_ones(tmp_path: Path) -> None:
    """NMB fills its bank before the first epoch, DeepCluster clusters before each."""
    data = file(tmp_path / "x.npz", n=2000)
    found = {}
    for name, layer in (("nmb", TIMED), ("deepcluster", LAYER)):
        recipe, out = tmp_path / f"{name}.yaml", tmp_path / f"{name}.json"
        recipe.write_text(compose(layer, {"data": str(data), "method": name}).to_yaml())
        measure(recipe, out, None, "cpu", 0.1)
        found[name] = json.loads(out.read_text())
    assert found["nmb"]["first_s"] > 2 * found["nmb"]["prepare_s"]
    assert found["deepcluster"]["prepare_s"] > 2 * found["nmb"]["prepare_s"]


def test_a_trial_of_few_labels_does_not_take_looks_for_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step is an epoch, after which a run may look at kNN; a row looks a few times in all."""
    looks: list[int] = []
    monkeypatch.setattr("unlabeled.training.monitor.Monitor._measure", lambda self, encoder, at: looks.append(at.step))
    layer = {**LAYER, "labels": "6", "method": "supervised"}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(compose(layer, {"data": str(file(tmp_path / "x.npz")), "monitor_every": 1}).to_yaml())
    measure(recipe, tmp_path / "found.json", None, "cpu", 0.1)
    assert not looks
    assert json.loads((tmp_path / "found.json").read_text())["step_s"] > 0


def test_a_plan_counts_the_dear_epochs_from_where_they_begin() -> None:
    """Epochs of 10 steps: 1 s a step and 2 s before an epoch, 5 before the first; later 3 s a step and 10 s before each."""
    early, late = Cost(1, 5, 2), Cost(3, 99, 10)
    plan = Plan(10, early, late, lambda epochs: 3)
    assert [plan.seconds(epochs) for epochs in (1, 3, 4, 6)] == [15, 39, 79, 159]
    assert [plan.epochs(seconds) for seconds in (1, 30, 58, 60, 158)] == [1, 2, 3, 4, 6]
    share = Plan(10, early, late, lambda epochs: epochs // 2)
    assert share.seconds(8) == 3 + 4 * 12 + 4 * 40
    assert share.epochs(share.seconds(8)) == 8


@pytest.mark.parametrize("name", ["pcl", "mochi"])
def test_a_trial_sees_what_begins_in_a_later_epoch(name: str, tmp_path: Path) -> None:
    """PCL's E step before each epoch after its warm-up, MoCHI's mixing in each step: what they take is in the plan."""
    data = str(file(tmp_path / "x.npz", n=1200))
    options = {
        "pcl": {"clusters": "400,500", "warm_up": 0.5, "queue": 32},
        "mochi": {"mix_from": 2, "queue": 1024, "hardest": 1024, "mixed": 2048, "query_mixed": 2048},
    }
    found = trial(tmp_path, data, 2, {"name": name, **options[name]})  # minutes of which a loaded machine makes some epochs

    def late_from(epochs: int) -> int:
        return {"pcl": (epochs + 1) // 2, "mochi": 2}[name]

    assert found["late_from"] == late_from(found["epochs"])
    if name == "pcl":
        assert found["late_prepare_s"] > 5 * found["prepare_s"]
    else:
        assert found["late_step_s"] > 2 * found["step_s"]
    early, late = (Cost(*(found[f"{when}{part}_s"] for part in ("step", "first", "prepare"))) for when in ("", "late_"))
    plan = Plan(len(open_data(data).train) // 16, early, late, late_from)
    off = [abs(plan.seconds(found["epochs"] + more) - 120) for more in (-1, 0, 1)]
    assert min(off) == off[1]


def test_a_plan_that_ends_before_anything_begins_is_not_tried_twice(tmp_path: Path) -> None:
    data = str(file(tmp_path / "x.npz", n=200))
    found = trial(tmp_path, data, 0.001, {"name": "mochi", "mix_from": 1000, "queue": 32, "hardest": 16, "mixed": 4})
    assert "late_from" not in found


def test_more_clusters_than_a_trial_has_images(tmp_path: Path) -> None:
    data = str(file(tmp_path / "x.npz", n=1000))
    assert trial(tmp_path, data, 0.01, {"name": "deepcluster", "clusters": 600})["prepare_s"] > 0
