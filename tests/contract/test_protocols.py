"""Every registered protocol: the test split reaches nothing but `score`, and the same seed gives the same figures."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import ONE, images, ok
from rich.table import Table

import unlabeled
from unlabeled import registry
from unlabeled.errors import UserError
from unlabeled.probes.subject import Subject

QUICK = {
    "finetune": "epochs=1,steps=2",
    "tsne": "perplexity=5",
    "few-shot": "ways=2,shots=1,queries=2,episodes=5",
    "verification": "pairs=20",
}
"""Options that make a protocol take a moment, of those that take longer."""

pytestmark = pytest.mark.usefixtures("undrawn")  # that each can draw is shown in test_pictures.py

ANY_RUN = [name for name in registry.names("probes") if name != "tasks"]
"""Those that judge any run; `tasks` judges one of several columns of labels: tests/oracles/test_multi_task.py."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Two runs, by whether the method learned a classifier."""
    path = tmp_path_factory.mktemp("protocols")
    x, y = images(120, classes=4)
    np.savez(path / "x.npz", x=x, y=y)
    ok("pretrain", path / "x.npz", *ONE, "--out", path / "run")
    ok("pretrain", path / "x.npz", *ONE, "--method", "supervised", "--out", path / "supervised")
    return {False: path / "run", True: path / "supervised"}


@pytest.fixture
def run(request: pytest.FixtureRequest, runs: dict[bool, Path]) -> Path:
    """The run that the protocol of the case can judge."""
    name = request.node.callspec.params.get("name", "knn")
    return runs[getattr(registry.get("probes", name).make, "needs_classifier", False)]


def data(path: Path, shift: int, seed: int) -> str:
    """Training images that stay, and test images and labels that do not."""
    for name, n, s, by in (("train", 120, 0, 0), ("test", 60, seed, shift)):
        x, y = images(n, classes=4, seed=s)
        np.savez(path / f"{name}.npz", x=x, y=(y + by) % 4)
    return f"train={path / 'train.npz'},test={path / 'test.npz'}"


def judged(
    name: str, run: Path, where: Path, monkeypatch: pytest.MonkeyPatch, shift: int, seed: int = 1, draws: int | None = 1
) -> Any:
    """All that the probe held whenever `score` was called, and the scores."""
    kind = registry.get("probes", name).make
    real, states = kind.score, []

    def score(self: Any, *args: Any, **more: Any) -> Any:
        states.append(content({k: v for k, v in vars(self).items() if "time" not in k}))
        return real(self, *args, **more)

    where.mkdir(exist_ok=True)
    with monkeypatch.context() as patch:
        patch.setattr(kind, "score", score)
        words = f"{name}:{QUICK[name]}" if name in QUICK else name
        try:
            found = unlabeled.evaluate(run, data=data(where, shift, seed), protocol=words, against="none", draws=draws)
        except UserError as error:
            if "pip install" in str(error):
                pytest.skip(str(error))
            raise
    assert states
    return states, found


def content(value: Any) -> Any:
    """Something that is equal where what was learned is."""
    if isinstance(value, torch.nn.Module):
        return {k: v.numpy().tobytes() for k, v in value.state_dict().items()}
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {str(k): content(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [content(v) for v in value]
    if isinstance(value, Subject) or callable(value):
        return type(value).__name__
    return content(vars(value)) if hasattr(value, "__dict__") else repr(value)


@pytest.mark.parametrize("name", ANY_RUN)
def test_the_test_split_reaches_score_alone(name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, found = judged(name, run, tmp_path / "a", monkeypatch, 0)
    assert before == judged(name, run, tmp_path / "a", monkeypatch, 1)[0]
    kind = registry.get("probes", name).make
    if not getattr(kind, "new_classes", False):
        assert before == judged(name, run, tmp_path / "a", monkeypatch, 0, seed=2)[0]
    again = judged(name, run, tmp_path / "a", monkeypatch, 0)[1]
    ((_, scores),) = found.scores.items()
    assert scores[0].metrics == next(iter(again.scores.values()))[0].metrics
    assert scores[0].metrics
    assert all(np.isfinite(v) for values in scores[0].metrics.values() for v in values)
    assert json.loads(json.dumps(found.json())) == copy.deepcopy(found.json())


@pytest.mark.parametrize("name", ANY_RUN)
def test_a_spread_is_known(name: str, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = judged(name, run, tmp_path, monkeypatch, 0, draws=None)
    ((_, (score,)),) = found.scores.items()
    assert [name for name in score.metrics if score.spread(name) is None] == []


def fits_labels(kind: Any) -> bool:
    """Whether a protocol learns from the labels of the classes that it is asked about."""
    return getattr(kind, "needs_labels", getattr(kind, "fits", True)) and not getattr(kind, "new_classes", False)


@pytest.mark.parametrize("name", [n for n in registry.names("probes") if fits_labels(registry.get("probes", n).make)])
def test_few_labels_are_drawn_several_times(name: str, run: Path, tmp_path: Path) -> None:
    kind = registry.get("probes", name).make
    words = f"{name}:{QUICK[name]}" if name in QUICK else name
    found = unlabeled.evaluate(run, data=data(tmp_path, 0, 1), protocol=words, labels="5", against="none")
    (score,) = found.scores[run.name, "5"]
    assert score.draws == getattr(kind, "draws", 10)
    assert score.std() is not None


@pytest.mark.parametrize(
    ("words", "fitted", "tested"),
    [
        ("linear-layers:train_images=40,test_images=30,C=1", 40, 30),
        ("health:images=32", 0, 32),
        ("invariance:images=24", 0, 24),
        ("tsne:images=20,perplexity=5", 0, 20),
        ("attention:images=7", 0, 7),
        ("finetune:epochs=1,steps=2", 120, 60),
    ],
)
def test_the_images_that_are_counted_are_those_that_were_used(
    words: str, fitted: int, tested: int, run: Path, tmp_path: Path
) -> None:
    found = unlabeled.evaluate(run, data=data(tmp_path, 0, 1), protocol=words, against="none")
    ((_, (score,)),) = found.scores.items()
    assert (score.labelled, score.tested) == ([fitted], tested)
    (titled,) = [part.title for part in found.lines() if isinstance(part, Table)]
    assert ("of 60 images of the test split" in titled) == (tested < 60)


@pytest.mark.parametrize(
    ("words", "more", "figures"),
    [
        ("attention:images=1", {}, "focus"),
        ("clusters:seeds=1", {}, "nmi, ari, accuracy, silhouette"),
        ("verification:pairs=20", {"draws": 1}, "auc, eer, accuracy"),
        ("retrieval", {"queries": 1}, "mAP, precision@10, recall@10"),
    ],
)
def test_a_figure_without_interval_says_so(
    words: str, more: dict[str, int], figures: str, run: Path, tmp_path: Path
) -> None:
    split = data(tmp_path, 0, 1)
    if queries := more.pop("queries", None):
        x, y = images(60, classes=4, seed=1)
        np.savez(tmp_path / "test.npz", x=x, y=np.where(np.arange(60) < queries, y, -1))
    found = unlabeled.evaluate(run, data=split, protocol=words, against="none", **more)
    ((_, (score,)),) = found.scores.items()
    name = words.partition(":")[0]
    assert f"{name}: no interval: {figures} of one image, start or draw; give more of them" in score.notes
