"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from unlabeled.errors import UserError

TURN = 5.0
"""Seconds within which a small file is read and written."""


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Lets `write` fill a temporary file beside `path`, which moves there once it is on the disk; after a failure nothing is
    left.

    Args:
        path: the file; what was there is replaced.
        write: takes the temporary path.

    Raises:
        UserError: the folder is missing, cannot be written to, or the disk is full.
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        with lock(Path(temporary), wait=False):
            write(Path(temporary))
            Path(temporary).chmod(0o644)
            _to_disk(temporary, os.O_RDWR)
            Path(temporary).replace(path)
        with suppress(OSError):  # not every system opens folders
            _to_disk(path.parent, os.O_RDONLY)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return path


def clear_leftovers(folder: Path, names: Iterable[str] = ("*",)) -> None:
    """Drops what `write_whole` had begun of files of these names when its process was killed."""
    for left in [path for name in names for path in folder.glob(f".{name}.*") if path.is_file()]:
        with suppress(OSError), lock(left, wait=False) as handle:
            if handle is not None:  # nobody writes it
                left.unlink()


def _to_disk(path: str | Path, how: int) -> None:
    handle = os.open(path, how)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def lock(path: Path, *, wait: bool) -> Iterator[int | None]:
    """Holds the lock of a file or of a folder, as a descriptor that a child process may inherit to hold it too; None if
    another process holds it and one does not `wait`. Where system or file system has no such locks, it is always free, and
    -1.

    Args:
        path: of a folder that is there, or of a file, which is made if need be.
        wait: whether to wait for it.
    """
    try:
        import fcntl
    except ImportError:
        yield -1
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o644)
    try:
        held: int | None = handle
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            held = None
        except OSError:  # some file systems on a network have none
            held = -1
        yield held
    finally:
        os.close(handle)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Lets processes that read a file of a folder and write it anew do so one after the other. Who holds the folder for
    longer than `TURN` is a training, which writes other files."""
    limit = time.monotonic() + TURN
    while True:
        with lock(folder, wait=False) as handle:
            if handle is not None or time.monotonic() > limit:
                yield
                return
        time.sleep(0.02)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Makes a folder and holds it against other processes; one in which nothing came to be is removed again.

    Raises:
        UserError: another process holds it, or it cannot be made.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    try:
        with lock(folder, wait=False) as handle:
            if handle is None:
                raise UserError(
                    f"{str(folder)!r} belongs to a training that is under way: wait for its end, or give another --out"
                )
            yield
    finally:
        for place in made:
            with suppress(OSError):
                place.rmdir()


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a file to read its bytes, unbuffered, and nothing that is waited for, as a pipe is.

    Raises:
        OSError: it cannot be read, or is a pipe, a device or a folder.
    """
    check_regular(path)
    return Path(path).open("rb", buffering=0)


def check_regular(path: str | Path) -> None:
    """Checks that there is a file, itself or by a link; names that no file can have are missing files.

    Raises:
        OSError: there is none, or a pipe, a device or a folder.
    """
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except ValueError as error:  # a NUL byte
        raise FileNotFoundError(errno.ENOENT, f"no file can have this name ({error})") from None
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a folder", stat.S_IFSOCK: "a socket"}
        raise OSError(errno.EINVAL, f"{kinds.get(stat.S_IFMT(mode), 'a device')}, not a file")


def reserve(path: Path, length: int) -> None:
    """Makes a file of that length, which keeps what it holds, and whose bytes have their room on the disk: writing to a map
    of a file that has none ends the process once the disk is full.

    Raises:
        OSError: there is no such room.
    """
    with path.open("ab") as file:
        if os.fstat(file.fileno()).st_size > length:
            file.truncate(length)
        if length and hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, length)
        else:
            file.write(bytes(max(0, length - os.fstat(file.fileno()).st_size)))


def cannot_write(path: Path, error: OSError) -> UserError:
    """Returns what to say when `path` could not be written."""
    return UserError(
        f"{str(path)!r} cannot be written ({error.strerror or error}): make room or permission, or write elsewhere"
    )
