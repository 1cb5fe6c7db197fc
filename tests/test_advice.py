"""What to try next: a command that can be typed as it stands, by what the run did."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from command import ABOUT, SMALL, file, ok

from unlabeled.evaluating.advice import advice, rising
from unlabeled.recipe import compose
from unlabeled.run import METRICS, Run


def advised(folder: Path, *, knn: tuple[float, ...] = (), **given: Any) -> str:
    """Of a run with such a recipe, and such looks at its kNN accuracy."""
    run = Run(folder / "a run")
    run.start(compose({"data": "digits", "kind": "image", "epochs": 20, "batch_size": 256, **given}), ABOUT)
    (run.path / METRICS).write_text("".join(json.dumps({"step": i, "knn": x}) + "\n" for i, x in enumerate(knn, 1)))
    return advice(run, "a run")


def test_gentler_crops_and_larger_steps(tmp_path: Path) -> None:
    said = advised(tmp_path, method="simclr", optimizer="lars")
    assert said == (
        "To try: crops that keep what the picture shows, however small it is, larger steps, as a trust of 0.001 is made for "
        "larger batches than 256: unlabeled pretrain --recipe 'a run/recipe.yaml' --views.scale 0.5,1 --optimizer.lr 0.3 "
        "--optimizer.trust 0.02 --out 'a run-2'"
    )
    ours = {"name": "lars", "trust": 0.02}
    assert "--optimizer" not in advised(tmp_path, method="simclr", optimizer=ours)
    large = advised(tmp_path, method="simclr", optimizer="lars", batch_size=4096)
    assert "--optimizer" not in large


def test_then_weaker_colours_then_a_warmer_temperature(tmp_path: Path) -> None:
    mild = {"method": "simclr", "optimizer": "sgd", "views": {"name": "simclr", "scale": [0.5, 1.0]}}
    assert advised(tmp_path, **mild).endswith(" --views.strength 0.5 --out 'a run-2'")
    milder = mild | {"views": {"name": "simclr", "scale": [0.5, 1.0], "strength": 0.5}}
    cold = advised(tmp_path, **(milder | {"method": {"name": "simclr", "temperature": 0.1}}))
    assert "a temperature above 0.1: unlabeled pretrain" in cold
    assert cold.endswith(" --method.temperature 0.2 --out 'a run-2'")
    nothing = advised(tmp_path, **(milder | {"method": {"name": "simclr", "temperature": 0.5}}))
    assert nothing == "To try: another method; `unlabeled methods` lists them."
    other = advised(tmp_path, **(milder | {"method": "byol"}))
    assert other == (
        "To try: another method than byol: unlabeled pretrain digits --method simclr --epochs 20 --out 'a run-2'"
    )


@pytest.mark.parametrize(
    ("knn", "more"),
    [
        ((0.3, 0.4, 0.5), True),
        ((0.3, 0.5, 0.5), False),  # flat
        ((0.3, 0.6, 0.7, 0.5), False),  # it fell
        ((0.3, 0.5, 0.505), False),  # within what a look is off by
        ((0.3, 0.9), False),  # two say nothing
        ((), False),
    ],
)
def test_more_steps_only_where_the_curve_still_rose(tmp_path: Path, knn: tuple[float, ...], more: bool) -> None:
    assert rising([{"knn": x} for x in knn]) == more
    said = advised(tmp_path, method="simclr", knn=knn)
    assert ("--epochs 40" in said) == more
    assert ("more steps, as the accuracy was still rising" in said) == more


def test_a_recording_has_windows(tmp_path: Path) -> None:
    said = advised(tmp_path, kind="sound", method="cpc", encoder="cpc", views="window")
    assert "windows of twice the length: unlabeled pretrain" in said
    assert "--views.samples 40960" in said


def test_the_command_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file(tmp_path / "x.npz", n=48)
    ok("pretrain", "x.npz", *SMALL, "--epochs", "1", "--method", "simclr", "--optimizer", "lars", "--out", "run")
    command = advice(Run.open("run"), "run/").rpartition(": ")[2]
    program, *words = shlex.split(command)
    assert program == "unlabeled"
    ok(*words)
    recipe = Run.open("run-2").recipe
    assert recipe.views.options["scale"] == (0.5, 1.0)
    assert (recipe.optimizer.name, recipe.epochs, recipe.encoder.options["width"]) == ("lars", 1, 4)
    assert recipe.optimizer.options["trust"] == 0.02
