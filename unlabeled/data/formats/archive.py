"""A zip of an image folder, read in place: nothing is extracted."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

from unlabeled.data.kinds.image import BadImageError, open_image
from unlabeled.data.layout import is_image, listings
from unlabeled.data.reader import Raw, Splits
from unlabeled.errors import UserError

_MAX_MEMBER = 1 << 29  # bytes of one image once decompressed


class ZipReader:
    """Image members of a zip.

    Args:
        path: of the zip.
        archive: the same, open.
        members: names of the images in it.
    """

    channels = None
    lasting = True
    pixels = None

    def __init__(self, path: Path, archive: zipfile.ZipFile, members: Sequence[str]) -> None:
        self._path, self._archive, self._members = path, archive, list(members)
        about = ((m, archive.getinfo(m)) for m in members)
        content = "\n".join(f"{m} {i.file_size} {i.CRC}" for m, i in about)
        self.identity = hashlib.blake2b(content.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def __len__(self) -> int:
        return len(self._members)

    def read(self, index: int) -> Raw:
        member = self._archive.getinfo(self._members[index])
        if member.file_size > _MAX_MEMBER:
            raise BadImageError(f"{member.file_size:,} bytes once decompressed, more than {_MAX_MEMBER:,}")
        if member.flag_bits & 1:
            raise BadImageError("encrypted")
        return open_image(self._archive.read(member))

    def path(self, index: int) -> str:
        return f"{self._path}/{self._members[index]}"


def open_zip(path: Path, name: str) -> Splits:
    """Lists a zip; opens no image.

    Raises:
        UserError: not a zip, a member that points out of it, no image in it, or classes that differ between the splits.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{name}: cannot be read as a zip ({error}): make or download it again") from None
    members = sorted({m.filename for m in archive.infolist() if not m.is_dir()})
    for member in members:
        if member.startswith(("/", "\\")) or ".." in member.replace("\\", "/").split("/") or member[1:2] == ":":
            archive.close()
            raise UserError(f"{name}: member {member!r} points out of the archive: make it again without such names")
    images = [m for m in members if is_image(m)]
    if not images:
        archive.close()
        raise UserError(f"{name}: no image in this zip ({len(members)} other files): zip a folder of images")
    return listings(images, lambda chosen: ZipReader(path, archive, chosen), name)
