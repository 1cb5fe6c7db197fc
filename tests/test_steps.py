"""What the loop asks of a method before an epoch, and which images and labels it gives it."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from command import ONE, SMALL, file, images, mistake, ok
from torch import Tensor

from unlabeled import registry
from unlabeled.batch import Progress
from unlabeled.data import balanced_draw, open_data
from unlabeled.encoders import Encoder
from unlabeled.recipe import compose
from unlabeled.run import Run
from unlabeled.testing import Trial
from unlabeled.training.batches import Clock, batches, order
from unlabeled.training.setup import capped, chosen_images


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
    nmi = next(line["nmi"] for line in reversed(Run.open(tmp_path / "run").history) if "nmi" in line)
    assert f", nmi {nmi:.2f}, pseudo accuracy " in said


def test_draws_that_a_batch_shares_are_those_of_the_runs_seed() -> None:
    """A bank's negatives, mixed negatives, companions and frames all come from `Progress.generator`."""

    def drawn(at: Progress) -> list[float]:
        return torch.rand(4, generator=at.generator()).tolist()

    clock = Clock(per_epoch=3, epochs=2, seed=1)
    assert drawn(clock.at(4)) == drawn(Clock(per_epoch=3, epochs=2, seed=1).at(4))
    every = [drawn(at) for at in (clock.at(4), clock.at(5), Clock(3, 2, seed=2).at(4), Clock(3, 2, seed=4).at(1))]
    assert len({tuple(numbers) for numbers in every}) == 4


@pytest.mark.parametrize("method", ["npid", "nmb", "pirl", "cmc", "mochi", "interclr", "cpc"])
def test_a_run_draws_by_its_seed(method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every method that draws what a batch shares is told the seed; two seeds draw apart, one seed the same again."""
    assert "at.generator()" in Path(inspect.getfile(registry.get("methods", method).make)).read_text()
    seen: dict[str, list[int]] = {}
    look = Progress.generator

    def spied(at: Progress) -> torch.Generator:
        made = look(at)
        seen[run].append(made.initial_seed())
        return made

    monkeypatch.setattr(Progress, "generator", spied)
    trial = Trial(registry.get("methods", method))
    made = trial.make(mix_from=0)
    for run, seed in (("a", 1), ("b", 2), ("a again", 1)):
        seen[run] = []
        stepper = trial.stepper(made, seed=seed)
        for at in map(Clock(2, 2, seed).at, (2, 3)):
            trial.take(stepper, at.step, at)
        assert seen[run]
    assert seen["a"] == seen["a again"]
    assert not set(seen["a"]) & set(seen["b"])


def test_no_method_makes_a_generator_of_its_own() -> None:
    """So that no draw can forget the seed: the global generator and `at.generator()` are seeded by seed and step."""
    for room in ("methods", "parts", "losses"):
        for path in (Path(registry.__file__).parent / room).rglob("*.py"):
            made = re.findall(r"manual_seed\(|torch\.Generator\(|default_rng\(\s*\)", path.read_text(encoding="utf-8"))
            assert not made, path


def test_the_seed_of_a_run_reaches_its_steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    look = Progress.generator
    monkeypatch.setattr(Progress, "generator", lambda at: seen.append((at.seed, at.step)) or look(at))
    ok("pretrain", file(tmp_path / "a.npz", n=60), *ONE, "--method", "nmb", "--seed", "7", "--out", tmp_path / "run")
    assert set(seen) == {(7, 0), (7, 1), (7, 2)}


def queued() -> list[str]:
    """Methods that count training samples in an option: queues, and draws from a bank. CPC counts parts of samples."""
    every = {name: registry.get("methods", name).options() for name in registry.names("methods")}
    parts = {"cpc", "cpc-v1", "cpc-v2"}
    return [
        name for name, options in every.items() if {"queue", "negatives", "noise"} & options.keys() and name not in parts
    ]


def test_every_queue_and_draw_from_a_bank_is_bounded_by_the_training_samples() -> None:
    assert set(queued()) >= {"moco", "moco-v1", "moco-v2", "mochi", "pcl", "interclr", "swav", "nmb", "npid", "pirl"}
    data = open_data(images(60), root=None, seed=0).train
    n = len(data)
    for name in queued():
        options = registry.get("methods", name).options()
        recipe, asked = capped(compose({"method": name}), data)
        for option in {"queue", "negatives", "noise", "hardest"} & options.keys():
            assert recipe.method.options[option] == min(n, options[option].default), (name, option)
            assert asked.get(option, n + 1) > n
        assert recipe.method.options | asked == dict(compose({"method": name}).method.options)
        same, none = capped(recipe, data)
        assert (same, none) == (recipe, {})
    seven = open_data(images(70, classes=7), root=None, seed=0).train
    few = compose({"method": "moco", "hold_out_classes": 3})
    assert capped(few, seven)[0].method.options["queue"] == len(chosen_images(few, seven)[0]) < len(seven)
    fits = compose({"method": "moco", "method.queue": 20})
    assert capped(fits, data) == (fits, {})


def test_a_queue_longer_than_the_data_is_cut_said_once_kept_and_resumed(tmp_path: Path) -> None:
    data, out = file(tmp_path / "a.npz", n=60), tmp_path / "run"
    words = ("pretrain", data, *ONE, "--method", "mochi", "--method.queue", "500", "--out", out, "--resume")
    said = ok(*words)
    assert said.count("--method.queue is 48 in place of 500: there are no more images to train on") == 1
    assert said.count("--method.hardest is 48 in place of 1,024: there are no more images to train on") == 1
    run = Run.open(out)
    assert run.recipe.method.options["queue"] == 48
    assert run.environment["capped"] == {"queue": 500, "hardest": 1024}
    state = run.read_checkpoint()
    assert state is not None
    assert len(state["method"]["queue.keys"]) == 48
    assert "is finished" in ok(*words), "the same command goes on"
    assert "cannot go on with" in mistake(*words, "--method.queue", "40")
    assert "--method.queue is" not in ok(
        "pretrain", data, *ONE, "--method", "moco", "--method.queue", "48", "--out", tmp_path / "b"
    )
