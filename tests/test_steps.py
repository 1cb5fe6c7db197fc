"""What the loop asks of a method before an epoch, and which images and labels it gives it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE, SMALL, file, images, mistake, ok
from torch import Tensor

from unlabeled.data import balanced_draw, open_data
from unlabeled.encoders import Encoder
from unlabeled.recipe import compose
from unlabeled.run import Run
from unlabeled.training.batches import Clock, batches, order
from unlabeled.training.setup import chosen_images


def test_an_order_is_each_image_once_or_drawn_by_weights() -> None:
    assert sorted(order(0, 0, 50)) == list(range(50))
    assert list(order(0, 0, 50)) == list(order(0, 0, 50))
    assert list(order(0, 0, 50)) != list(order(0, 1, 50))
    weights = np.repeat([0.0, 1.0, 3.0], 1000)
    drawn = order(0, 3, 3000, weights)
    assert list(drawn) == list(order(0, 3, 3000, weights))
    counts = np.bincount(drawn // 1000, minlength=3) / 3000
    assert counts[0] == 0
    assert counts[2] == pytest.approx(0.75, abs=0.03)


def test_weights_are_asked_for_once_an_epoch_and_not_before_it(tmp_path: Path) -> None:
    data = open_data(file(tmp_path / "a.npz", n=40), root=None, seed=0).train
    chosen = np.arange(2, 32)
    clock, asked, begun = Clock(per_epoch=3, epochs=2), [], [0]

    def sampling() -> Tensor:
        asked.append(begun[0])
        return torch.nn.functional.one_hot(torch.tensor(begun[0]), 30)

    with batches(compose({"batch_size": 10}), data, chosen, clock, 0, sampling) as coming:
        for step in range(clock.total):
            begun[0] = step // 3
            drawn, _ = next(coming)
            assert (drawn.index == step // 3).all()
            assert torch.equal(drawn.fields["image"], data.seen(chosen[drawn.index]))
    assert asked == [0, 1]


def test_labels_that_a_method_may_see() -> None:
    data = open_data(images(60), root=None, seed=0).train
    assert data.labels is not None

    def chosen(**given: object) -> tuple[np.ndarray, np.ndarray]:
        return chosen_images(compose({"method": "supervised"}, given), data)

    everything, labels = chosen()
    assert list(everything) == list(range(len(data)))
    assert list(labels) == list(data.labels)
    few, labels = chosen(labels="2")
    assert list(few) == sorted(balanced_draw(data.labels, 2, 0))
    assert np.bincount(labels).tolist() == [2, 2, 2]
    assert list(labels) == list(data.labels[few])
    assert list(chosen(labels="2", seed=1)[0]) != list(few)
    unaware, labels = chosen_images(compose({"method": "simclr", "labels": "2"}), data)
    assert len(unaware) == len(data)
    assert (labels >= 0).sum() == 6


def test_labels_are_those_of_classes_that_are_not_held_out() -> None:
    data = open_data(images(60, classes=5), root=None, seed=0).train
    kept, labels = chosen_images(compose({"method": "supervised", "labels": "50%", "hold_out_classes": 2}), data)
    assert len(set(labels)) == 3
    assert len(kept) == pytest.approx(0.5 * sum(np.isin(data.labels, labels)), abs=2)


def test_supervised_with_few_labels(tmp_path: Path) -> None:
    data = file(tmp_path / "a.npz", n=60)
    words = ("pretrain", data, *SMALL, "--method", "supervised", "--epochs", 2, "--out", tmp_path / "run")
    ok(*words, "--labels", "6")
    assert (tmp_path / "run" / "metrics.jsonl").read_text().count('"loss"') == 2, "18 images are one batch an epoch"
    assert "labels 'many'" in mistake(*words[:-1], tmp_path / "other", "--labels", "many")
    assert not (tmp_path / "other").exists()


def test_a_batch_larger_than_the_queue_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    data = file(tmp_path / "a.npz", n=60)
    said = mistake("pretrain", data, *ONE, "--method", "moco", "--method.queue", 8, "--out", tmp_path / "run")
    assert "a batch of 16 does not fit a queue of 8" in said
    assert not (tmp_path / "run").exists()


def test_views_grow_with_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = Encoder.forward

    def noting(self: Encoder, x: Tensor) -> Tensor:
        if self.training:
            seen.append(x.shape[-1])
        return forward(self, x)

    monkeypatch.setattr(Encoder, "forward", noting)
    sizes = ("--kind.first-size", "4", "--epochs", "5")
    said = ok("pretrain", file(tmp_path / "x.npz"), *SMALL, *sizes, "--out", tmp_path / "run")
    assert "views of 4 to 8 px" in said
    steps = Run.open(tmp_path / "run").history[-1]["step"]
    assert seen == [min(8, 4 + round(4 * step / steps / 0.8)) for step in range(steps)]
    text = mistake("pretrain", tmp_path / "x.npz", *SMALL, "--kind.first-size", "2", "--out", tmp_path / "none")
    assert "first_size is 2" in text


def test_an_epoch_is_told_with_the_terms_of_its_loss(tmp_path: Path) -> None:
    words = (*SMALL, "--epochs", "2", "--monitor-every", "1", "--method", "deepcluster", "--method.clusters", "6")
    said = ok("pretrain", file(tmp_path / "x.npz"), *words, "--out", tmp_path / "run")
    nmi = Run.open(tmp_path / "run").history[-2]["nmi"]
    assert f", nmi {nmi:.2f}, pseudo accuracy " in said
