"""The map and its figures: against loops, on known shapes; what is drawn, and what names do not do to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from unlabeled.data import Source, open_data
from unlabeled.errors import UserError
from unlabeled.probes import maps
from unlabeled.probes.base import Draws, Shown, binomial
from unlabeled.probes.draws import evaluate_features
from unlabeled.probes.spelling import parse_protocol
from unlabeled.probes.tsne import TSNE
from unlabeled.registry import Choice


def groups(n: int = 60, classes: int = 3, spread: float = 0.1, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noise around orthogonal centres: (n, 8), labels (n,)."""
    y = torch.arange(n) % classes
    return torch.eye(8)[y] + spread * torch.randn(n, 8, generator=torch.Generator().manual_seed(seed)), y


def source(tmp_path: Path, classes: list[str], n: int = 30) -> Source:
    """n grey images in folders with these names."""
    for i in range(n):
        place = tmp_path / "data" / classes[i % len(classes)] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 8 * (i % 32), np.uint8)).save(place)
    return open_data(tmp_path / "data", seed=None).train


def test_groups_stay_groups() -> None:
    probe = TSNE().fit(*groups())
    found = probe.score(*groups())
    assert next(iter(found)) == "knn_map"
    assert found["knn_map"] == found["knn_features"] == 1
    assert 0.75 < found["trustworthiness"] <= 1
    assert probe.notes_ == ["tsne: perplexity 19.7 instead of 30, for 60 images"]
    assert isinstance(probe, Draws)


def left_out_in_loops(x: np.ndarray, y: np.ndarray) -> float:
    right = 0
    for i in range(len(x)):
        others = np.delete(np.arange(len(x)), i)
        near = others[np.argsort([np.linalg.norm(x[i] - x[j]) for j in others], kind="stable")[:10]]
        right += int(np.bincount(y[near]).argmax() == y[i])
    return right / len(x)


def test_the_accuracies_are_those_of_a_loop() -> None:
    x, y = (a[:120] for a in load_digits(return_X_y=True))
    h = x / np.linalg.norm(x, axis=1, keepdims=True)
    xy = h @ np.random.default_rng(0).normal(size=(64, 2))
    found = maps.faithfulness(h, xy, y)
    assert found["knn_map"].value == pytest.approx(left_out_in_loops(xy, y))
    assert found["knn_features"].value == pytest.approx(left_out_in_loops(h, y))
    assert found["knn_features"].value > found["knn_map"].value + 0.2
    assert found["knn_map"].interval == binomial(found["knn_map"].value, 120)


def trustworthiness_in_loops(h: np.ndarray, xy: np.ndarray, k: int) -> float:
    """Venna and Kaski 2001: 1 - 2 / (n k (2n - 3k - 1)) · Σᵢ Σ (rank in feature space - k) over strangers in the map."""
    n, excess = len(h), 0.0
    for i in range(n):
        near_h = sorted((j for j in range(n) if j != i), key=lambda j: np.linalg.norm(h[i] - h[j]))
        near_xy = sorted((j for j in range(n) if j != i), key=lambda j: np.linalg.norm(xy[i] - xy[j]))
        excess += sum(max(0, near_h.index(j) + 1 - k) for j in near_xy[:k])
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * excess


@pytest.mark.parametrize(("n", "k"), [(40, 10), (12, 5)])
def test_trustworthiness_in_loops(n: int, k: int) -> None:
    rng = np.random.default_rng(0)
    h, xy = rng.normal(size=(n, 6)), rng.normal(size=(n, 2))
    (name, found), *others = maps.faithfulness(h, xy, np.full(n, -1)).items()
    assert (name, others) == ("trustworthiness", [])
    assert found.value == pytest.approx(trustworthiness_in_loops(h, xy, k))
    plane = rng.normal(size=(n, 2))
    same = maps.faithfulness(plane, 3 * plane[:, ::-1] + 1, np.full(n, -1))["trustworthiness"]
    assert (same.value, same.interval) == (1, 0)


def test_the_interval_of_trustworthiness_is_what_other_images_of_a_kind_would_give() -> None:
    """Of many sets of images drawn from one distribution: the spread of the figure against the interval of each."""
    found = []
    for seed in range(40):
        h = np.random.default_rng(seed).normal(size=(200, 5))
        found.append(maps.faithfulness(h, h[:, :2], np.full(200, -1))["trustworthiness"])
    spread = 1.96 * np.std([one.value for one in found], ddof=1)
    assert spread == pytest.approx(np.mean([one.interval for one in found]), rel=0.35)


def test_trustworthiness_of_more_images_than_are_held_at_once_is_scikit_learns() -> None:
    from sklearn.manifold import trustworthiness

    h = np.random.default_rng(0).normal(size=(2 * maps.ROWS + 7, 6))
    assert maps.trustworthiness(h, h[:, :2]) == pytest.approx(trustworthiness(h, h[:, :2], n_neighbors=10))


def test_unlabelled_images_are_shown_and_not_counted() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = (x[:, 0] > 0).astype(int)
    hidden = y.copy()
    hidden[::3] = -1
    kept = hidden >= 0
    assert maps.faithfulness(x, x, hidden)["knn_map"] == maps.faithfulness(x[kept], x[kept], y[kept])["knn_map"]


def test_images_seed_and_order() -> None:
    h, y = groups(60)
    drawn = [TSNE(images=30, perplexity=5, seed=s).fit(h, y) for s in (3, 3, 4)]
    for probe in drawn:
        probe.score(h, y)
    (a, b, c) = (p.map_ for p in drawn)
    assert a.xy.shape == (30, 2)
    assert (np.diff(a.chosen) > 0).all()
    assert (a.xy == b.xy).all()
    assert (a.chosen == b.chosen).all()
    assert not np.array_equal(a.chosen, c.chosen)
    assert (drawn[0].predict(h[a.chosen]).numpy() == a.xy).all()
    scaled = TSNE(images=30, perplexity=5, seed=3).fit(h, y)
    scaled.score(4 * h, y)
    assert (scaled.map_.xy == a.xy).all(), "only directions count"


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_that_are_all_alike(value: float) -> None:
    h, y = torch.full((30, 8), value), torch.arange(30) % 5
    probe = TSNE(perplexity=5).fit(h, y)
    found = probe.score(h, y)
    assert np.isfinite(probe.map_.xy).all()
    assert found["knn_map"] < 0.5


def test_it_is_scored_once_and_its_notes_are_kept() -> None:
    (h, y), (test_h, test_y) = groups(60), groups(30, seed=1)
    score = evaluate_features(h, y, test_h, test_y, protocol=parse_protocol("tsne:images=20").choice, amount=1, draws=10)
    assert score.draws == 1
    assert score.notes == ["tsne: perplexity 6.33 instead of 30, for 20 images"]
    assert score.title == "tsne:images=20"


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match=r"4 test images make no map, 5 do: give --data with more"):
        TSNE().fit(*groups(4)).score(*groups(4))
    for text, said in [("tsne:perplexity=1", "at least 2"), ("tsne:images=4", "at least 5"), ("tsne:sed=1", "'seed'")]:
        with pytest.raises(UserError, match=said):
            evaluate_features(*groups(), *groups(), protocol=parse_protocol(text).choice)
    h, y = groups()
    with pytest.raises(ValueError, match="NaN"):
        TSNE().fit(h, y).score(h * torch.nan, y)


def test_the_files(tmp_path: Path) -> None:
    images = source(tmp_path, ["a$b", "<b>x", "_hidden字"])
    h, y = groups(30)
    probe = TSNE(perplexity=5, images=20).fit(h, y)
    figures = probe.score(h[5:], y[5:])
    test = Shown(images, np.arange(5, 30), y[5:].numpy())
    picture, data = probe.draw(tmp_path, "tsne-images=20", test, test)
    assert (picture, data) == (tmp_path / "tsne-images=20.png", tmp_path / "tsne-images=20.json")
    with Image.open(picture) as opened:
        assert min(opened.size) >= 1000
    found = json.loads(data.read_text())
    assert found["classes"] == ["<b>x", "_hidden字", "a$b"]
    assert found["figures"] == figures
    assert (found["perplexity"], found["title"]) == (5, "t-SNE of 20 test images, perplexity 5")
    assert found["index"] == (probe.map_.chosen + 5).tolist()
    assert found["number"] == found["index"]
    assert found["label"] == y[found["index"]].tolist()
    assert np.allclose(np.stack([found["x"], found["y"]], 1), probe.map_.xy)


@pytest.mark.parametrize(("classes", "shown"), [(2, 2), (20, 20), (100, 40)])
def test_every_class_has_a_colour_and_shape_of_its_own_and_its_name_as_it_is(classes: int, shown: int) -> None:
    names = [r"_$\nope$", "$x^2$", "<script>", "ein langer Name, der nicht in die Legende passt", ""][:classes]
    names += [f"c{i}" for i in range(len(names), classes)]
    rng = np.random.default_rng(0)
    label = np.arange(2 * shown) % shown
    figure = maps._scatter("t", rng.normal(size=(len(label), 2)), label, names)
    figure.draw_without_rendering()
    texts = figure.legends[0].get_texts()
    assert [t.get_text() for t in texts][:3] == names[:3]
    assert not any(t.get_parse_math() for t in texts)
    assert [len(t.get_text()) for t in texts][3:4] == [30] * (classes > 3)
    dots = figure.axes[0].collections
    looks = {(tuple(d.get_facecolor()[0]), d.get_paths()[0].vertices.tobytes()) for d in dots}
    assert len(looks) == shown
    box = figure.legends[0].get_window_extent()
    assert box.x1 <= figure.bbox.x1
    assert box.y0 >= figure.bbox.y0


def test_choice_is_found_by_name() -> None:
    assert parse_protocol("tsne:perplexity=200").choice == Choice("tsne", {"perplexity": 200, "images": 2000, "seed": 0})
