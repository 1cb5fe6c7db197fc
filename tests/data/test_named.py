"""Named sets: the embedded one, and torchvision's own layouts with a few images in them. Nothing is downloaded."""

from __future__ import annotations

import gzip
import json
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from unlabeled import registry
from unlabeled.data import open_data
from unlabeled.data.sets import named
from unlabeled.errors import UserError
from unlabeled.registry import Choice

from .pictures import noise, write

EVERY = (
    "aircraft caltech101 cars cifar10 cifar100 digits dtd fashion-mnist "
    "flowers102 food101 imagenette pcam pets stl10 sun397 svhn voc2007"
)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    monkeypatch.setattr(named, "DEBIAN_FASHION", Path("/nowhere"))


@pytest.fixture
def any_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision compares checksums of the real files."""
    for module in ("cifar", "svhn", "stl10", "flowers102"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda path, md5=None: Path(path).is_file())


def test_every_name_is_there() -> None:
    assert registry.names("data") == EVERY.split()


def test_digits() -> None:
    data = open_data("digits")
    assert data.held_out
    assert (len(data.train), len(data.test)) == (1434, 363)
    assert (data.train.channels, data.train.size) == (1, 8)
    assert data.train.invariances == {"intensity"}
    assert data.train.seen(range(1434)).max() == 255
    assert np.bincount(data.test.labels).min() > 20


@pytest.mark.parametrize("name", [n for n in EVERY.split() if n != "digits"])
def test_absent_sets_say_where_to_put_the_files(name: str, tmp_path: Path, no_network: None) -> None:
    root = tmp_path / "root"
    with pytest.raises(UserError) as caught:
        open_data(name, root=root)
    message = str(caught.value)
    assert "\n" not in message
    assert "install" in message or (str(root) in message and "--root" in message)
    if name == "fashion-mnist":
        assert "apt-get install dataset-fashion-mnist" in message
    assert not root.exists()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_fashion_mnist_as_debian_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    y = (np.arange(20) % 10).astype(np.uint8)
    for name, array in zip(named._IDX, (x, y, x[:10], y[:10]), strict=True):
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
    monkeypatch.setattr(named, "DEBIAN_FASHION", tmp_path)
    data = open_data("fashion-mnist", root=tmp_path / "empty")
    assert (len(data.train), len(data.test)) == (20, 10)
    assert data.train.invariances == {"mirror", "intensity"}
    assert np.array_equal(data.train.seen([3])[0, 0].numpy(), x[3])
    (tmp_path / f"{named._IDX[0]}.gz").write_bytes(gzip.compress(idx(x))[:100])
    with pytest.raises(UserError, match="broken"):
        open_data("fashion-mnist")


def test_cifar10(tmp_path: Path, any_hash: None) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for k, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        x = np.stack([noise(10 * k + i, (32, 32)).transpose(2, 0, 1).ravel() for i in range(4)])
        (folder / name).write_bytes(pickle.dumps({"data": x, "labels": [0, 1, 2, 3]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list("abcdefghij")}))
    data = open_data("cifar10", root=tmp_path)
    assert (len(data.train), len(data.test)) == (20, 4)
    assert data.train.classes == tuple("abcdefghij")
    assert np.array_equal(data.train.seen([5])[0].numpy(), noise(11, (32, 32)).transpose(2, 0, 1))


def test_svhn(tmp_path: Path, any_hash: None) -> None:
    io = pytest.importorskip("scipy.io")
    x = np.stack([noise(i, (32, 32)) for i in range(6)], 3)
    for split in ("train", "test"):
        io.savemat(tmp_path / f"{split}_32x32.mat", {"X": x, "y": np.array([[10], [1], [2], [3], [4], [5]])})
    data = open_data("svhn", root=tmp_path)
    assert data.train.labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert "mirror" not in data.train.invariances
    assert np.array_equal(data.train.seen([2])[0].numpy(), noise(2, (32, 32)).transpose(2, 0, 1))


def test_stl10_with_its_unlabelled_images(tmp_path: Path, any_hash: None) -> None:
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    x = np.stack([noise(i, (96, 96)) for i in range(5)])
    stored = np.ascontiguousarray(x.transpose(0, 3, 2, 1)).tobytes()
    for name in ("train", "test", "unlabeled"):
        (folder / f"{name}_X.bin").write_bytes(stored)
    for name in ("train", "test"):
        (folder / f"{name}_y.bin").write_bytes(bytes([1, 2, 3, 1, 2]))
    (folder / "class_names.txt").write_text("\n".join("abcdefghij"))
    data = open_data("stl10", root=tmp_path, kind=Choice("", {"size": 96}))
    assert data.train.labels.tolist() == [0, 1, 2, 0, 1] + [-1] * 5
    for i in range(10):
        assert np.array_equal(data.train.seen([i])[0].numpy(), x[i % 5].transpose(2, 0, 1))


def make_food101(root: Path) -> None:
    for split in ("train", "test"):
        paths = {c: [f"{c}/{split}{i}" for i in range(2)] for c in ("cake", "soup")}
        for path in [*paths["cake"], *paths["soup"]]:
            write(root / "food-101" / "images" / f"{path}.jpg")
        (root / "food-101" / "meta").mkdir(exist_ok=True)
        (root / "food-101" / "meta" / f"{split}.json").write_text(json.dumps(paths))


def make_dtd(root: Path) -> None:
    (root / "dtd" / "dtd" / "labels").mkdir(parents=True)
    for split, n in (("train", 1), ("val", 1), ("test", 2)):
        lines = [f"{c}/{split}{i}.jpg" for c in ("dots", "lines") for i in range(n)]
        (root / "dtd" / "dtd" / "labels" / f"{split}1.txt").write_text("\n".join(lines))
        for line in lines:
            write(root / "dtd" / "dtd" / "images" / line)


def make_pets(root: Path) -> None:
    base = root / "oxford-iiit-pet"
    (base / "annotations").mkdir(parents=True)
    for split in ("trainval", "test"):
        names = [f"{c}_{split}{i}" for c in ("Cat", "Dog") for i in range(2)]
        (base / "annotations" / f"{split}.txt").write_text("\n".join(f"{n} {1 + (n[0] == 'D')} 1 1" for n in names))
        for n in names:
            write(base / "images" / f"{n}.jpg")


def make_aircraft(root: Path) -> None:
    base = root / "fgvc-aircraft-2013b" / "data"
    for split in ("trainval", "test"):
        for i in range(4):
            write(base / "images" / f"{split}{i}.jpg")
        lines = [f"{split}{i} {('707-320', 'A340')[i % 2]}" for i in range(4)]
        (base / f"images_variant_{split}.txt").write_text("\n".join(lines))
    (base / "variants.txt").write_text("707-320\nA340\n")


def make_imagenette(root: Path) -> None:
    for split in ("train", "val"):
        for wnid in ("n01440764", "n02102040"):
            for i in range(2):
                path = root / "imagenette2-160" / split / wnid / f"{i}.JPEG"
                write(path.with_suffix(".jpeg")).rename(path)


WITH_TEST = [make_food101, make_dtd, make_pets, make_aircraft, make_imagenette]


@pytest.mark.parametrize("make", WITH_TEST, ids=lambda m: m.__name__[5:])
def test_photographs_with_a_test_split(make, tmp_path: Path) -> None:
    make(tmp_path)
    name = make.__name__[5:]
    data = open_data(name, root=tmp_path)
    assert not data.held_out
    assert (len(data.train), len(data.test)) == (4, 4)
    assert sorted(data.train.labels.tolist()) == [0, 0, 1, 1]
    assert len(data.train.classes) == 2
    assert data.train.skipped == []
    assert data.train.seen(range(4)).shape == (4, 3, 16, 16)
    assert ("flip" in data.train.invariances) == (name == "dtd")


def test_photographs_without_a_test_split(tmp_path: Path) -> None:
    for c in ("BACKGROUND_Google", "ant", "bee"):
        for i in range(1, 6):
            write(tmp_path / "caltech101" / "101_ObjectCategories" / c / f"image_{i:04d}.jpg", seed=i)
    data = open_data("caltech101", root=tmp_path)
    assert data.held_out
    assert (len(data.train), len(data.test)) == (8, 2)
    assert data.train.classes == ("ant", "bee")
    for c in ("abbey", "barn"):
        for i in range(5):
            write(tmp_path / "SUN397" / c[0] / c / f"sun_{i}.jpg", seed=i)
    (tmp_path / "SUN397" / "ClassName.txt").write_text("/a/abbey\n/b/barn\n")
    assert open_data("sun397", root=tmp_path).train.classes == ("abbey", "barn")


def test_voc2007_takes_the_most_frequent_object(tmp_path: Path) -> None:
    base = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    for split in ("trainval", "test"):
        for i, names in enumerate((["cat", "dog", "dog"], ["cat", "dog"])):
            objects = "".join(f"<object><name>{n}</name></object>" for n in names)
            (base / "Annotations" / f"{split}{i}.xml").write_text(f"<annotation>{objects}</annotation>")
            write(base / "JPEGImages" / f"{split}{i}.jpg")
        (base / "ImageSets" / "Main" / f"{split}.txt").write_text(f"{split}0\n{split}1\n")
    data = open_data("voc2007", root=tmp_path)
    assert data.train.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [1, 0]
