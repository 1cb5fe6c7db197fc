"""Named sets whose labels are in pickles, MATLAB or HDF5 files: torchvision's layouts with a few images in them."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import io

from unlabeled.data import open_data

from .pictures import noise, write


@pytest.fixture
def any_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchvision compares checksums of the real files."""
    for module in ("cifar", "flowers102"):
        monkeypatch.setattr(f"torchvision.datasets.{module}.check_integrity", lambda path, md5=None: Path(path).is_file())


def test_cifar100(tmp_path: Path, any_hash: None) -> None:
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for k, name in enumerate(("train", "test")):
        x = np.stack([noise(10 * k + i, (32, 32)).transpose(2, 0, 1).ravel() for i in range(4)])
        (folder / name).write_bytes(pickle.dumps({"data": x, "fine_labels": [2, 0, 1, 2], "coarse_labels": [0, 0, 0, 0]}))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list("abc"), "coarse_label_names": ["z"]}))
    data = open_data("cifar100", root=tmp_path)
    assert (len(data.train), len(data.test)) == (4, 4)
    assert data.train.classes == ("a", "b", "c")
    assert data.train.labels.tolist() == [2, 0, 1, 2]
    assert np.array_equal(data.test.seen([3])[0].numpy(), noise(13, (32, 32)).transpose(2, 0, 1))


def test_flowers102(tmp_path: Path, any_hash: None) -> None:
    base = tmp_path / "flowers-102"
    for i in range(1, 9):
        write(base / "jpg" / f"image_{i:05d}.jpg", seed=i)
    io.savemat(base / "imagelabels.mat", {"labels": np.array([[1, 2, 102, 1, 2, 3, 1, 2]])})
    io.savemat(
        base / "setid.mat", {"trnid": np.array([[3, 1]]), "valid": np.array([[5, 4]]), "tstid": np.array([[8, 7, 6]])}
    )
    data = open_data("flowers102", root=tmp_path)
    assert (len(data.train), len(data.test)) == (4, 3)
    assert len(data.train.classes) == 102
    assert sorted(data.train.labels.tolist()) == [0, 0, 1, 101]
    assert sorted(data.test.labels.tolist()) == [0, 1, 2]
    assert data.train.skipped == []
    assert data.train.seen(range(4)).shape[:2] == (4, 3)


def test_cars(tmp_path: Path) -> None:
    base = tmp_path / "stanford_cars"
    (base / "devkit").mkdir(parents=True)
    kind = [("fname", object), ("class", np.uint8)]
    for split, where in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        names = [f"{split}{i}.jpg" for i in range(4)]
        for i, name in enumerate(names):
            write(base / f"cars_{split}" / name, seed=i)
        annotations = np.array([(name, 1 + i % 2) for i, name in enumerate(names)], kind)
        io.savemat(base / where, {"annotations": annotations})
    io.savemat(base / "devkit" / "cars_meta.mat", {"class_names": np.array(["Audi S4", "BMW M3"], object)})
    data = open_data("cars", root=tmp_path)
    assert (len(data.train), len(data.test)) == (4, 4)
    assert data.train.classes == ("Audi S4", "BMW M3")
    assert data.train.labels.tolist() == [0, 1, 0, 1]
    assert data.train.skipped == []


def test_pcam(tmp_path: Path) -> None:
    base = tmp_path / "pcam"
    base.mkdir()
    for k, split in enumerate(("train", "test")):
        with h5py.File(base / f"camelyonpatch_level_2_split_{split}_x.h5", "w") as file:
            file["x"] = np.stack([noise(10 * k + i, (96, 96)) for i in range(4)])
        with h5py.File(base / f"camelyonpatch_level_2_split_{split}_y.h5", "w") as file:
            file["y"] = np.array([1, 0, 0, 1], np.uint8).reshape(4, 1, 1, 1)
    data = open_data("pcam", root=tmp_path)
    assert (len(data.train), len(data.test)) == (4, 4)
    assert data.train.classes == ("normal", "tumour")
    assert data.train.labels.tolist() == [1, 0, 0, 1]
    assert {"flip", "rotation"} <= data.train.invariances
    assert np.array_equal(data.test.seen([2])[0].numpy(), noise(12, (96, 96)).transpose(2, 0, 1))
