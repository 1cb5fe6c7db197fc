"""What is called wrong in a training, and why, by looks that are given."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from unlabeled.data import open_data
from unlabeled.probes.health import Look
from unlabeled.recipe import compose
from unlabeled.registry import Choice
from unlabeled.training.remedy import command, fast, remedy
from unlabeled.training.watch import Watch

FRESH, GOOD = Look(0.1, 30.0, math.nan, 64), Look(0.5, 40.0, math.nan, 64)
POINT, FLAT, LINE = Look(0.0001, 1.0, math.nan, 64), Look(0.5, 5.0, math.nan, 64), Look(0.5, 1.0, math.nan, 64)


def watch(total: int = 100, told: int = 0, fast: bool = False, history: Any = ()) -> Watch:
    source = open_data("digits", kind=Choice("", {"size": 8})).train
    made = Watch(source, 0, total, told, fast, torch.device("cpu"), torch.float32, history)
    if not history:
        made.untrained["h"] = FRESH
    return made


def judged(over: Watch, *looks: Look, loss: float = 1.0, z: Look | None = None) -> list[str]:
    """What is said after steps 10, 20, ..."""
    return [alarm.seen if (alarm := over.judge(10 * i, loss, h, z)) else "" for i, h in enumerate(looks, 1)]


def test_two_looks_in_a_row_and_no_longer_than_it_is_so() -> None:
    said = judged(watch(), GOOD, POINT, GOOD, POINT, POINT, POINT, GOOD)
    assert [bool(words) for words in said] == [False, False, False, False, True, True, False]
    assert (
        said[4] == "complete collapse: all images get nearly the same representation h (spread 0.000 of 1, untrained 0.100)"
    )
    assert not any(judged(watch(total=1000), POINT, POINT, POINT, POINT, POINT))  # the first steps
    assert judged(watch(), POINT, FLAT, FLAT)[1:] == ["", "dimensional collapse: the representation h uses about 5.0 "
                                                      "dimensions of 64, untrained 30.0"]  # fmt: skip


def test_the_untrained_network_is_the_measure() -> None:
    narrow = watch()
    narrow.untrained["h"] = Look(0.05, 9.0, math.nan, 64)
    assert not any(judged(narrow, *3 * [Look(0.03, 5.0, math.nan, 64)]))
    assert any(judged(narrow, *3 * [Look(0.02, 5.0, math.nan, 64)]))  # less than half of its spread
    assert any(judged(narrow, *3 * [Look(0.5, 4.0, math.nan, 64)]))  # less than half of its rank
    assert "has rank 1 of 64" in judged(narrow, LINE, LINE)[1]


def test_z_is_measured_by_its_first_look() -> None:
    over = watch()
    assert judged(over, GOOD, z=Look(0.9, 50.0, math.nan, 64)) == [""]
    assert "embedding z uses about 5.0 dimensions of 64, untrained 50.0" in judged(over, GOOD, GOOD, z=FLAT)[1]
    assert not any(judged(watch(), GOOD, GOOD, GOOD, z=FLAT))


def test_classes_that_were_told_may_fall_on_points() -> None:
    assert not any(judged(watch(told=2), *3 * [LINE]))
    assert any(judged(watch(told=10), *3 * [LINE]))
    assert not any(judged(watch(told=4), *3 * [Look(0.9, 2.9, math.nan, 64)]))
    assert any(judged(watch(told=2), *3 * [POINT]))


def test_losses() -> None:
    over = watch()
    assert not any(judged(over, GOOD, loss=2.0))
    assert over.judge(20, 300.0, GOOD, None) is None
    exploded = over.judge(30, 300.0, GOOD, None)
    assert exploded is not None
    assert exploded.seen == "the loss exploded: it is 300, and was 2 at most at first"


def test_a_rate_far_above_the_usual_is_doubted_sooner() -> None:
    less = Look(0.5, 20.0, math.nan, 64)
    assert not any(judged(watch(), *3 * [less]))
    assert any(judged(watch(fast=True), *3 * [less]))
    assert not any(judged(watch(fast=True), *3 * [GOOD], z=GOOD))
    assert judged(watch(fast=True), *8 * [GOOD])[-1] == "the loss does not fall: it is 1, and was 1 at most at first"


def test_a_resumed_run_remembers_its_start() -> None:
    history = [{"step": 0, "h_std": 0.1, "h_dims": 30.0}, {"step": 1, "loss": 2.0, "z_std": 0.9, "z_rank": 50.0}]
    over = watch(history=history)
    assert over.untrained["h"] is not None
    assert (over.untrained["h"].rank, over.first) == (30.0, 2.0)
    assert over.untrained["z"] is not None
    assert over.untrained["z"].rank == 50.0
    assert watch(history=[{"step": 9, "h_std": 0.1, "h_dims": 3.0}]).untrained["h"] is None


def recipe(**given: Any) -> Any:
    return compose({"data": "digits", "method": "simclr", "paper": True}, given)


def test_the_cause_is_what_is_far_from_the_methods_own() -> None:
    said = remedy(recipe(**{"optimizer.lr": 30.0}), "runs/a", "")
    assert said == (
        "likely because the learning rate of 30 is 25 times the usual 1.2 of lars with simclr; to try: "
        "unlabeled pretrain --recipe runs/a/recipe.yaml --optimizer.lr 1.2 --out runs/a-2"
    )
    assert "--method.temperature 0.5" in remedy(recipe(**{"method.temperature": 0.001}), "a", "")
    assert "--optimizer.weight-decay 1e-06" in remedy(recipe(**{"optimizer.weight_decay": 0.5}), "a", "")
    assert "--method.momentum 0.99" in remedy(recipe(method="byol", **{"method.momentum": 0.5}), "a", "")
    assert "--lr-scaling sqrt" in remedy(recipe(optimizer="sgd", batch_size=4096, lr_scaling="linear"), "a", "")
    several = remedy(recipe(**{"optimizer.lr": 30.0, "method.temperature": 0.001}), "a", "")
    assert "--optimizer.lr 1.2 --method.temperature 0.5" in several
    assert remedy(recipe(), "a", "").startswith(
        "no setting is far from the own ones of simclr: try a tenth of the learning rate"
    )
    assert "--optimizer.lr 0.12" in remedy(recipe(), "a", "")
    assert "--batch-size 64" in remedy(recipe(batch_size=16), "a", "", few=True)
    assert "--optimizer.lr" in remedy(recipe(batch_size=16), "a", "")


@pytest.mark.parametrize(("lr", "expected"), [(1.2, False), (4.0, False), (12.0, True), (120.0, True)])
def test_ten_times_the_own_rate_is_fast(lr: float, expected: bool) -> None:
    assert fast(recipe(**{"optimizer.lr": lr})) == expected


def test_of_arrays_the_call_is_told() -> None:
    given = compose({"method": "simclr"})
    said = command(given, "runs/a", {"optimizer.lr": "0.3"})
    assert (
        said == "unlabeled.pretrain(data, recipe=\"runs/a/recipe.yaml\", options={'optimizer.lr': '0.3'}, out=\"runs/a-2\")"
    )
