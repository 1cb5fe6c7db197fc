"""Classes held out of training, and the protocols that judge on them, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import SMALL, file, images, mistake, ok

import unlabeled
from unlabeled.batch import Batch, Progress
from unlabeled.data import held_out_classes
from unlabeled.methods.baselines import Supervised
from unlabeled.run import Run

CLASSES, COUNT = 6, 240
NEW = ("--protocol", "verification:pairs=200", "--protocol", "few-shot:ways=2,queries=3,episodes=40")


def parted(path: Path) -> Path:
    """Images of six classes; the last fifth, as many of each, are the test split."""
    x, y = images(COUNT, classes=CLASSES)
    cut = COUNT * 4 // 5
    np.savez(path, x_train=x[:cut], y_train=y[:cut], x_test=x[cut:], y_test=y[cut:])
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data of six classes, a run that held two out, one that held none out, and one that saw no label."""
    path = tmp_path_factory.mktemp("made")
    data = parted(path / "x.npz")
    few = (*SMALL, "--epochs", 2, "--monitor-every", 0)
    ok("pretrain", data, *few, "--method", "siamese", "--hold-out-classes", 2, "--out", path / "held")
    ok("pretrain", data, *few, "--method", "triplet", "--out", path / "saw")
    ok("pretrain", data, *few, "--method", "simclr", "--out", path / "unlabelled")
    return path


def test_the_tables_and_the_file(made: Path) -> None:
    words = ("--protocol", "knn", *NEW, "--protocol", "few-shot:ways=2,shots=5,queries=3,episodes=40", "--draws", 3)
    said = ok("evaluate", made / "held", *words, "--labels", 1, "--labels", "100%", "--against", "random")
    where = "16 images of 2 new classes of the test split"
    assert f"verification:pairs=200, {where}" in said
    assert f"few-shot:ways=2,queries=3,episodes=40, {where}" in said
    assert f"few-shot:ways=2,shots=5,queries=3,episodes=40, {where}" in said
    assert "knn, 48 images of the test split" in said
    assert "auc" in said
    assert "± is the 95% confidence interval of the mean over 40 episodes" in said
    found = json.loads((made / "held" / "evaluation.json").read_text())
    held = [str(c) for c in held_out_classes(CLASSES, 2, 0)]
    assert found["new_classes"] == held
    assert [(s["subject"], s["labels"], s["protocol"], s["draws"]) for s in found["scores"]] == [
        (subject, *rest)
        for subject in ("random", "run")
        for rest in [
            ("1", "knn", 3), ("100%", "knn", 1), ("new classes", "verification", 3), ("new classes", "few-shot", 1),
            ("new classes", "few-shot", 1),
        ]
    ]  # fmt: skip
    verified, one, five = found["scores"][-3:]
    assert list(verified["metrics"]) == ["auc", "eer", "accuracy"]
    assert (verified["labelled"], verified["tested"]) == ([COUNT * 4 // 5 * 4 // 6] * 3, 16)
    assert (one["labelled"], five["labelled"], five["options"]["shots"]) == ([2], [10], 5)
    assert one["intervals"].keys() == {"accuracy"}


def test_titles_tell_scores_of_one_protocol_apart(made: Path) -> None:
    options = "ways=2,queries=3,episodes=40"
    result = unlabeled.evaluate(
        made / "held", protocol=[f"few-shot:shots=5,{options}", f"few-shot:{options}"], against="none"
    )
    five, one = result.scores["run", "new classes"]
    assert result.score("run", "new classes", one.title) is one
    assert result.score("run", "new classes", five.title) is five
    assert (one.options["shots"], five.options["shots"]) == (1, 5)
    assert json.loads(result.path.read_text())["scores"][0]["metrics"] == five.metrics


def test_a_run_that_saw_all_labels_is_refused_and_one_that_saw_none_is_judged_on_half(made: Path) -> None:
    line = mistake("evaluate", made / "saw", *NEW)
    assert "0 of the 6 classes" in line
    assert "'triplet' saw the labels of the others" in line
    assert "pretrain with --hold-out-classes" in line
    assert "of 3 new classes" in ok("evaluate", made / "unlabelled", *NEW)
    other = made / "other"
    x, y = images(240, classes=5)
    np.savez(other, x=x, y=np.array(["a", "b", "c", "d", "e"])[y])
    assert "of 2 new classes" in ok("evaluate", made / "saw", "--data", f"{other}.npz", *NEW)
    half = np.array(["0", "1", "2", "d", "e"])[y]
    result = unlabeled.evaluate(made / "saw", data=(x, half), protocol=[NEW[1]], against="none")
    assert list(result.new) == ["d", "e"]
    assert "has 3 classes, and 4 are needed" in mistake("evaluate", made / "saw", "--data", file(made / "3.npz"), *NEW)


def test_held_out_and_unheard_of_classes_are_new_to_a_method_that_used_labels(made: Path) -> None:
    held = [str(c) for c in held_out_classes(CLASSES, 2, 0)]
    x, y = images(160, classes=8)
    data = x, np.array([*map(str, range(CLASSES)), "d", "e"])[y]
    result = unlabeled.evaluate(made / "held", data=data, protocol=[NEW[1]], against="none")
    assert sorted(result.new) == sorted([*held, "d", "e"])
    strange = x, np.array([*held, *"abcdef"])[y]
    assert len(unlabeled.evaluate(made / "held", data=strange, protocol=[NEW[1]], against="none").new) == 4


def test_held_out_classes_are_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[int] = set()

    def forward(self: Any, batch: Batch, at: Progress) -> Any:
        seen.update(batch.targets["label"].tolist())
        return original(self, batch, at)

    original = Supervised.forward
    monkeypatch.setattr(Supervised, "forward", forward)
    data = parted(tmp_path / "x.npz")
    words = ("--method", "supervised", "--hold-out-classes", 3, "--seed", 4, "--out", tmp_path / "run")
    said = ok("pretrain", data, *SMALL, "--epochs", 3, *words)
    held = held_out_classes(CLASSES, 3, 4).tolist()
    assert seen == set(range(CLASSES)) - set(held)
    assert f"kept out of training: classes {held[0]}, {held[1]}, {held[2]}" in said
    assert Run.open(tmp_path / "run").read_checkpoint()["step"] == 3 * (COUNT * 4 // 5 // 2 // 16)  # type: ignore[index]


def test_how_many_may_be_held_out(tmp_path: Path) -> None:
    assert held_out_classes(10, 0, 0).tolist() == []
    assert [len(held_out_classes(10, n, 0)) for n in (2, 5, 8)] == [2, 5, 8]
    assert held_out_classes(10, 5, 0).tolist() != held_out_classes(10, 5, 1).tolist()
    data = file(tmp_path / "x.npz", n=60, classes=5)
    for count in (1, 4, 9):
        assert f"--hold-out-classes {count} of 5" in mistake(
            "pretrain", data, *SMALL, "--epochs", 1, "--hold-out-classes", count, "--out", tmp_path / "run"
        )
    bare = file(tmp_path / "bare.npz", labels=False)
    assert "--hold-out-classes 2 of 0" in mistake(
        "pretrain", bare, *SMALL, "--epochs", 1, "--hold-out-classes", 2, "--out", tmp_path / "run"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method", ["siamese", "triplet"])
def test_metric_learning_carries_over_to_new_classes(method: str, tmp_path: Path) -> None:
    """Pictures in a light that falls from anywhere: thirty classes teach that it means nothing, ten others are judged."""
    random = np.random.default_rng(0)
    y = np.arange(1200) % 40
    centres = random.normal(size=(40, 4, 4)).repeat(2, 1).repeat(2, 2)
    ramp, light = np.linspace(-1, 1, 8), 40 * random.normal(size=(1200, 2, 1, 1))
    x = 128 + 14 * centres[y] + light[:, 0] * ramp + light[:, 1] * ramp[:, None] + 8 * random.normal(size=(1200, 8, 8))
    x, data = x.clip(0, 255).astype(np.uint8), str(tmp_path / "x.npz")
    np.savez(data, x_train=x[:960], y_train=y[:960], x_test=x[960:], y_test=y[960:])
    unlabeled.pretrain(
        data, method=method, epochs=15, batch_size=128, image_size=8, hold_out_classes=10, out=tmp_path / "run", seed=0,
        accelerator="cpu", views="none", optimizer="adamw", lr_scaling="none", monitor_every=0, encoder="resnet10t",
        precision="32", options={"encoder.width": 8, "optimizer.lr": 0.003},
    )  # fmt: skip
    protocols = ["verification", "few-shot:queries=5,episodes=200"]
    result = unlabeled.evaluate(tmp_path / "run", data=data, protocol=protocols, draws=2)
    for protocol in ("verification", "few-shot"):
        ours, untrained = (result.score(s, "new classes", protocol) for s in ("run", "random"))
        assert ours.mean() > untrained.mean() + 0.08
