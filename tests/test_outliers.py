"""The verb outliers: what is least like the others comes first, and labels only say how well that works."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from command import folder, mistake, ok
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F

import unlabeled
from unlabeled.evaluating.outliers import detectors, told_apart, unlike


def features(n: int = 60, odd: int = 4) -> torch.Tensor:
    """Around one direction, but for the last ones."""
    h = torch.randn(n, 8, generator=torch.Generator().manual_seed(0)) / 4
    h[: n - odd, 0] += 3
    return F.normalize(h, dim=1)


def test_the_score_is_one_less_the_mean_cosine_to_the_nearest_others() -> None:
    h = features(20)
    cosine = (h @ h.T).numpy()
    np.fill_diagonal(cosine, -2)
    wanted = 1 - np.sort(cosine, axis=1)[:, -5:].mean(1)
    np.testing.assert_allclose(unlike(h, 5), wanted, atol=1e-6)


def test_copies_are_each_others_neighbours() -> None:
    h = features(20)
    h[:9] = h[0]
    np.testing.assert_allclose(unlike(h, 5)[:9], 0, atol=1e-6)


def test_all_scores_put_what_is_odd_first() -> None:
    h = features()
    for name, score in {"neighbours": unlike(h, 5), **detectors(h.numpy())}.items():
        assert set(np.argsort(-score)[:4]) == {56, 57, 58, 59}, name


def test_auroc_is_that_of_scikit_learn() -> None:
    scores = {"a": np.random.default_rng(0).normal(size=50)}
    labels = [*["good"] * 30, *["defect"] * 15, *[""] * 5]
    found = told_apart(scores, labels)
    assert found.keys() == {"defect"}, "the smaller of two"
    true = [label == "defect" for label in labels[:45]]
    assert found["defect"]["a"] == pytest.approx(roc_auc_score(true, scores["a"][:45]))
    assert told_apart(scores, ["x"] * 50) == {}
    assert told_apart(scores, [*"xyz", *["x"] * 47]).keys() == {"x", "y", "z"}


def test_the_file_the_picture_and_the_tables(made: Path, tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    (data / "a" / "!bad.png").write_bytes(b"no picture")
    Image.fromarray(np.indices((8, 8)).sum(0).astype(np.uint8) % 2 * 255).save(data / "b" / "board.png")
    out = tmp_path / "o.csv"
    said = ok("outliers", made / "run", data, "--n", 12, "--out", out)
    assert "least like the others" in said
    assert "AUROC" in said
    assert "left out 1 bad image" in said
    head, *rows = csv.reader(out.read_text(encoding="utf-8").splitlines())
    assert head == ["rank", "number", "path", "class", "neighbours", "isolation forest", "local outlier factor"]
    assert [row[0] for row in rows] == [str(i) for i in range(1, 62)]
    scores = [float(row[4]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(Path(row[2]).parent.name == row[3] for row in rows)
    with Image.open(tmp_path / "o.png") as picture:
        assert picture.width > picture.height
    found = unlabeled.outliers(made / "run", data, n=3, out=out)
    assert [str(one.number) for one in found.found] == [row[1] for row in rows[:3]]
    assert "data:image/png" in found._repr_html_()


def test_without_labels_nothing_is_said_of_classes(made: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", x)
    assert "AUROC" not in ok("outliers", made / "run", tmp_path / "x.npy", "--out", tmp_path / "o.csv")


def test_mistakes(made: Path, tmp_path: Path) -> None:
    words = ("outliers", made / "run", made / "data")
    assert "written: " in ok(*words, "--out", tmp_path)
    assert (tmp_path / "outliers.csv").is_file() and (tmp_path / "outliers.png").is_file()
    assert "n is 0" in mistake(*words, "--n", 0)
    assert "500 at most" in mistake(*words, "--n", 501)
    assert "ends in .csv" in mistake(*words, "--out", tmp_path / "o.png")
    assert "no folder" in mistake(*words, "--out", tmp_path / "no" / "o.csv")


def test_a_terminal_says_that_it_shows_the_first_alone(made: Path, tmp_path: Path) -> None:
    said = ok("outliers", made / "run", "--n", 12, "--out", tmp_path / "o.csv")
    assert "(the first 10 of 12, which the picture shows; the CSV has all samples)" in said
    assert "the first" not in ok("outliers", made / "run", "--n", 10, "--out", tmp_path / "o.csv")
