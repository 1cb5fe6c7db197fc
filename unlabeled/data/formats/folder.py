"""A folder of files: flat and unlabelled, or one sub-folder a class, with or without `train/` and `test/`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unlabeled.data import content
from unlabeled.data.formats.parquet import open_parquet
from unlabeled.data.kinds import medical
from unlabeled.data.kinds.kind import build, is_shown, left, of_files
from unlabeled.data.layout import listings
from unlabeled.data.reader import Raw, Splits, some
from unlabeled.errors import UserError
from unlabeled.plots import is_ours
from unlabeled.registry import Choice
from unlabeled.words import counted

_WRITTEN = {"recipe.yaml", "environment.json"}, {"inspect.json"}, {"question.json", "rows"}
"""What is in a folder that `pretrain`, `inspect`, `compare` or `sweep` wrote."""
Stamp = tuple[int, int]
"""Size in bytes and time of change in nanoseconds, by which a changed file is known."""


class FileReader:
    """Files below one folder.

    Args:
        root: the folder.
        paths: relative to it, with forward slashes.
        stamps: of each; by default asked from the file system.
        lasting: see `Reader`.
        kind: of the samples.
    """

    channels = None
    held = None

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        stamps: Sequence[Stamp] | None = None,
        lasting: bool = True,
        kind: str = "image",
    ) -> None:
        self._root, self._paths, self.lasting, self._kind = root, list(paths), lasting, kind
        self._open = build(Choice(kind)).open
        stamps = [stamp((root / p).stat) for p in paths] if stamps is None else stamps
        self._stamps = stamps
        names = "\n".join(f"{p} {size}" for p, (size, _) in zip(paths, stamps, strict=True))
        looked = content.of_files([self._place(paths[i]) for i in content.looked_at(len(paths))])
        self.identity = content.digest(f"{names}\n{b''.join(looked).hex()}")
        self.place = content.digest("\n".join([str(root.resolve()), *(str(time) for _, time in stamps)]))

    def __len__(self) -> int:
        return len(self._paths)

    def size(self, index: int) -> int:
        return max(0, stamp((self._root / self._paths[index]).stat)[0])

    def read(self, index: int) -> Raw:
        return self._open(self._root / self._paths[index])

    def contents(self) -> list[bytes]:
        return content.of_files(list(map(self._place, self._paths)))

    def path(self, index: int) -> str:
        return str(self._root / self._paths[index])

    def chosen(self, rows: Sequence[int]) -> FileReader:
        """Returns a reader of these files alone."""
        paths, stamps = [self._paths[row] for row in rows], [self._stamps[row] for row in rows]
        return FileReader(self._root, paths, stamps, self.lasting, self._kind)

    def _place(self, path: str) -> str:
        return os.path.join(self._root, path)  # noqa: PTH118  # of many


def open_folder(root: Path, name: str, asked: str = "") -> Splits:
    """Lists a folder; opens no file. Without files of any kind but with Parquet files in it, those are the data.

    Raises:
        UserError: no sample in it, samples of several kinds, or an unreadable sub-folder.
    """
    own: list[str] = []
    stamps = dict(sorted(_walk(root, own)))
    drawn = [path for path in _newest_png(stamps) if is_ours(root / path)]
    own += drawn
    stamps = {path: found for path, found in stamps.items() if path not in set(drawn)}
    unnamed = {path: "image" for path in stamps if medical.is_dicom(root / path)}
    kind, paths = of_files(stamps, asked, name, unnamed if medical.is_readable() else {})
    if paths:
        train, test = listings(
            paths, kind, lambda chosen: FileReader(root, chosen, [stamps[p] for p in chosen], kind=kind), name
        )
        ours = [f"{name}: what unlabeled wrote itself is left out: {some(sorted(own))}."] if own else []
        said = (*ours, *_tell_unnamed(name, unnamed, paths), *left(stamps, paths))
        return replace(train, remarks=(*train.remarks, *said)), test
    if any(path.endswith(".parquet") and is_shown(path) for path in stamps):
        return open_parquet(root, name, asked)
    raise UserError(". ".join([_nothing_in(root, name, asked), *_tell_unnamed(name, unnamed, paths)]))


def _tell_unnamed(name: str, unnamed: Collection[str], paths: Sequence[str]) -> list[str]:
    """Says that files without a suffix are DICOM, and whether they are among those that are read."""
    if not unnamed:
        return []
    read = "they are read"
    if not medical.is_readable():
        read = f"they are read once there is pydicom: {medical.INSTALL}"
    elif set(paths).isdisjoint(unnamed):
        read = "they are left out beside the others: give a folder of their own to read them"
    return [f"{name}: without a suffix, {counted(len(unnamed), 'files', 'begin')} as DICOM, and {read}."]


def _walk(root: Path, own: list[str]) -> Iterator[tuple[str, Stamp]]:
    """Relative path and stamp of all that is no folder, in any order; follows links to folders, but each folder once.
    Folders that verbs wrote are not looked into, and are added to `own`."""
    seen, waiting = set(), [("", str(root))]
    while waiting:
        below, folder = waiting.pop()
        try:
            about = os.stat(folder)  # noqa: PTH116
            if (about.st_dev, about.st_ino) in seen:
                continue
            seen.add((about.st_dev, about.st_ino))
            entries = list(os.scandir(folder))
        except OSError as error:
            raise UserError(f"{folder}: cannot be listed ({error.strerror}): make it readable, or move it away") from None
        if below and any(marks <= {entry.name for entry in entries} for marks in _WRITTEN):
            own.append(below)
            continue
        for entry in entries:
            if entry.is_dir():
                if not entry.name.startswith("."):
                    waiting.append((f"{below}{entry.name}/", entry.path))
            else:
                yield below + entry.name, stamp(entry.stat)


def _newest_png(stamps: Mapping[str, Stamp]) -> list[str]:
    """The PNG files that were written last, among which pictures of other data are: so many as are quickly looked at."""
    found = [path for path in stamps if path.lower().endswith(".png")]
    return sorted(found, key=lambda path: -stamps[path][1])[: content.LOOKED_AT]


def stamp(stat: Callable[[], os.stat_result]) -> Stamp:
    """Returns the size in bytes and the time of change in nanoseconds; -1 and 0 of a file that is not there."""
    try:
        about = stat()
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return -1, 0
    return about.st_size, about.st_mtime_ns


def _nothing_in(root: Path, name: str, asked: str) -> str:
    files, wanted = sorted(p.name for p in root.iterdir()), build(Choice(asked or "image")).noun
    if not files:
        return f"{name}: the folder is empty: put {wanted}s into it, or one sub-folder of them a class"
    usable = [f for f in files if f.endswith((".zip", ".npz", ".npy"))]
    if usable:
        return f"{name}: no {wanted} in this folder, but {usable[0]}: give {root / usable[0]} instead"
    shown = ", ".join(files[:3]) + (" ..." if len(files) > 3 else "")
    return f"{name}: no {wanted} in this folder (it has {shown}): give one with {wanted}s"
