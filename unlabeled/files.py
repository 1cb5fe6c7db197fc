"""Files appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unlabeled.errors import UserError


def write_whole(path: Path, write: Callable[[Path], Any]) -> Path:
    """Lets `write` fill a temporary file beside `path`, then moves it there; after a failure nothing is left.

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
        write(Path(temporary))
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
    return path


def cannot_write(path: Path, error: OSError) -> UserError:
    """Returns what to say when `path` could not be written."""
    return UserError(
        f"{str(path)!r} cannot be written ({error.strerror or error}): make room or permission, or write elsewhere"
    )
