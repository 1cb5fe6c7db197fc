"""A zip of a folder, read in place: nothing is extracted."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from unlabeled.data.content import digest, of_what
from unlabeled.data.formats.folder import stamp
from unlabeled.data.kinds.kind import build, left, of_files
from unlabeled.data.layout import listings
from unlabeled.data.reader import Raw, Splits, readable
from unlabeled.data.room import RAW
from unlabeled.errors import UserError
from unlabeled.registry import Choice


class ZipReader:
    """Members of a zip.

    Args:
        path: of the zip.
        archive: the same, open.
        members: names of the samples in it.
        kind: of the samples.
    """

    channels = None
    lasting = True
    held = None

    def __init__(self, path: Path, archive: zipfile.ZipFile, members: Sequence[str], kind: str = "image") -> None:
        self._path, self._archive, self._members = path, archive, list(members)
        self._open = build(Choice(kind)).open
        about = ((m, archive.getinfo(m)) for m in members)
        content = "\n".join(f"{m} {i.file_size} {i.CRC}" for m, i in about)
        self.identity = digest(content)
        self.place = f"{path.resolve()} {stamp(path.stat)}"

    def __len__(self) -> int:
        return len(self._members)

    def size(self, index: int) -> int:
        return self._archive.getinfo(self._members[index]).file_size

    def read(self, index: int) -> Raw:
        return self._open(self._bytes(index))

    def contents(self) -> list[bytes]:
        return [of_what(partial(self._bytes, i)) for i in range(len(self))]

    def _bytes(self, index: int) -> bytes:
        member = self._archive.getinfo(self._members[index])
        if member.file_size > RAW:
            raise ValueError(f"{member.file_size:,} bytes once decompressed, more than {RAW:,}")
        if member.flag_bits & 1:
            raise ValueError("encrypted")
        return self._archive.read(member)

    def path(self, index: int) -> str:
        return f"{self._path}/{self._members[index]}"


def open_zip(path: Path, name: str, asked: str = "") -> Splits:
    """Lists a zip; opens no member.

    Raises:
        UserError: not a zip, a member that points out of it, no sample in it, or samples of
            several kinds.
    """
    with readable(name, "a zip", "make or download it again"):
        archive = zipfile.ZipFile(path)
        members = sorted({m.filename for m in archive.infolist() if m.filename and not m.is_dir()})
    for member in members:
        if member.startswith(("/", "\\")) or ".." in member.replace("\\", "/").split("/") or member[1:2] == ":":
            archive.close()
            raise UserError(f"{name}: member {member!r} points out of the archive: make it again without such names")
    kind, samples = of_files(members, asked, name)
    if not samples:
        archive.close()
        wanted = build(Choice(asked or "image"))
        raise UserError(f"{name}: no {wanted.noun} in this zip ({len(members)} other files): zip a folder of {wanted.nouns}")
    train, test = listings(samples, kind, lambda chosen: ZipReader(path, archive, chosen, kind), name)
    return replace(train, said=(*train.said, *left(members, samples))), test
