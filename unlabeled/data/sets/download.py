"""torchvision's data sets: found where they are, otherwise downloaded, and nothing half-written."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unlabeled.data.store import cache_folder
from unlabeled.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT = 30.0  # seconds without an answer


def data_root(root: str | Path | None) -> Path:
    """Tells where named sets live: the argument, `$UNLABELED_DATA`, or `data` in the cache folder."""
    chosen = root or os.environ.get("UNLABELED_DATA")
    return Path(chosen).expanduser() if chosen else cache_folder() / "data"


def torchvision_sets(kind: str, root: str | Path | None, splits: Sequence[Mapping[str, Any]], remedy: str = "") -> list[Any]:
    """Opens instances of `torchvision.datasets.<kind>`, one for each of `splits` (keyword arguments), downloaded if absent.

    Args:
        kind: name of the class.
        root: see `data_root`.
        splits: keyword arguments of each instance.
        remedy: said first when the data are neither there nor downloadable, ending in "or ".

    Raises:
        UserError: absent and not downloadable, or a library that the class needs is missing; it says where to put the files.
    """
    from torchvision import datasets

    base, make = data_root(root), getattr(datasets, kind)
    existed, before = base.is_dir(), _children(base)
    try:
        return [_quietly(make, base, split, download=False) for split in splits]
    except (RuntimeError, OSError, ImportError, ValueError) as error:
        if "install" in str(error) or isinstance(error, ImportError):
            raise UserError(f"{kind}: {' '.join(str(error).split())}") from None
        absent = " ".join(str(error).split()).partition(" You can use")[0]
    _remove_empty(_children(base) - before)
    try:
        base.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=base) as folder, _impatient():
            for split in splits:
                _quietly(make, Path(folder), split, download=True)
            _move_into(Path(folder), base)
        return [_quietly(make, base, split, download=False) for split in splits]
    except Exception as error:
        _remove_empty(_children(base) - before)
        if not existed:
            _remove_empty({base})
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"{kind}: not found below {base} ({absent.removesuffix('.')}), and the download failed ({reason}): "
            f"{remedy}put torchvision's files for {kind} there, or name another folder with --root or $UNLABELED_DATA"
        ) from None


def _quietly(make: Any, root: Path, options: Mapping[str, Any], download: bool) -> Any:
    with redirect_stdout(StringIO()):
        return make(root=str(root), download=download, **options)


def _move_into(folder: Path, base: Path) -> None:
    for file in folder.rglob("*"):
        if file.is_file():
            target = base / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(file, target)


@contextmanager
def _impatient() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _children(folder: Path) -> set[Path]:
    return set(folder.iterdir()) if folder.is_dir() else set()


def _remove_empty(folders: set[Path]) -> None:
    """Removes those that torchvision made and left empty."""
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
