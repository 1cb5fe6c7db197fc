"""Each way to give data, and what comes back."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

from unlabeled.data import Data, open_data
from unlabeled.errors import UserError
from unlabeled.registry import Choice

from .conftest import FIRST
from .pictures import encoded, noise, write


def everything(data: Data) -> torch.Tensor:
    assert data.test is not None
    return torch.cat([s.seen(range(len(s))) for s in (data.train, data.test)])


def test_a_folder_of_classes(class_folder: Path) -> None:
    data = open_data(class_folder)
    assert data.held_out
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (24, 6)
    assert data.train.classes == ("ant", "bee", "cat")
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    assert (data.train.channels, data.train.size, data.train.native) == (3, 16, (16, 16))
    assert data.train.invariances == {"mirror", "colour", "intensity"}
    x = data.train.seen(torch.tensor([0, 5]))
    assert (x.dtype, x.shape) == (torch.uint8, (2, 3, 16, 16))
    originals = {noise(FIRST + s).transpose(2, 0, 1).tobytes(): s // 10 for s in range(30)}
    for i in range(24):
        assert originals[data.train.seen([i])[0].numpy().tobytes()] == data.train.labels[i]


def test_a_flat_folder_is_unlabelled(tmp_path: Path) -> None:
    for i in range(10):
        write(tmp_path / "flat" / f"{i}.jpg", seed=i)
    (tmp_path / "flat" / "notes.txt").write_text("not an image")
    write(tmp_path / "flat" / ".hidden" / "a.png")
    data = open_data(str(tmp_path / "flat"))
    assert data.train.labels is None
    assert data.train.classes == ()
    assert len(everything(data)) == 10


@pytest.mark.parametrize("test_name", ["test", "val", "Validation"])
def test_a_folder_with_splits_of_any_depth(tmp_path: Path, test_name: str) -> None:
    for split, n in (("train", 4), (test_name, 2)):
        for c in "ab":
            for i in range(n):
                write(tmp_path / "top" / "wrapper" / split / c / "deep" / "er" / f"{i}.png", seed=i)
    data = open_data(tmp_path / "top")
    assert not data.held_out
    assert data.test is not None
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.test.labels.tolist() == [0, 0, 1, 1]


def test_an_unlabelled_test_yields_to_a_labelled_val(tmp_path: Path) -> None:
    for c in "ab":
        for i in range(3):
            write(tmp_path / "d" / "train" / c / f"{i}.png")
            write(tmp_path / "d" / "val" / c / f"{i}.png")
            write(tmp_path / "d" / "test" / f"{c}{i}.png")
    assert "val" in open_data(tmp_path / "d").test._store.reader.path(0)


def test_classes_named_like_splits_stay_classes(tmp_path: Path) -> None:
    for c in ("train", "bus"):
        for i in range(4):
            write(tmp_path / "vehicles" / c / f"{i}.png")
    assert open_data(tmp_path / "vehicles", seed=None).train.classes == ("bus", "train")


def test_a_folder_beside_the_splits_is_no_class(tmp_path: Path) -> None:
    for c in ("train", "test", "extra"):
        write(tmp_path / "d" / c / "0.png")
    with pytest.raises(UserError, match="'extra'"):
        open_data(tmp_path / "d")


def test_grey_files_are_opened_with_the_channels_that_an_encoder_wants(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / "d" / f"{i}.png", noise(i)[..., 0])
    assert open_data(tmp_path / "d", seed=None).train.channels == 1
    assert open_data(tmp_path / "d", seed=None, channels=3).train.seen([0]).shape[1] == 3


def test_a_test_split_is_numbered_by_the_names_of_train(tmp_path: Path) -> None:
    for c in "abc":
        write(tmp_path / "d" / "train" / c / "0.png")
    for c in "bc":
        write(tmp_path / "d" / "test" / c / "0.png")
    assert open_data(tmp_path / "d").test.labels.tolist() == [1, 2]


def test_a_zip(class_folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as archive:
        for file in class_folder.rglob("*.png"):
            archive.write(file, Path("pictures") / file.relative_to(class_folder))
        archive.writestr("__MACOSX/pictures/ant/._0.png", b"junk")
    folder, zipped = open_data(class_folder), open_data(tmp_path / "p.zip")
    assert zipped.train.classes == folder.train.classes
    assert torch.equal(everything(folder), everything(zipped))


def table(n: int, labels: list[Any] | None = None, names: list[str] | None = None, seed: int = 0) -> pa.Table:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": encoded(noise(seed + i)), "path": f"{i}.png"} for i in range(n)]
    columns: dict[str, Any] = {"image": pa.array(cells, kind)}
    if labels is not None:
        columns["label"] = labels
    made = pa.table(columns)
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": names, "_type": "ClassLabel"}}
        made = made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    return made


def test_parquet_of_the_hub(tmp_path: Path) -> None:
    pq.write_table(table(20, [i % 3 for i in range(20)], ["x", "y", "z"]), tmp_path / "a.parquet", row_group_size=6)
    data = open_data(tmp_path / "a.parquet")
    assert data.held_out
    assert data.train.classes == ("x", "y", "z")
    i = len(data.train) - 1
    row = int(data.train._rows[i])
    assert np.array_equal(data.train.seen([i])[0].numpy(), noise(row).transpose(2, 0, 1))
    assert data.train.labels[i] == row % 3


def test_a_copied_parquet_file_is_the_same_data_and_a_changed_one_is_not(tmp_path: Path, monkeypatch) -> None:
    pq.write_table(table(20, [0, 1] * 10, ["x", "y"]), tmp_path / "a.parquet")
    shutil.copyfile(tmp_path / "a.parquet", tmp_path / "b.parquet")
    os.utime(tmp_path / "b.parquet", (1, 1))
    pq.write_table(table(20, [1, 0] * 10, ["x", "y"]), tmp_path / "c.parquet")
    known = {name: open_data(tmp_path / f"{name}.parquet").train.fingerprint for name in "abc"}
    assert known["a"] == known["b"] != known["c"]
    monkeypatch.setattr("unlabeled.data.formats.parquet._HASHED_BYTES", 10)
    assert open_data(tmp_path / "a.parquet").train.fingerprint not in known.values()


def test_parquet_shards_with_splits(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "data"
    folder.mkdir(parents=True)
    for s in range(2):
        shard = table(6, ["cat", None, "dog"] * 2, seed=6 * s)
        pq.write_table(shard, folder / f"train-0000{s}-of-00002.parquet")
    pq.write_table(table(2, ["dog", "dog"]), folder / "test-00000-of-00001.parquet")
    data = open_data(tmp_path / "hub")
    assert not data.held_out
    assert data.train.labels.tolist() == [0, -1, 1] * 4
    assert data.test.labels.tolist() == [1, 1]
    assert np.array_equal(data.train.seen([7])[0].numpy(), noise(7).transpose(2, 0, 1))
    both = open_data(f"train={folder / 'train-00000-of-00002.parquet'},test={folder / 'test-00000-of-00001.parquet'}")
    assert (len(both.train), len(both.test)) == (6, 2)


@pytest.mark.parametrize("form", ["x_train y_train x_test y_test", "train_images train_labels test_images test_labels"])
def test_npz_with_splits(tmp_path: Path, form: str) -> None:
    keys = form.split()
    x, y = np.stack([noise(i) for i in range(8)]), np.arange(8) % 2 + 5
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (x, y, x[:4], y[:4]), strict=True)))
    data = open_data(tmp_path / "a.npz")
    assert data.train.classes == ("5", "6")
    assert data.test.labels.tolist() == [0, 1, 0, 1]
    assert np.array_equal(data.train.seen([3])[0].numpy(), x[3].transpose(2, 0, 1))


def test_arrays_in_memory() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (10, 9, 9), dtype=np.uint8)
    assert open_data(grey, seed=None).train.channels == 1
    assert open_data(grey, seed=None).train.invariances == {"mirror", "intensity"}
    many = np.random.default_rng(0).random((10, 9, 9, 7), np.float32)
    assert open_data((many, ["a", "b"] * 5), seed=None).train.seen([0]).shape == (1, 7, 9, 9)
    tensors = torch.rand(10, 3, 8, 8)
    data = open_data({"images": tensors, "labels": torch.arange(10) % 2}, seed=None)
    assert data.train.channels == 3
    oblong = open_data(np.zeros((10, 12, 30, 3), np.uint8), kind=Choice("", {"fit": "crop"}), seed=None)
    assert (oblong.train.size, oblong.train.native) == (12, (12, 30))
    assert open_data(grey.astype(np.uint16) * 257, seed=None).train.seen([0]).max() > 100
    assert open_data(data) is data


class Items(Dataset):  # type: ignore[type-arg]
    """Yields whatever it is given."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> Any:
        return self.items[i]


def test_any_dataset() -> None:
    pictures = [Image.fromarray(noise(i)) for i in range(10)]
    assert open_data(Items(pictures)).train.labels is None
    data = open_data(Items([(p, i % 2) for i, p in enumerate(pictures)]))
    assert data.train.classes == ("0", "1")
    assert data.train.seen([0]).shape == (1, 3, 16, 16)
    tensors = TensorDataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 4)
    assert open_data(tensors, seed=None).train.channels == 1
    assert len(open_data(Subset(tensors, list(range(0, 20, 2))), seed=None).train.classes) == 2


def test_native_size_is_that_of_the_file_and_pictures_of_a_dataset_stay_as_they_are(tmp_path: Path) -> None:
    grey = np.repeat(noise(0, (300, 400), 1)[:, :, None], 3, 2)
    for i in range(4):
        write(tmp_path / "grey" / f"{i}.jpg", grey)
    assert open_data(tmp_path / "grey", seed=None).train.native == (300, 400)
    assert open_data(tmp_path / "grey", seed=None).train.channels == 1
    pictures = [Image.open(tmp_path / "grey" / f"{i}.jpg") for i in range(4)]
    assert open_data(pictures, kind=Choice("", {"size": 28}), seed=None).train.seen([0]).shape == (1, 1, 32, 32)
    assert pictures[0].size == (400, 300)


def test_image_sizes(tmp_path: Path) -> None:
    for i in range(4):
        write(tmp_path / "big" / f"{i}.jpg", noise(i, (300, 400)))
    assert open_data(tmp_path / "big", seed=None).train.size == 256
    assert open_data(tmp_path / "big", kind=Choice("", {"size": 112}), seed=None).train.size == 128
    assert open_data(tmp_path / "big", kind=Choice("", {"size": 512}), seed=None).train.size == 300
    assert open_data(tmp_path / "big", seed=None).train.native == (300, 400)
    square = np.zeros((6, 96, 96, 3), np.uint8)
    assert open_data(square, kind=Choice("", {"size": 96}), seed=None).train.size == 96
    assert open_data(square, kind=Choice("", {"size": 56}), seed=None).train.size == 64
    assert open_data(np.zeros((6, 32, 32, 3), np.uint8), kind=Choice("", {"size": 16}), seed=None).train.size == 32
