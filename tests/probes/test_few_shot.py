"""Few-shot episodes: an oracle in loops, the draw, the interval, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from unlabeled.errors import UserError
from unlabeled.probes.base import mean_and_interval
from unlabeled.probes.draws import evaluate_new_classes
from unlabeled.probes.few_shot import FewShot
from unlabeled.probes.spelling import parse_protocol


def clusters(n: int, classes: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    y = torch.arange(n) % classes
    return torch.eye(16)[y] + spread * torch.randn(n, 16, generator=torch.Generator().manual_seed(seed)), y


@pytest.mark.parametrize("shots", [1, 5])
def test_an_oracle_in_loops(shots: int) -> None:
    h, y = clusters(240, 8, 0.5)
    probe = FewShot(ways=4, shots=shots, queries=6, episodes=30)
    figure = probe.score(h, y, seed=5)["accuracy"]
    unit = np.array([row / np.sqrt((row**2).sum()) for row in h.double().numpy()])
    accuracies = []
    for episode in probe.draw(y.numpy(), np.random.default_rng(5)):
        means = [sum(unit[i] for i in row[:shots]) / shots for row in episode]
        right = []
        for c, row in enumerate(episode):
            for i in row[shots:]:
                right.append(np.argmin([((unit[i] - mean) ** 2).sum() for mean in means]) == c)
        accuracies.append(np.mean(right))
    assert 0.3 < figure.value < 1
    assert figure.value == pytest.approx(np.mean(accuracies), abs=1e-9)
    assert figure.interval == pytest.approx(1.96 * np.std(accuracies, ddof=1) / math.sqrt(30))


def test_episodes_are_drawn_fairly() -> None:
    y = np.random.default_rng(0).permutation(np.repeat([2, 3, 5, 7, 8, 11], [20, 20, 30, 40, 20, 90]))
    drawn = FewShot(ways=3, shots=2, queries=4, episodes=2000).draw(y, np.random.default_rng(0))
    assert drawn.shape == (2000, 3, 6)
    labels = y[drawn]
    assert (labels == labels[..., :1]).all(), "a row is of one class"
    assert all(len(set(row)) == 3 for row in labels[..., 0].tolist()), "classes differ"
    assert all(len(set(row)) == 18 for row in drawn.reshape(2000, -1).tolist()), "no image twice"
    shares = [(labels[..., 0] == c).mean() for c in (2, 3, 5, 7, 8, 11)]
    assert shares == pytest.approx([1 / 6] * 6, abs=0.02)
    assert len(np.unique(drawn[..., :2])) > 0.99 * len(y)


def test_perfect_and_random_features() -> None:
    perfect = FewShot(episodes=50).score(*clusters(200, 8, 0.0), seed=0)["accuracy"]
    assert (perfect.value, perfect.interval) == (1, 0)
    random = FewShot().score(*clusters(200, 8, 1e6), seed=0)["accuracy"]
    assert random.value == pytest.approx(0.2, abs=0.02)


def test_more_shots_are_better_and_seeds_matter() -> None:
    data = clusters(400, 8, 0.5)
    one, five = (FewShot(shots=shots, episodes=200).score(*data, seed=0)["accuracy"] for shots in (1, 5))
    assert one.interval is not None
    assert five.value > one.value + one.interval
    again, other = (FewShot(episodes=200).score(*data, seed=seed)["accuracy"] for seed in (0, 1))
    assert again == one != other


def test_the_interval_of_coins() -> None:
    n, p = 10_000, 0.3
    coins = (np.arange(n) < p * n).astype(float)
    figure = mean_and_interval(coins)
    assert figure.value == pytest.approx(p)
    assert figure.interval == pytest.approx(1.96 * math.sqrt(p * (1 - p) / (n - 1)))
    covered = 0
    rng = np.random.default_rng(0)
    for _ in range(2000):
        figure = mean_and_interval((rng.random(200) < p).astype(float))
        assert figure.interval is not None
        covered += abs(figure.value - p) <= figure.interval
    assert covered / 2000 == pytest.approx(0.95, abs=0.015)


def test_the_score_has_one_draw_and_an_interval() -> None:
    score = evaluate_new_classes(None, clusters(200, 8, 0.5), protocol=parse_protocol("few-shot:shots=5").choice, draws=7)
    assert (score.draws, score.labelled, score.tested, score.title) == (1, [25], 200, "few-shot:shots=5")
    assert score.spread() == score.intervals["accuracy"]
    assert "±" in score.text()
    assert score.notes == ["few-shot: ± is the 95% confidence interval of the mean over 1,000 episodes"]
    pairs = evaluate_new_classes(
        clusters(200, 8, 0.5),
        clusters(200, 8, 0.5, 1),
        protocol=parse_protocol("verification:pairs=300").choice,
        draws=4,
        seed=2,
    )
    assert (pairs.draws, pairs.labelled, pairs.title) == (4, [200] * 4, "verification:pairs=300")
    assert list(pairs.metrics) == ["auc", "eer", "accuracy"]
    assert len(set(pairs.metrics["auc"])) == 4
    assert pairs.spread() == pairs.std("auc")


def test_what_is_refused() -> None:
    data = clusters(80, 4, 0.1)
    for options, said in [
        ({}, "there are 4: give --protocol few-shot:ways=4"),
        ({"ways": 4, "queries": 20}, "class 0 has 20: give --protocol few-shot:shots=1,queries=19"),
        ({"ways": 1}, "ways is 1, and must be at least 2"),
        ({"episodes": 1}, "episodes is 1, and must be at least 2"),
    ]:
        with pytest.raises(UserError, match=said):
            FewShot(**options).score(*data, seed=0)
    h = data[0].clone()
    h[0, 0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        evaluate_new_classes(None, (h, data[1]), protocol=parse_protocol("few-shot:ways=4").choice)
    for text, said in [
        ("few-shot:wais=3", "did you mean 'ways'"),
        ("few-shot:5", "few-shot:OPTION=VALUE"),
        ("few-shot:ways=x", "whole number"),
        ("fewshot", "did you mean 'few-shot'"),
    ]:
        with pytest.raises(UserError, match=said):
            parse_protocol(text)
