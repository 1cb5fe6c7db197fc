"""Labels that nobody needs stop nothing: several a sample, measured values, a folder for each picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from unlabeled.data import open_data
from unlabeled.recipe import Roles

from .pictures import noise, write


class Items(Dataset):  # type: ignore[type-arg]
    """30 pictures, and whatever is beside each."""

    def __init__(self, beside: Any) -> None:
        self.beside = beside

    def __len__(self) -> int:
        return 30

    def __getitem__(self, i: int) -> Any:
        return torch.from_numpy(noise(i)).permute(2, 0, 1), self.beside(i)


@pytest.mark.parametrize(
    ("beside", "why"),
    [
        (lambda i: torch.tensor([1.0, 0.0, i % 2]), "has 3 values a sample, and one is a class"),
        (lambda i: torch.zeros(2, 2), "has 4 values a sample"),
        (lambda i: [0] * (1 + i % 3), "is of type list, and a whole number or a name is a class"),
        (lambda i: {"boxes": []}, "is of type dict"),
        (lambda i: i / 7, "30 different real numbers, from 0 to 4.14286: a measurement"),
        (lambda i: np.int64(i), "30 different numbers, from 0 to 29: a measurement"),
    ],
)
def test_what_comes_beside_an_item_need_be_no_label(beside: Any, why: str) -> None:
    data = open_data(Items(beside))
    assert data.train.labels is None
    assert why in data.remarks()[0]
    assert why in data.train.candidates


def test_a_label_in_a_tensor_of_one_is_a_label() -> None:
    assert open_data(Items(lambda i: torch.tensor([i % 3])), seed=None).train.classes == ("0", "1", "2")


def test_the_same_of_arrays() -> None:
    x = np.stack([noise(i) for i in range(30)])
    for y in (np.zeros((30, 4)), [{}] * 30, np.arange(30), torch.rand(30, 2)):
        data = open_data({"x_train": x, "y_train": y, "x_test": x, "y_test": y})
        assert data.train.labels is data.test.labels is None
        assert "No labels: what comes with the samples of arrays" in data.remarks()[0]


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """A folder for each of 40 patients, and two pictures of every eighth."""
    for i in range(40):
        write(tmp_path / "d" / f"patient{i}" / "scan.png", seed=i)
        if i % 8 == 0:
            write(tmp_path / "d" / f"patient{i}" / "second.png", seed=100 + i)
    return tmp_path / "d"


def test_a_folder_for_each_picture_is_no_class_and_is_kept_together(patients: Path) -> None:
    data = open_data(patients)
    assert (data.train.labels, data.group) == (None, "folder")
    assert len(data.train) + len(data.test) == 45
    assert 3 <= len(data.test) <= 15
    sides = [{Path(source.path(i)).parent.name for i in range(len(source))} for source in (data.train, data.test)]
    assert not sides[0] & sides[1]
    assert "40 folders with 45 files are too many for classes; each is kept together" in data.remarks()[0]
    assert len(open_data(patients, seed=None, roles=Roles(label="folder")).train.classes) == 40


def test_folders_of_two_pictures_are_classes(patients: Path) -> None:
    for i in range(40):
        write(patients / f"patient{i}" / "third.png", seed=200 + i)
    assert len(open_data(patients, seed=None).train.classes) == 40
