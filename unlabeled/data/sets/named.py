"""Data sets by name that are arrays: digits, Fashion-MNIST, CIFAR, SVHN, STL-10. Each declares what views may do to it."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np

from unlabeled.data.formats.arrays import ArrayReader
from unlabeled.data.formats.folder import stamp
from unlabeled.data.reader import Listing, Splits
from unlabeled.data.sets.download import data_root, torchvision_sets
from unlabeled.errors import UserError
from unlabeled.registry import register

DEBIAN_FASHION = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist

_CLOTHES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")

Array = np.ndarray[Any, Any]


@register("digits")
def digits(name: str, root: str | Path | None) -> Splits:
    """Opens scikit-learn's 1,797 handwritten digits, 8x8 grey: embedded, no download, no test split, not to be mirrored."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    classes = tuple(str(c) for c in bunch.target_names)
    return Listing(
        name, ArrayReader(images, name), bunch.target.astype(np.int64), classes, invariances=frozenset({"intensity"})
    ), None


@register("fashion-mnist")
def fashion_mnist(name: str, root: str | Path | None) -> Splits:
    """Opens 70,000 articles of clothing, 28x28 grey. Looked for below the root, then in Debian's folder, then downloaded."""
    base = data_root(root)
    places = (base / "FashionMNIST" / "raw", base / "fashion-mnist", base, DEBIAN_FASHION)
    found = next((p for p in places if all(_idx_path(p, f) for f in _IDX)), None)
    if found is None:
        torchvision_sets("FashionMNIST", root, [{"train": True}], "apt-get install dataset-fashion-mnist, or ")
        found = base / "FashionMNIST" / "raw"
    x_train, y_train, x_test, y_test = (read_idx(found, f) for f in _IDX)
    train, test = (
        Listing(
            name,
            ArrayReader(x, f"{name}/{split}"),
            y.astype(np.int64),
            _CLOTHES,
            invariances=frozenset({"mirror", "intensity"}),
        )
        for split, x, y in (("train", x_train, y_train), ("test", x_test, y_test))
    )
    return train, test


@register("cifar10", says="Opens CIFAR-10: 50,000 + 10,000 photographs of ten kinds of things, 32x32.")
@register("cifar100", says="Opens CIFAR-100: 50,000 + 10,000 photographs of a hundred kinds of things, 32x32.")
def cifar(name: str, root: str | Path | None) -> Splits:
    """Opens CIFAR: 50,000 + 10,000 photographs, 32x32."""
    made = torchvision_sets(name.upper(), root, [{"train": True}, {"train": False}])
    train, test = (
        Listing(name, ArrayReader(d.data, f"{name}/{s}"), np.asarray(d.targets, np.int64), tuple(d.classes))
        for s, d in zip(("train", "test"), made, strict=True)
    )
    return train, test


@register("svhn")
def svhn(name: str, root: str | Path | None) -> Splits:
    """Opens Street View House Numbers: 73,257 + 26,032 digits, 32x32; not to be mirrored."""
    made = torchvision_sets("SVHN", root, [{"split": "train"}, {"split": "test"}])
    classes, invariances = tuple("0123456789"), frozenset({"colour", "intensity"})
    train, test = (
        Listing(name, ArrayReader(d.data, f"{name}/{s}"), np.asarray(d.labels, np.int64), classes, invariances=invariances)
        for s, d in zip(("train", "test"), made, strict=True)
    )
    return train, test


@register("stl10")
def stl10(name: str, root: str | Path | None) -> Splits:
    """Opens STL-10, 96x96: train is the 5,000 labelled images followed by the 100,000 unlabelled ones (label -1); test
    8,000."""
    made = torchvision_sets("STL10", root, [{"split": "train"}, {"split": "test"}])
    labelled, test = made
    file = Path(labelled.root) / labelled.base_folder / "unlabeled_X.bin"
    free = np.memmap(file, np.uint8, "r").reshape(-1, 3, 96, 96).transpose(0, 1, 3, 2)  # stored by columns
    classes = tuple(labelled.classes)
    labels = np.concatenate([np.asarray(labelled.labels, np.int64), np.full(len(free), -1, np.int64)])
    place = f"{file.resolve()} {stamp(file.stat)}"
    reader = _Joined(ArrayReader(labelled.data, f"{name}/train"), ArrayReader(free, f"{name}/unlabeled"), place)
    tests = Listing(name, ArrayReader(test.data, f"{name}/test"), np.asarray(test.labels, np.int64), classes)
    return Listing(name, reader, labels, classes), tests


class _Joined:
    """Two arrays, one after the other, without a copy."""

    lasting = True
    held = None

    def __init__(self, first: ArrayReader, second: ArrayReader, place: str) -> None:
        self._first, self._second, self.place = first, second, place
        self.channels = first.channels
        self.identity = f"{first.identity} {second.identity}"

    def __len__(self) -> int:
        return len(self._first) + len(self._second)

    def size(self, index: int) -> int:
        return 0

    def read(self, index: int) -> Any:
        n = len(self._first)
        return self._first.read(index) if index < n else self._second.read(index - n)

    def contents(self) -> list[bytes]:
        return self._first.contents() + self._second.contents()

    def path(self, index: int) -> str:
        n = len(self._first)
        return self._first.path(index) if index < n else self._second.path(index - n)


def read_idx(folder: Path, name: str) -> Array:
    """Reads an array in LeCun's idx format, plain or gzipped.

    Raises:
        UserError: truncated, or not idx of unsigned bytes.
    """
    path = _idx_path(folder, name)
    assert path is not None
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        zero, kind, dimensions = struct.unpack_from(">HBB", data)
        shape = struct.unpack_from(f">{dimensions}I", data, 4)
        if (zero, kind) != (0, 8):
            raise ValueError("not an idx file of unsigned bytes")
        return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise UserError(f"{path}: broken ({error}): download or install it again") from None


def _idx_path(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file() and os.access(p, os.R_OK)), None)
