"""What tells how good a classifier is where most samples are of one class."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, roc_auc_score

from unlabeled.data import Source
from unlabeled.data.opening import open_data
from unlabeled.errors import UserError
from unlabeled.probes.base import Shown
from unlabeled.probes.classified import Classified, classified, uneven
from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.paired import paired
from unlabeled.registry import Choice


def said(n: int = 300, classes: int = 3, share: float = 0.8, seed: int = 0) -> Classified:
    """Of a classifier that is right more often than not; the first class has most."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(classes, n, p=[share, *[(1 - share) / (classes - 1)] * (classes - 1)])
    scores = rng.random((n, classes)) + 0.6 * np.eye(classes)[truth]
    return classified(
        torch.from_numpy(truth), torch.from_numpy(scores / scores.sum(1, keepdims=True)), torch.arange(classes)
    )


def test_balanced_accuracy_recall_and_confusion_are_scikit_learns() -> None:
    found = said()
    assert found.figures()["balanced"].value == pytest.approx(balanced_accuracy_score(found.truth, found.predicted))
    expected = confusion_matrix(found.truth, found.predicted)
    assert (found.confusion(3) == expected).all()
    recall = expected.diagonal() / expected.sum(1)
    assert found.recall() == pytest.approx(dict(enumerate(recall)))
    assert "auroc" not in found.figures()


def test_the_area_is_scikit_learns_with_ties() -> None:
    found = said(classes=2)
    found.probability[:100] = 0.5
    assert found.figures()["auroc"].value == pytest.approx(roc_auc_score(found.truth, found.probability[:, 1]))


def test_even_classes_need_no_balance() -> None:
    assert "balanced" not in said(classes=4, share=0.25).figures()
    assert not uneven([10, 10, 14])
    assert uneven([10, 10, 21])
    assert not uneven([5])


@pytest.mark.parametrize("figure", ["balanced", "auroc"])
def test_intervals_hold_what_repetition_shows(figure: str) -> None:
    """Of 400 sets of samples, some 19 of 20 have the mean over all in their interval."""
    figures = [said(150, 2, 0.88, seed=seed).figures()[figure] for seed in range(400)]
    mean = np.mean([f.value for f in figures])
    held = np.mean([abs(f.value - mean) <= (f.interval or 0) for f in figures])
    assert 0.92 < held <= 1
    assert np.mean([f.interval for f in figures]) < 3 * 1.96 * np.std([f.value for f in figures])


def test_a_perfect_area_has_an_interval() -> None:
    truth = torch.tensor([0] * 20 + [1] * 5)
    figure = classified(truth, torch.nn.functional.one_hot(truth, 2).double(), torch.arange(2)).figures()["auroc"]
    assert figure.value == 1
    assert 0.02 < (figure.interval or 0) < 0.3


def test_who_always_names_the_largest_class() -> None:
    truth = torch.tensor([0] * 6 + [1] * 3 + [2])
    guess = classified(truth, torch.eye(3)[torch.zeros(10, dtype=torch.int64)], torch.arange(3)).guess()
    assert guess == pytest.approx({"top1": 0.6, "top5": 1.0, "balanced": 1 / 3, "auroc": 0.5})


def features_of(n: int, share: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = (torch.rand(n, generator=generator) > share).long()
    return torch.randn(n, 8, generator=generator) + 2 * y[:, None], y


@pytest.mark.parametrize("protocol", ["knn", "linear"])
def test_a_score_holds_them_over_all_draws(protocol: str) -> None:
    (h, y), (q, z) = features_of(200, 0.8), features_of(90, 0.8, 1)
    few = evaluate_features(h, y, q, z, protocol=Choice(protocol), amount=5, draws=3)
    assert list(few.metrics) == ["top1", "balanced", "auroc"]
    assert all(len(values) == 3 for values in few.metrics.values())
    assert few.guess == pytest.approx({"top1": float((z == 0).double().mean()), "balanced": 0.5, "auroc": 0.5})
    assert np.sum(few.confusion) == 3 * 90
    assert np.trace(few.confusion) / 270 == pytest.approx(few.mean())
    every = evaluate_features(h, y, q, z, protocol=Choice(protocol))
    assert set(every.intervals) == {"top1", "balanced", "auroc"}


def test_no_confusion_of_very_many_classes() -> None:
    h = torch.randn(202, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(202) % 101
    assert evaluate_features(h, y, h, y, protocol=Choice("knn")).confusion == []


def test_one_class_alone_is_refused() -> None:
    (h, y), (q, z) = features_of(50, 0.8), features_of(50, 0.8, 1)
    for labels in ((y, torch.zeros_like(z)), (torch.full_like(y, 1), z), (torch.where(y == 1, -1, y), z)):
        with pytest.raises(UserError, match=r"labels are of one class, and naming it would be 100% right: give data"):
            evaluate_features(h, labels[0], q, labels[1], protocol=Choice("knn"))


def a_source(path: Path, n: int) -> Source:
    np.savez(path / "x.npz", x=np.zeros((n, 8, 8, 3), np.uint8), y=np.arange(n) % 3)
    return open_data(path / "x.npz", kind=Choice("image"), seed=None).train


def test_the_files(tmp_path: Path) -> None:
    found, source = said(60), a_source(tmp_path, 80)
    test = Shown(source, np.arange(20, 80), found.truth)
    picture, table, numbers = found.draw(tmp_path / "pictures", "linear", test)
    with Image.open(picture) as opened:
        assert min(opened.size) > 300
    assert json.loads(numbers.read_text()) == {"classes": ["0", "1", "2"], "confusion": found.confusion(3).tolist()}
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [source.path(i) for i in range(20, 80)]
    assert [int(row["truth"]) for row in rows] == found.truth.tolist()
    assert [int(row["prediction"]) for row in rows] == found.predicted.tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(found.probability.max(1), abs=1e-6)


def boots(found: Classified, other: Classified, figure: str) -> float:
    """Half the 95% interval of a difference, with the figures computed anew from samples drawn again."""
    rng, gaps = np.random.default_rng(0), []
    for _ in range(600):
        at = rng.integers(len(found.truth), size=len(found.truth))
        again = [Classified(one.truth[at], one.predicted[at], one.probability[at], one.classes) for one in (found, other)]
        gaps.append(np.subtract(*(one.figures()[figure].value for one in again)))
    return float(1.96 * np.std(gaps))


@pytest.mark.parametrize("figure", ["balanced", "auroc"])
def test_two_encoders_are_paired_as_if_the_figure_were_computed_from_samples_drawn_again(figure: str) -> None:
    rng = np.random.default_rng(3)
    truth = (rng.random(400) > 0.8).astype(np.int64)
    hard = rng.normal(size=400)  # for both
    ours, theirs = (
        classified(torch.from_numpy(truth), torch.stack([-logit, logit], 1).softmax(1), torch.arange(2))
        for logit in (torch.from_numpy(1.6 * truth - 0.8 + hard + 0.3 * rng.normal(size=400)) for _ in range(2))
    )
    for one in (ours, theirs):
        assert one.each()[figure].mean() == pytest.approx(one.figures()[figure].value)
    gap, half = paired(ours.each()[figure][None], theirs.each()[figure][None])
    assert gap == pytest.approx(ours.figures()[figure].value - theirs.figures()[figure].value)
    assert half == pytest.approx(boots(ours, theirs, figure), rel=0.15)
    alone = [one.figures()[figure].interval or 0 for one in (ours, theirs)]
    assert half < 0.7 * np.hypot(*alone)


def test_one_sample_of_a_class_decides_nothing() -> None:
    """Right of it and wrong of it are half a point of balanced accuracy apart, whatever the samples of the other class."""
    truth = np.array([0] * 99 + [1])
    one, other = (Classified(truth, named, np.eye(2)[named], np.arange(2)) for named in (truth, np.zeros(100, np.int64)))
    gap, half = paired(one.each()["balanced"][None], other.each()["balanced"][None])
    assert gap == pytest.approx(0.5)
    assert half > gap
