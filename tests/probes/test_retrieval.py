"""Retrieval against the definitions in NumPy loops and scikit-learn; ties, gaps in the labels, and the picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score
from torch import Tensor

from unlabeled.data import open_data
from unlabeled.errors import UserError
from unlabeled.probes.base import Draws, Shown
from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.knn import KNN
from unlabeled.probes.retrieval import Retrieval
from unlabeled.registry import Choice


def clusters(n: int, d: int = 12, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping Gaussian clusters: (n, d) float32 and labels (n,) out of {3, 5, 7, ...}."""
    g = torch.Generator().manual_seed(seed)
    label = torch.randint(classes, (n,), generator=g)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99))
    return centres[label] + torch.randn(n, d, generator=g), 3 + 2 * label


def signs(n: int, seed: int, d: int = 4) -> tuple[Tensor, Tensor]:
    """Vectors of ±1 in few dimensions, whose cosines are halves: many ties, and none of them in doubt."""
    g = torch.Generator().manual_seed(seed)
    return 2.0 * torch.randint(2, (n, d), generator=g) - 1, torch.randint(3, (n,), generator=g)


def by_loops(h: np.ndarray, y: np.ndarray, q: np.ndarray, label: int, k: int) -> tuple[float, float, float]:
    """Average precision, precision and recall at k of one query, from their definitions; ties in all their orders, for
    which the expected hits are what fits in of the group at the border."""
    similar = [float(np.float64(row @ q) / np.sqrt(np.float64(row @ row) * np.float64(q @ q))) for row in h]
    average, relevant = 0.0, [i for i in range(len(h)) if y[i] == label]
    for i in relevant:
        near = [j for j in range(len(h)) if similar[j] >= similar[i]]
        average += sum(y[j] == label for j in near) / len(near) / len(relevant)
    hits, left = 0.0, k
    for value in sorted(set(similar), reverse=True):
        group = [j for j in range(len(h)) if similar[j] == value]
        taken = min(left, len(group))
        hits += taken * sum(y[j] == label for j in group) / len(group)
        left -= taken
    return average, hits / k, hits / len(relevant)


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("ties", [True, False])
def test_the_figures_are_those_of_the_definitions(k: int, ties: bool) -> None:
    (h, y), (q, label) = (signs(60, 0), signs(25, 1)) if ties else (clusters(60), clusters(25, seed=1))
    found = Retrieval(k=k).fit(h, y).score(q, label)
    rows = [by_loops(h.numpy(), y.numpy(), a, int(c), k) for a, c in zip(q.numpy(), label.numpy(), strict=True)]
    assert list(found) == ["mAP", f"precision@{k}", f"recall@{k}"]
    np.testing.assert_allclose(list(found.values()), np.mean(rows, axis=0), atol=2e-4 if not ties else 1e-12)


def test_expected_hits_are_the_mean_over_orders_of_the_ties() -> None:
    h, y = signs(60, 0)
    q, label = signs(1, 1)
    similar, rng = (h @ q[0]).numpy(), np.random.default_rng(0)
    hits = []
    for _ in range(2000):
        mixed = rng.permutation(60)
        nearest = mixed[np.argsort(-similar[mixed], kind="stable")][:7]
        hits.append((y.numpy()[nearest] == label.item()).mean())
    assert Retrieval(k=7).fit(h, y).score(q, label)["precision@7"] == pytest.approx(np.mean(hits), abs=0.02)


def test_average_precision_is_that_of_scikit_learn() -> None:
    (h, y), (q, label) = clusters(2000), clusters(30, seed=1)
    probe = Retrieval().fit(h, y)
    found = probe.score(q, label)["mAP"]
    unit = torch.nn.functional.normalize
    cosine = (unit(q.double()) @ unit(h.double()).T).numpy()
    expected = [average_precision_score(y == c, row) for row, c in zip(cosine, label, strict=True)]
    np.testing.assert_allclose(probe.precision_, expected, atol=1e-4)
    assert found == pytest.approx(np.mean(expected), abs=5e-5)  # ours ties what is nearer than a step


def test_the_intervals_are_those_of_a_mean_over_queries() -> None:
    (h, y), (q, label) = clusters(200), clusters(40, seed=1)
    probe = Retrieval(k=5).fit(h, y)
    found = probe.score(q, label)
    assert probe.intervals_.keys() == found.keys()
    assert probe.intervals_["mAP"] == pytest.approx(1.96 * np.std(probe.precision_, ddof=1) / np.sqrt(40))
    probe.score(q[:1], label[:1])
    assert probe.intervals_ == {}, "the spread of a single query is not known"


def test_features_that_are_all_alike_are_at_chance_in_any_order() -> None:
    y = torch.arange(90) % 3  # then by class: were ties told apart by their order, the figures would differ
    for labels in (y, y.sort().values):
        found = Retrieval(k=10).fit(torch.full((90, 7), 0.3), labels).score(torch.full((30, 7), 0.3), y[:30])
        assert found == pytest.approx({"mAP": 1 / 3, "precision@10": 1 / 3, "recall@10": 10 / 90})


def test_perfect_features_and_the_bound_of_recall() -> None:
    y = torch.arange(60) % 3
    found = Retrieval(k=10).fit(torch.eye(3)[y], y).score(torch.eye(3), torch.arange(3))
    assert found == {"mAP": 1.0, "precision@10": 1.0, "recall@10": 0.5}


def test_order_and_length_do_not_matter_and_half_precision_is_accepted() -> None:
    (h, y), (q, label) = clusters(300), clusters(40, seed=1)
    expected = Retrieval().fit(h, y).score(q, label)
    mixed = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert Retrieval().fit(3 * h[mixed], y[mixed]).score(q / 7, label) == pytest.approx(expected, abs=1e-4)
    assert Retrieval().fit(h.bfloat16(), y).score(q.bfloat16(), label)["mAP"] == pytest.approx(expected["mAP"], abs=0.02)


def test_images_without_a_label_are_left_out_and_so_are_queries_without_a_match() -> None:
    (h, y), (q, label) = clusters(300), clusters(40, seed=1)
    gallery, queries = torch.arange(300) % 3 > 0, torch.arange(40) % 4 > 0
    expected = Retrieval().fit(h[gallery], y[gallery]).score(q[queries], label[queries])
    probe = Retrieval().fit(h, torch.where(gallery, y, -1))
    assert probe.score(q, torch.where(queries, label, -1)) == expected
    assert probe.notes_ == []
    assert np.isnan(probe.precision_).tolist() == (~queries).tolist()
    strange = torch.where(queries, label, 100)
    for _ in range(2):
        assert probe.score(q, strange) == expected
        assert probe.notes_ == ["retrieval: left out: 10 queries of classes without a training image"]
    with pytest.raises(UserError, match="no test image is of a class"):
        probe.score(q, torch.full_like(label, 100))


def test_it_predicts_the_class_of_the_nearest() -> None:
    (h, y), (q, _) = clusters(300), clusters(40, seed=1)
    assert torch.equal(Retrieval().fit(h, y).predict(q), KNN(k=1).fit(h, y).predict(q))


def test_a_small_gallery_lowers_k_and_says_so() -> None:
    score = evaluate_features(*clusters(50), *clusters(20, seed=1), protocol=Choice("retrieval"), amount=1, draws=2)
    assert list(score.metrics) == ["mAP", "precision@5", "recall@5"]
    assert score.metrics["recall@5"] == [1.0, 1.0]
    assert score.notes == ["retrieval: the 5 nearest instead of 10, as the gallery has no more images"]


def test_bad_options_and_features_are_refused() -> None:
    h, y = clusters(9)
    with pytest.raises(UserError, match="k must be at least 1, got 0"):
        Retrieval(k=0).fit(h, y)
    with pytest.raises(ValueError, match="NaN"):
        Retrieval().fit(h / 0, y)
    with pytest.raises(ValueError, match="no labelled sample"):
        Retrieval().fit(h, torch.full_like(y, -1))


def test_the_picture_and_its_json(tmp_path: Path) -> None:
    data = open_data("digits")
    assert data.test is not None
    train = Shown(data.train, np.arange(5, 305), data.train.labels[5:305])
    test = Shown(data.test, np.arange(20, 80), data.test.labels[20:80])
    h, q = (s.source.seen(s.indices).flatten(1).float() for s in (train, test))
    probe = Retrieval().fit(h, torch.from_numpy(train.y))
    probe.score(q, torch.from_numpy(test.y))
    assert isinstance(probe, Draws)
    picture, written = probe.draw(tmp_path / "pictures", "retrieval", train, test)
    with Image.open(picture) as opened:
        assert min(opened.size) > 800
    found = json.loads(written.read_text())
    given = open_data("digits", seed=None).train
    assert found["classes"] == list(data.train.classes)
    for kind, extreme in (("best", np.max), ("worst", np.min)):
        cases = found[kind]
        assert len({case["label"] for case in cases}) == len(cases) == 5, "no two of one class, where there are others"
        assert cases[0]["average_precision"] == extreme(probe.precision_)
        for case in cases:
            assert case["label"] == data.test.labels[case["position"]]
            assert torch.equal(given.seen([case["number"]]), data.test.seen([case["position"]]))
            assert probe.precision_[case["position"] - 20] == case["average_precision"]
            query = data.test.seen([case["position"]]).flatten(1).double()
            cosine = torch.cosine_similarity(query, h.double())
            assert [n["position"] - 5 for n in case["neighbours"]] == cosine.topk(10).indices.tolist()
            for n in case["neighbours"]:
                assert n["label"] == data.train.labels[n["position"]]
                assert n["number"] == data.train.numbers[n["position"]]
                assert n["right"] == (n["label"] == case["label"])
                assert n["similarity"] == pytest.approx(float(cosine[n["position"] - 5]), abs=1e-5)
    best, worst = ({case["position"] for case in found[kind]} for kind in ("best", "worst"))
    assert not best & worst
