"""Samples that are already in memory: NumPy arrays, `.npz` and `.npy` files, and images of a `torch.utils.data.Dataset`."""

from __future__ import annotations

import hashlib
import threading
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from unlabeled.data.content import of_what
from unlabeled.data.formats.waves import RATE, WaveReader, rate_of
from unlabeled.data.kinds.stored import BadImageError
from unlabeled.data.labels import own_labels
from unlabeled.data.reader import Listing, Raw, Reader, Splits, readable
from unlabeled.errors import UserError
from unlabeled.registry import Choice

_HASHED_BYTES = 1 << 28
_IMAGES = ("x", "images", "image", "data", "arr_0", "img", "imgs")
_LABELS = ("y", "labels", "label", "targets", "target", "arr_1")

_WAVES = ("waves", "wave", "waveforms", "waveform", "audio", "sound", "sounds", "recordings", "signals")

Array = np.ndarray[Any, Any]
Read = Callable[[Any], Reader]
ANY = Choice("")
"""A kind that is found from the data."""


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes arrays as `numpy.savez` does, of any name: that function has `file` for itself."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, values, allow_pickle=False)


def channels_last(image: Array, axis: str = "", usual: str = "") -> Array:
    """Returns images (..., H, W, C), whether their channels came first or last.

    The axis of the channels is told from the others: where those are equal, as of square pictures, it is the odd one out;
    else it is the shortest.

    Args:
        image: (..., H, W, C) or (..., C, H, W).
        axis: `first` or `last`, where it is known.
        usual: which it is where the shape does not tell.

    Raises:
        UserError: the shape does not tell, and nothing is usual.

    >>> channels_last(np.zeros((13, 64, 64))).shape, channels_last(np.zeros((64, 64, 13))).shape
    ((64, 64, 13), (64, 64, 13))
    """
    a, b, c = image.shape[-3:]
    if not axis and a != c:
        axis = "last" if a == b or (b != c and c < a) else "first"
    axis = axis or usual
    if not axis:
        raise UserError(f"images of shape {(a, b, c)}: are the channels first or last? Say --kind.channels first, or last")
    return np.moveaxis(image, -3, -1) if axis == "first" else image


class ArrayReader:
    """Images (n, H, W, C) of any type of numbers.

    Args:
        images: (n, H, W), (n, H, W, C) or (n, C, H, W); see `channels_last`.
        name: for messages and paths.
        axis: of the channels, `first` or `last`; "" to tell it from the shape.

    Raises:
        UserError: another shape, no image, or values that are no numbers.
    """

    def __init__(self, images: Array, name: str, axis: str = "") -> None:
        if images.ndim not in (3, 4) or 0 in images.shape:
            waves = "; of recordings (n, samples) say --kind sound --kind.rate 16000" * (images.ndim == 2)
            raise UserError(f"{name}: images of shape {images.shape}; give (n, H, W) or (n, H, W, C), none of them 0{waves}")
        if images.ndim == 3:
            images = images[:, :, :, None]
        else:
            try:
                images = channels_last(images, axis)
            except UserError as error:
                raise UserError(f"{name}: {error}") from None
        if images.dtype.kind not in "biuf":
            raise UserError(f"{name}: values of type {images.dtype}; give whole or real numbers, such as uint8")
        if images.dtype.kind == "f" and not (np.isfinite(images.min()) and np.isfinite(images.max())):
            raise UserError(f"{name}: contains NaN or infinite values: give numbers only")
        self._images = images.astype(np.float32) if images.dtype == np.float16 else images
        self._name = name
        self.channels: int | None = images.shape[3]
        self.held: Array | None = None if isinstance(images, np.memmap) else self._images
        rows = max(1, min(len(images), _HASHED_BYTES // max(1, self._images[0].nbytes)))
        self.lasting, self.place = rows == len(images), ""
        spread = self._images if self.lasting else self._images[np.linspace(0, len(images) - 1, rows).astype(int)]
        self.identity = f"{images.shape} " + hashlib.blake2b(np.ascontiguousarray(spread).data, digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._images)

    def size(self, index: int) -> int:
        return 0

    def read(self, index: int) -> Raw:
        image: Array = self._images[index]
        return image

    def contents(self) -> list[bytes]:
        return [of_what(partial(np.ascontiguousarray, image)) for image in self._images]

    def path(self, index: int) -> str:
        return f"{self._name}[{index}]"


class DatasetReader:
    """Items of a `torch.utils.data.Dataset`: an image, or a tuple that starts with one. One item at a time.

    Tensors and arrays are (C, H, W), (H, W, C) or (H, W); where the shape does not tell, tensors have their channels first.

    Args:
        dataset: map-style.
        name: for paths.
        axis: of the channels, `first` or `last`; "" to tell it from the shape.
        place: where it lies and when it was written, if it cannot have changed otherwise: what is decoded is then kept for
            the next process.
    """

    channels = None
    held = None

    def __init__(self, dataset: Any, name: str, place: str = "", axis: str = "") -> None:
        self.place, self.lasting, self._axis = place, bool(place), axis
        self._dataset, self._name, self._lock = dataset, name, threading.Lock()
        digest = hashlib.blake2b(f"{type(dataset).__name__} {len(dataset)}".encode(), digest_size=16)
        for index in np.unique(np.linspace(0, len(dataset) - 1, min(len(dataset), 16)).astype(int)).tolist():
            try:
                digest.update(self._array(index).data)
            except Exception as error:  # the check names it as a bad sample
                digest.update(str(error).encode())
        self.identity = digest.hexdigest()

    def __len__(self) -> int:
        return len(self._dataset)

    def size(self, index: int) -> int:
        return 0

    def read(self, index: int) -> Raw:
        with self._lock:
            item = self._dataset[index]
        image = item[0] if isinstance(item, tuple | list) else item
        if isinstance(image, Tensor):
            array: Array = image.detach().cpu().numpy()
            return channels_last(array, self._axis, usual="first") if array.ndim == 3 else array
        if isinstance(image, Image.Image):
            image.load()  # what is loaded is not changed by a later `draft`: the image may be the data set's own
            return image
        if isinstance(image, np.ndarray):
            return channels_last(image, self._axis) if image.ndim == 3 else image
        raise BadImageError(f"an item of type {type(image).__name__}; an image is a PIL image, an array or a tensor")

    def contents(self) -> list[bytes]:
        return [of_what(partial(self._array, i)) for i in range(len(self))]

    def _array(self, index: int) -> Array:
        return np.ascontiguousarray(np.asarray(self.read(index)))

    def path(self, index: int) -> str:
        return f"{self._name}[{index}]"


def open_arrays(data: Array | Tensor | tuple[Any, ...] | Mapping[str, Any], name: str, kind: Choice = ANY) -> Splits:
    """Opens images; (images, labels); or a mapping with keys such as x_train, y_train, x_test, y_test, or images, labels. Or
    recordings, where the user says so or a number called rate lies beside them.

    Raises:
        UserError: no samples among the keys, or anything `ArrayReader`, `WaveReader` and `own_labels` refuse.
    """
    beside = data if isinstance(data, Mapping) else {}
    if kind.name == "sound" or (not kind.name and any(str(key).lower() in RATE for key in beside)):
        rate = rate_of(beside, kind.options.get("rate"), name)
        read: Read = lambda waves: WaveReader(_array(waves), rate, name)  # noqa: E731
        made = partial(_listing, name=name, read=read, kind="sound")
    else:
        made = partial(_listing, name=name, read=partial(_images, name=name, axis=_axis(kind)))
    if isinstance(data, tuple):
        if len(data) != 2:
            raise UserError(f"{name}: a tuple of {len(data)}; give (images, labels)")
        return made(data[0], data[1], []), None
    if not isinstance(data, Mapping):
        return made(data, None, []), None
    keys = {str(k).lower(): k for k in data}
    classes = [str(c) for c in np.asarray(data[keys["classes"]]).tolist()] if "classes" in keys else []
    train = _pair(keys, "train") or _pair(keys, "")
    if train is None:
        listed = ", ".join(map(str, data)) or "none"
        raise UserError(f"{name}: no images among its keys ({listed}): name them x_train, y_train, x_test, y_test or x, y")
    first = made(data[train[0]], data[train[1]] if train[1] else None, classes)
    test = _pair(keys, "test") or _pair(keys, "val") or _pair(keys, "valid")
    if test is None:
        return first, None
    return first, made(data[test[0]], data[test[1]] if test[1] else None, classes)


def open_npz(path: Path, name: str, kind: Choice = ANY) -> Splits:
    """Opens a `.npz` of arrays by name, or a `.npy` of images or recordings.

    Raises:
        UserError: it cannot be read, or holds Python objects.
    """
    # NumPy leaves what it opened itself open, where it is no archive
    with readable(name, path.suffix, "save it again with numpy.savez"), path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        return open_arrays(loaded if isinstance(loaded, np.ndarray) else dict(loaded.items()), name, kind)


def open_dataset(dataset: Any, name: str, kind: Choice = ANY) -> Splits:
    """Opens a map-style data set. Its labels are its `targets` or `labels`, or are collected by reading every item once.

    Raises:
        UserError: it has no length, is empty, is said to be of recordings, or has labels without a class.
    """
    if kind.name not in ("", "image"):
        raise UserError(f"{name}: a data set is read as images: give recordings as an array (n, samples), or as files")
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")) or not _has_length(dataset):
        raise UserError(f"{name}: a data set without length or index; give a map-style torch.utils.data.Dataset")
    n = len(dataset)
    if not n:
        raise UserError(f"{name}: the data set is empty")
    reader = DatasetReader(dataset, name, axis=_axis(kind))
    values = _declared_labels(dataset, n)
    if values is None:
        first = dataset[0]
        if not isinstance(first, tuple | list) or len(first) < 2:
            return Listing(name, reader, None, ()), None
        values = [_plain(dataset[i][1]) for i in range(n)]
    classes = getattr(dataset, "classes", None)
    names = [str(c) for c in classes] if isinstance(classes, list | tuple) else []
    labels, found, why = own_labels(values, names, n, name)
    return Listing(name, reader, labels, found, unlabelled=why), None


def _axis(kind: Choice) -> str:
    """Where the channels of images are, if the user says so."""
    return str(kind.options.get("channels") or "")


def _images(images: Any, name: str, axis: str) -> ArrayReader:
    if isinstance(images, Tensor):
        array = _array(images)
        images = channels_last(array, axis, usual="first") if array.ndim == 4 else array
        axis = "last"
    return ArrayReader(np.asanyarray(images), name, axis)


def _array(values: Any) -> Array:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asanyarray(values)


def _listing(samples: Any, labels: Any, classes: list[str], *, name: str, read: Read, kind: str = "image") -> Listing:
    reader = read(samples)
    if labels is None:
        return Listing(name, reader, None, (), kind)
    values = labels.detach().cpu().numpy() if isinstance(labels, Tensor) else labels
    numbers, found, why = own_labels(values, classes, len(reader), name)
    return Listing(name, reader, numbers, found, kind, unlabelled=why)


def _pair(keys: Mapping[str, Any], split: str) -> tuple[Any, Any] | None:
    """The keys of samples and labels of a split (x_train, train_x, trainx, train_images ...), None without samples."""

    def find(words: tuple[str, ...]) -> Any:
        forms = (f"{w}_{split}" for w in words), (f"{split}_{w}" for w in words), (w + split for w in words)
        known = [f for form in forms for f in form] if split else list(words)
        return next((keys[k] for k in known if k in keys), None)

    images = find((*_IMAGES, *_WAVES))
    return None if images is None else (images, find(_LABELS))


def _declared_labels(dataset: Any, n: int) -> Any:
    """`targets` or `labels` of a data set that does not change them, also through a Subset; otherwise None."""
    inner, indices = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is not None and indices is not None:
        whole = _declared_labels(inner, len(inner))
        return None if whole is None else np.asarray(whole)[np.asarray(indices)]
    if getattr(dataset, "target_transform", None) is not None:
        return None
    tensors = getattr(dataset, "tensors", None)
    found = tensors[1] if isinstance(tensors, tuple) and len(tensors) > 1 else None
    for attribute in ("targets", "labels"):
        found = getattr(dataset, attribute, None) if found is None else found
    if found is None or not hasattr(found, "__len__") or len(found) != n:
        return None
    return found.numpy() if isinstance(found, Tensor) else found


def _has_length(dataset: Any) -> bool:
    try:
        len(dataset)
    except TypeError:
        return False
    return True


def _plain(label: Any) -> Any:
    return label.tolist() if isinstance(label, Tensor | np.generic | np.ndarray) else label
