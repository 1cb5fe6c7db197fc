"""A zip of a folder, read in place: nothing is extracted."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
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
from unlabeled.words import counted


class ZipReader:
    """Members of a zip.

    Args:
        path: of the zip.
        archive: the same, open.
        members: the samples in it, by name.
        kind: of the samples.
    """

    channels = None
    lasting = True
    held = None

    def __init__(
        self, path: Path, archive: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], kind: str = "image"
    ) -> None:
        self._path, self._archive, self._members, self._infos = path, archive, list(members), list(members.values())
        self._open = build(Choice(kind)).open
        content = "\n".join(f"{m} {i.file_size} {i.CRC}" for m, i in members.items())
        self.identity = digest(content)
        self.place = f"{path.resolve()} {stamp(path.stat)}"

    def __len__(self) -> int:
        return len(self._members)

    def size(self, index: int) -> int:
        return self._infos[index].file_size

    def read(self, index: int) -> Raw:
        return self._open(self._bytes(index))

    def contents(self) -> list[bytes]:
        return [of_what(partial(self._bytes, i)) for i in range(len(self))]

    def _bytes(self, index: int) -> bytes:
        member = self._infos[index]
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
        members = _members(archive)
    for member in members:
        if member.startswith(("/", "\\")) or ".." in member.replace("\\", "/").split("/") or member[1:2] == ":":
            archive.close()
            raise UserError(f"{name}: member {member!r} points out of the archive: make it again without such names")
    kind, samples = of_files(members, asked, name)
    if not samples:
        archive.close()
        wanted = build(Choice(asked or "image"))
        raise UserError(
            f"{name}: no {wanted.noun} in this zip ({counted(len(members), 'other files')}): zip a folder of {wanted.nouns}"
        )

    def reader(chosen: Sequence[str]) -> ZipReader:
        return ZipReader(path, archive, {member: members[member] for member in chosen}, kind)

    train, test = listings(samples, kind, reader, name)
    return replace(train, remarks=(*train.remarks, *left(members, samples))), test


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Files by their name, sorted. Between folders are slashes; backslashes in an archive without, made on Windows."""
    infos = [info for info in archive.infolist() if info.filename]
    backwards = not any("/" in info.filename for info in infos)
    named = {info.filename.replace("\\", "/") if backwards else info.filename: info for info in infos}
    return {name: archive.getinfo(info.filename) for name, info in sorted(named.items()) if not name.endswith("/")}
