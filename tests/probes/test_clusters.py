"""Clusters on shapes whose clusters are known, against formulas in loops; labels are only counted."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import t
from sklearn.datasets import load_digits
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.probes.base import Draws, Shown
from unlabeled.probes.clusters import Clusters, contingency, match, matched_accuracy, silhouette
from unlabeled.probes.draws import evaluate_features
from unlabeled.registry import Choice


def bundles(n: int, noise: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Directions around four axes: (n, 6) and labels (n,) out of {2, 4, 6, 8}, balanced."""
    y = torch.arange(n) % 4
    return torch.eye(6)[y] + noise * torch.randn(n, 6, generator=torch.Generator().manual_seed(seed)), 2 + 2 * y


def noisy_digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, y = load_digits(return_X_y=True)
    h, labels = torch.from_numpy(x).float()[:900], torch.from_numpy(y)[:900]
    return h[:600], labels[:600], h[600:], labels[600:]


def by_loops(clusters: list[int], y: list[int]) -> tuple[float, float]:
    """NMI with the arithmetic mean, and adjusted Rand index by counting pairs."""
    n = len(y)

    def entropy(values: list[int]) -> float:
        return -sum(values.count(v) / n * math.log(values.count(v) / n) for v in set(values))

    joint = [100 * a + b for a, b in zip(clusters, y, strict=True)]
    mutual = entropy(clusters) + entropy(y) - entropy(joint)
    together = [(clusters[i] == clusters[j], y[i] == y[j]) for i, j in itertools.combinations(range(n), 2)]
    both, one, other = (sum(map(f, together)) for f in (all, lambda p: p[0], lambda p: p[1]))
    expected = one * other / len(together)
    return 2 * mutual / (entropy(clusters) + entropy(y)), (both - expected) / ((one + other) / 2 - expected)


def silhouette_by_loops(x: np.ndarray, clusters: np.ndarray) -> float:
    """Rousseeuw 1987: (b - a) / max(a, b); a to one's own cluster, b to the nearest other; 0 for one alone."""
    total = 0.0
    for i in range(len(x)):
        far = np.linalg.norm(x - x[i], axis=1)
        own = [far[j] for j in range(len(x)) if clusters[j] == clusters[i] and j != i]
        if own:
            a = sum(own) / len(own)
            b = min(far[clusters == c].mean() for c in set(clusters.tolist()) if c != clusters[i])
            total += (b - a) / max(a, b)
    return total / len(x)


def test_clusters_that_are_there_are_found_by_the_best_start() -> None:
    h, y = bundles(80, 0.05, seed=1)
    probe = Clusters(seeds=8).fit(*bundles(200, 0.05))
    assert matched_accuracy(contingency(probe.predict(h).numpy(), (y.numpy() - 2) // 2)) == 1.0
    score = evaluate_features(*bundles(200, 0.05), h, y, protocol=Choice("clusters"))
    assert list(score.metrics) == ["nmi", "ari", "accuracy", "silhouette"]
    assert score.metrics["nmi"][0] > 0.7, "a mean over starts, some of which end in a poor partition"


def test_figures_are_those_of_the_formulas() -> None:
    train, y, test, labels = noisy_digits()
    probe = Clusters(seeds=1).fit(train, y)
    found, clusters = probe.score(test, labels), probe.predict(test)
    nmi, ari = by_loops(clusters.tolist(), labels.tolist())
    assert found["nmi"] == pytest.approx(nmi)
    assert found["ari"] == pytest.approx(ari)
    assert found["nmi"] == pytest.approx(normalized_mutual_info_score(labels, clusters))
    assert found["ari"] == pytest.approx(adjusted_rand_score(labels, clusters))
    unit = torch.nn.functional.normalize(test, dim=1).double().numpy()
    assert found["silhouette"] == pytest.approx(silhouette_by_loops(unit, clusters.numpy()), abs=1e-5)
    assert probe.intervals_ == {}
    assert 0.5 < found["nmi"] < 0.95, "neither chance nor perfect, so that the comparison says something"


@pytest.mark.parametrize("shape", [(4, 4), (5, 3), (3, 5)])
def test_the_matching_is_the_best_of_all(shape: tuple[int, int]) -> None:
    counts = np.random.default_rng(0).integers(0, 20, shape)
    rows, columns = shape
    padded = [*range(columns), *[-1] * max(0, rows - columns)]
    best = max(sum(counts[c, p] for c, p in enumerate(order) if p >= 0) for order in itertools.permutations(padded, rows))
    assert matched_accuracy(counts) == best / counts.sum()
    used = [p for p in match(counts) if p >= 0]
    assert len(used) == len(set(used)) == min(shape)


def test_the_silhouette_of_known_shapes() -> None:
    square = np.array([[0, 0], [0, 1], [10, 0], [10, 1]], dtype=float)
    a, b = 1.0, (10 + math.sqrt(101)) / 2
    assert silhouette(square, np.array([0, 0, 1, 1])) == pytest.approx((b - a) / b)
    assert silhouette(square, np.array([0, 1, 0, 1])) < 0, "the wrong pairs"
    assert silhouette(square, np.zeros(4, int)) == silhouette(square, np.arange(4)) == 0.0


def test_a_mean_over_seeds_with_its_interval() -> None:
    train, y, test, labels = noisy_digits()
    probe = Clusters(seeds=4).fit(train, y)
    found = probe.score(test, labels)
    unit = torch.nn.functional.normalize(test, dim=1)
    each = [normalized_mutual_info_score(labels, torch.cdist(unit, c).argmin(dim=1)) for c in probe.centroids_]
    assert found["nmi"] == pytest.approx(np.mean(each))
    assert probe.intervals_["nmi"] == pytest.approx(t.ppf(0.975, 3) * np.std(each, ddof=1) / 2)
    assert probe.intervals_.keys() == found.keys()
    assert Clusters(seeds=4).fit(train, y).score(test, labels) == found, "the same again"


def test_labels_are_only_counted() -> None:
    train, y, test, _ = noisy_digits()
    expected = Clusters(seeds=1).fit(train, y).predict(test)
    mixed = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))] + 7
    assert torch.equal(Clusters(seeds=1).fit(train, mixed).predict(test), expected)
    few = [int((y == c).nonzero()[0]) for c in range(10)]
    assert torch.equal(Clusters(seeds=1).fit(train[few], y[few], reference=train).predict(test), expected)
    assert Clusters(seeds=1, k=3).fit(train, y).predict(test).unique().tolist() == [0, 1, 2]


def test_names_of_clusters_and_length_do_not_matter() -> None:
    train, y, test, labels = noisy_digits()
    expected = Clusters(seeds=2).fit(train, y).score(test, labels)
    assert Clusters(seeds=2).fit(4 * train, y).score(test / 2, 100 - labels) == pytest.approx(expected)


def test_collapsed_features_are_clusters_of_nothing() -> None:
    h, y = torch.ones(40, 5), torch.arange(40) % 4
    found = Clusters().fit(h, y).score(h, y)
    assert found == pytest.approx({"nmi": 0.0, "ari": 0.0, "accuracy": 0.25, "silhouette": 0.0})


def test_images_without_a_label_are_not_scored() -> None:
    train, y, test, labels = noisy_digits()
    probe = Clusters(seeds=2).fit(train, y)
    half = torch.arange(len(test)) < 150
    assert probe.score(test, torch.where(half, labels, -1)) == probe.score(test[half], labels[half])


@pytest.mark.parametrize(
    ("options", "said"), [({"k": 1}, "k is 1, and must be from 2"), ({"k": 99}, "images, 40"), ({"seeds": 0}, "seeds must")]
)
def test_bad_options_are_named(options: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Clusters(**options).fit(*bundles(40, 0.1))


@pytest.mark.parametrize("k", [None, 12])
def test_the_picture_and_its_json(tmp_path: Path, k: int | None) -> None:
    data = open_data("digits")
    assert data.test is not None
    train = Shown(data.train, np.arange(400), data.train.labels[:400])
    test = Shown(data.test, np.arange(10, 210), data.test.labels[10:210].copy())
    test.y[:20] = -1
    h, q = (s.source.seen(s.indices).flatten(1).float() for s in (train, test))
    probe = Clusters(k=k, seeds=2).fit(h, torch.from_numpy(train.y))
    probe.score(q, torch.from_numpy(test.y))
    assert isinstance(probe, Draws)
    picture, written = probe.draw(tmp_path / "pictures", "clusters", train, test)
    with Image.open(picture) as opened:
        assert min(opened.size) > 500
    found = json.loads(written.read_text())
    counts, clusters = np.array(found["counts"]), probe.predict(q).numpy()
    assert sorted(found["clusters"]) == list(range(k or 10))
    assert counts.sum() == 180
    for row, cluster in zip(counts, found["clusters"], strict=True):
        assert row.tolist() == [int(((clusters == cluster) & (test.y == c)).sum()) for c in range(10)]
    assert found["matched"] == [*range(10), *[-1] * ((k or 10) - 10)]
    assert counts[:10].trace() / 180 == matched_accuracy(counts)
