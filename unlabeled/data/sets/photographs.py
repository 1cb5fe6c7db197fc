"""Data sets by name that are folders of photographs, listed by torchvision's readers and decoded by ours; and PCam."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from unlabeled.data.formats.arrays import DatasetReader
from unlabeled.data.formats.folder import FileReader, stamp
from unlabeled.data.reader import NATURAL, Listing, Splits
from unlabeled.data.sets.download import data_root, torchvision_sets
from unlabeled.errors import UserError
from unlabeled.registry import register

_ANY_WAY_UP = frozenset({"mirror", "flip", "rotation", "colour", "intensity"})


@dataclass(frozen=True, slots=True)
class _Set:
    """A torchvision class, the keyword arguments of the parts that make up train and test, and the invariances."""

    kind: str
    train: Sequence[Mapping[str, Any]]
    test: Sequence[Mapping[str, Any]] = ()
    invariances: frozenset[str] = NATURAL


_TRAIN, _VAL, _TRAINVAL, _TEST = ({"split": s} for s in ("train", "val", "trainval", "test"))
_SETS = {
    "food101": _Set("Food101", [_TRAIN], [_TEST]),
    "flowers102": _Set("Flowers102", [_TRAIN, _VAL], [_TEST]),
    "dtd": _Set("DTD", [_TRAIN, _VAL], [_TEST], _ANY_WAY_UP),
    "pets": _Set("OxfordIIITPet", [_TRAINVAL], [_TEST]),
    "aircraft": _Set("FGVCAircraft", [_TRAINVAL], [_TEST]),
    "cars": _Set("StanfordCars", [_TRAIN], [_TEST]),
    "caltech101": _Set("Caltech101", [{}]),
    "sun397": _Set("SUN397", [{}]),
}


@register("food101", says="Opens Food-101: photographs of 101 dishes (Bossard et al. 2014).")
@register("flowers102", says="Opens Oxford Flowers 102: photographs of 102 flowers (Nilsback and Zisserman 2008).")
@register("dtd", says="Opens the Describable Textures Dataset: photographs of 47 textures (Cimpoi et al. 2014).")
@register("pets", says="Opens Oxford-IIIT Pet: photographs of 37 breeds of cats and dogs (Parkhi et al. 2012).")
@register("aircraft", says="Opens FGVC-Aircraft: photographs of 100 variants of aircraft (Maji et al. 2013).")
@register("cars", says="Opens Stanford Cars: photographs of 196 models of cars (Krause et al. 2013).")
@register("caltech101", says="Opens Caltech 101: photographs of 101 kinds of objects, no test split (Fei-Fei et al. 2004).")
@register("sun397", says="Opens SUN397: photographs of 397 kinds of scenes, no test split (Xiao et al. 2010).")
def photographs(name: str, root: str | Path | None) -> Splits:
    """Opens folders of photographs in torchvision's layout below the root, downloaded if absent.

    Train is what the papers train on (train and val where there are both). `caltech101` and `sun397` have no test split.
    `cars` cannot be downloaded any more: put its files below the root.
    """
    return _splits(name, root, _SETS[name])


@register("imagenette")
def imagenette(name: str, root: str | Path | None) -> Splits:
    """Opens ten classes of ImageNet: the largest of its three sizes that is there; the 320 px one is downloaded."""
    below = {"full": "imagenette2", "320px": "imagenette2-320", "160px": "imagenette2-160"}
    size = next((s for s, folder in below.items() if (data_root(root) / folder).is_dir()), "320px")
    made = _Set("Imagenette", [{"split": "train", "size": size}], [{"split": "val", "size": size}])
    return _splits(name, root, made)


@register("voc2007")
def voc2007(name: str, root: str | Path | None) -> Splits:
    """Opens PASCAL VOC 2007, trainval and test: a detection set, so the label is the object that is most frequent in the
    image.

    Of equally frequent ones it is the first in the annotation. (The multi-label protocol is another task.)
    """
    parts = [{"year": "2007", "image_set": s} for s in ("trainval", "test")]
    made = torchvision_sets("VOCDetection", root, parts)
    objects = [[_main_object(Path(a)) for a in d.annotations] for d in made]
    classes = tuple(sorted({o for part in objects for o in part if o}))
    number = {c: i for i, c in enumerate(classes)} | {"": -1}
    train, test = (
        Listing(name, _files(data_root(root), d.images), np.array([number[o] for o in part], np.int64), classes)
        for d, part in zip(made, objects, strict=True)
    )
    return train, test


@register("pcam")
def pcam(name: str, root: str | Path | None) -> Splits:
    """Opens PatchCamelyon: 262,144 + 32,768 patches of lymph nodes, 96x96; any way up. Needs h5py."""
    made = torchvision_sets("PCAM", root, [_TRAIN, _TEST])
    listings = []
    for dataset in made:
        images, targets = (dataset._base_folder / dataset._FILES[dataset._split][k][0] for k in ("images", "targets"))
        with dataset.h5py.File(targets) as file:
            labels = np.asarray(file["y"]).reshape(-1).astype(np.int64)
        reader = DatasetReader(dataset, f"{name}/{dataset._split}", f"{images.resolve()} {stamp(images.stat)}")
        listings.append(Listing(name, reader, labels, ("normal", "tumour"), invariances=_ANY_WAY_UP))
    return listings[0], listings[1]


def _splits(name: str, root: str | Path | None, about: _Set) -> Splits:
    made = torchvision_sets(about.kind, root, [*about.train, *about.test])
    n = len(about.train)
    train = _listing(name, data_root(root), made[:n], about.invariances)
    return train, _listing(name, data_root(root), made[n:], about.invariances) if about.test else None


def _listing(name: str, root: Path, parts: Sequence[Any], invariances: frozenset[str]) -> Listing:
    files, labels = [], []
    for dataset in parts:
        paths, targets = _paths_and_labels(dataset)
        files += paths
        labels += targets
    if not files:
        raise UserError(f"{name}: no image listed below {root}: unpack the data set there again")
    classes = getattr(parts[0], "classes", None) or parts[0].categories
    names = tuple(c if isinstance(c, str) else str(c[0]) for c in classes)
    return Listing(name, _files(root, files), np.array(labels, np.int64), names, invariances=invariances)


def _paths_and_labels(dataset: Any) -> tuple[list[Any], list[int]]:
    """Files and labels under the various names that torchvision's classes give them."""
    if hasattr(dataset, "_samples"):
        return [p for p, _ in dataset._samples], [int(y) for _, y in dataset._samples]
    if hasattr(dataset, "categories"):
        folder = Path(dataset.root) / "101_ObjectCategories"
        pairs = zip(dataset.y, dataset.index, strict=True)
        return [folder / dataset.categories[y] / f"image_{i:04d}.jpg" for y, i in pairs], list(dataset.y)
    files = dataset._image_files if hasattr(dataset, "_image_files") else dataset._images
    order = sorted(range(len(files)), key=lambda i: str(files[i]))  # SUN397 lists in the order of the file system
    return [files[i] for i in order], [int(dataset._labels[i]) for i in order]


def _files(root: Path, paths: Sequence[Any]) -> FileReader:
    return FileReader(root, [os.path.relpath(p, root).replace(os.sep, "/") for p in paths])


def _main_object(annotation: Path) -> str:
    """Name of the most frequent object of a VOC annotation, "" if it has none."""
    names = [o.findtext("name") or "" for o in ElementTree.parse(annotation).getroot().iter("object")]
    return Counter(names).most_common(1)[0][0] if names else ""
