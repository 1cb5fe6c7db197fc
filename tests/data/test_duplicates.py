"""Copies: found whatever was slightly changed, and no false alarms but those that chance is said to bring."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits, load_sample_images

from unlabeled.data import open_data
from unlabeled.inspecting.census import entropies, histograms, take
from unlabeled.inspecting.duplicates import Thumbnails, _neighbours, digests, first_of, near
from unlabeled.inspecting.leakage import Copies, find


def photographs(n: int, side: int = 24, seed: int = 0) -> Any:
    """Places of scikit-learn's two photographs that do not overlap, uint8 (n, side, side, 3), in random order: those with
    most in them, as any two places of clear sky are near-duplicates."""
    cut = [
        image[top : top + side, left : left + side]
        for image in load_sample_images().images
        for top in range(0, image.shape[0] - side, side)
        for left in range(0, image.shape[1] - side, side)
    ]
    contrast = [np.abs(np.diff(place.astype(int), axis=0)).mean() for place in cut]
    return np.stack(cut)[np.argsort(contrast)[-n:]][np.random.default_rng(seed).permutation(n)]


def changed(image: Any, kind: str) -> Any:
    picture = Image.fromarray(image)
    size = picture.size
    if kind in ("jpeg", "jpeg again"):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=75 if kind == "jpeg" else 60)
        picture = Image.open(file)
    if kind == "brighter":
        picture = ImageEnhance.Brightness(picture).enhance(1.02)
    if kind == "resized":
        picture = picture.resize((3 * size[0] // 4,) * 2, Image.Resampling.BILINEAR).resize(size, Image.Resampling.BILINEAR)
    return np.asarray(picture)


def copies(train: Any, test: Any) -> Copies:
    data = open_data({"x_train": train, "x_test": test})
    assert data.test
    splits = {"train": data.train, "test": data.test}
    thumbnails = Thumbnails().fit(source.seen(np.arange(len(source))) for source in splits.values())
    return find({name: take(source, thumbnails) for name, source in splits.items()})


def test_changed_copies_across_splits_are_found_and_little_else() -> None:
    """Places of one photograph lie unevenly: petals and tiles resemble each other more than chance would have it."""
    x = photographs(400)
    train, test = x[:300], x[300:].copy()
    injected = {3: ("copy", 17), 20: ("jpeg", 101), 40: ("brighter", 202), 60: ("resized", 299)}
    for place, (kind, of) in injected.items():
        test[place] = changed(train[of], kind)
    found = copies(train, test)
    across = {pair.indices[::-1]: pair.exact for pair in found.pairs if pair.across}
    assert across.items() >= {(place, of): kind == "copy" for place, (kind, of) in injected.items()}.items()
    assert [p.ratio for p in found.pairs if p.exact] == [0.0]
    others = {(s, i) for p in found.pairs for s, i in zip(p.splits, p.indices, strict=True)}
    others -= {("test", place) for place in injected} | {("train", of) for _, of in injected.values()}
    assert len(others) <= 0.05 * 400


@pytest.mark.parametrize("kind", ["jpeg", "brighter", "resized"])
def test_every_changed_photograph_is_found(kind: str) -> None:
    x = photographs(400)
    test = np.stack([changed(image, kind) for image in x[:100]])
    found = copies(x, test)
    assert sum(found.leaked) >= 99


def test_photographs_that_were_encoded_again_are_found() -> None:
    x = np.stack([changed(image, "jpeg") for image in photographs(200)])
    test = np.stack([changed(image, "jpeg again") for image in x[:50]])
    assert (np.abs(test.astype(int) - x[:50]).max((1, 2, 3)) > 10).all()
    assert sum(copies(x, test).leaked) >= 49


def test_some_pairs_are_of_both_kinds() -> None:
    x = photographs(400)
    found = copies(x, np.concatenate([x[:20], np.stack([changed(image, "jpeg") for image in x[50:60]])]))
    kinds = [(count, [pair.exact for pair in found.some(count)]) for count in (4, 14, 1000)]
    assert [(sum(k), len(k) - sum(k)) for _, k in kinds] == [(2, 2), (7, 7), (20, len(found.pairs) - 20)]
    few = Copies([pair for pair in found.pairs if pair.exact][:3], found.leaked, found.near)
    assert few.some(2) == few.pairs[:2]


def test_no_false_alarm_on_digits_whose_images_are_all_alike() -> None:
    x = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    found = copies(x[:1400], x[1400:])
    assert found.pairs == []
    assert found.near
    assert found.near.threshold < 0.3


def test_copies_among_digits_are_found_all_the_same() -> None:
    x = np.rint(load_digits().images * (255 / 16)).astype(np.uint8)
    test = x[1400:].copy()
    test[:100] = [changed(image, "jpeg") for image in x[:100]]
    test[100:200] = [changed(image, "brighter") for image in x[100:200]]
    found = copies(x[:1400], test)
    right = {pair.indices for pair in found.pairs if pair.across and pair.indices[0] == pair.indices[1]}
    assert len(right) == len(found.pairs)
    assert len(right) >= 180


@pytest.mark.parametrize("dimension", [3, 8])
def test_as_many_false_alarms_as_expected(dimension: int) -> None:
    """Points without copies, evenly on a sphere: a point in two draws is a false alarm, and not ten."""
    random = np.random.default_rng(0)
    alarms = expected = 0.0
    for _ in range(20):
        h = random.standard_normal((500, dimension + 1)).astype(np.float32)
        found = near(h / np.linalg.norm(h, axis=1, keepdims=True))
        assert found
        assert abs(found.dimension / dimension - 1) < 0.25
        alarms += len(np.unique(found.pairs))
        expected += found.expected
    assert expected == pytest.approx(10, abs=0.1)
    assert alarms <= 20


def test_the_dimension_does_not_follow_from_copies() -> None:
    """Every point is there three times, slightly moved: the copies are found, and no two different points are called one."""
    random = np.random.default_rng(0)
    h = random.standard_normal((400, 6)).astype(np.float32)
    moved = np.concatenate([h + 1e-3 * random.standard_normal(h.shape).astype(np.float32) for _ in range(3)])
    found = near(moved)
    assert found
    assert (found.pairs[:, 0] % 400 == found.pairs[:, 1] % 400).mean() > 0.99
    assert len(found.pairs) >= 1190


def test_neighbours_are_those_of_all_distances() -> None:
    h = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    h[7] = h[8]
    neighbour, distance = _neighbours(h, lambda done: None, rows=128)
    every = cdist(h, h)
    np.fill_diagonal(every, np.inf)
    np.testing.assert_allclose(distance, np.sort(every, 1)[:, :10], atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(every, neighbour, 1), distance, atol=1e-5)
    assert (neighbour != np.arange(300)[:, None]).all()


def test_few_images_and_images_that_are_all_one_have_no_surroundings() -> None:
    h = np.random.default_rng(0).standard_normal((29, 4)).astype(np.float32)
    assert near(h) is None
    assert near(np.zeros((100, 4), np.float32)) is None


def test_brightness_and_contrast_move_no_point() -> None:
    x = torch.from_numpy(photographs(50) // 2).permute(0, 3, 1, 2)
    thumbnails = Thumbnails().fit([x])
    np.testing.assert_allclose(thumbnails(x), thumbnails(x + 20), atol=1e-5)
    np.testing.assert_allclose(thumbnails(x), thumbnails(x * 2), atol=1e-5)
    assert thumbnails(x).shape == (50, 64)


def test_groups_of_exact_copies() -> None:
    x = photographs(60)
    x[30], x[50], x[55] = x[2], x[2], x[40]
    found = copies(x[:35], x[35:])
    exact = {(p.splits, p.indices) for p in found.pairs if p.exact}
    assert exact == {(("train", "train"), (2, 30)), (("train", "test"), (2, 15)), (("test", "test"), (5, 20))}
    assert found.leaked[0] == 1
    assert first_of([b"a", b"b", b"a"]).tolist() == [0, 1, 0]
    same = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    assert len(set(digests(same))) == 1


def test_a_bad_image_is_no_copy_of_the_one_in_its_place(tmp_path: Any) -> None:
    for i, image in enumerate(photographs(40)):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    (tmp_path / "07.png").write_bytes(b"not an image")
    source = open_data(tmp_path, seed=None).train
    census = take(source, Thumbnails().fit([source.seen(np.arange(40))]))
    assert len(census) == 39
    assert 7 not in census.positions
    assert not any(pair.exact for pair in find({"all": census}).pairs)
    assert census.sizes.tolist() == [[24, 24]] * 39


def test_counts_histograms_and_entropy_against_numpy() -> None:
    random = np.random.default_rng(0)
    x = random.integers(0, 256, (30, 3, 5, 5)).astype(np.uint8)
    x[0] = 9
    counted = histograms(torch.from_numpy(x))
    for b in (0, 7):
        for c in range(3):
            np.testing.assert_array_equal(counted[b, c], np.bincount(x[b, c].ravel(), minlength=256))
    p = counted[7] / 25
    bits = [-sum(q * np.log2(q) for q in row if q) for row in p]
    assert entropies(counted)[7] == pytest.approx(np.mean(bits))
    assert entropies(counted)[0] == 0
    y = np.where(np.arange(30) % 3 == 2, -1, np.arange(30) % 3)
    census = take(open_data((x, y), seed=None).train, Thumbnails().fit([torch.from_numpy(x)]))
    assert census.counts.tolist() == [10, 10, 10]
    assert census.blank == 1
    for c, label in enumerate((0, 1, -1)):
        np.testing.assert_array_equal(census.histogram[c], counted[y == label].sum(0))
        assert census.entropy[c] == pytest.approx(entropies(counted)[y == label].mean())


def test_large_images_are_looked_at_every_few_pixels() -> None:
    x = torch.arange(130, dtype=torch.uint8).expand(1, 1, 130, 130).contiguous()
    counted = histograms(x)
    assert counted.sum() == 44 * 44
    assert np.flatnonzero(counted[0, 0]).tolist() == list(range(0, 130, 3))
