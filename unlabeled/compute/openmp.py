"""Functions of our own on torch's threads, which are OpenMP's.

Threads of another pool would find the cores taken by torch's, which after each of its operations wait busily for the next.
So the library that torch brings and has loaded is asked to call a function from each of its threads.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch


@cache
def available() -> bool:
    """Tells whether torch brings GNU's OpenMP, as on Linux."""
    try:
        return bool(_library())
    except (OSError, AttributeError):
        return False


def together(address: int, numbers: Sequence[int]) -> None:
    """Calls a C function from each of torch's threads, and waits for all.

    Args:
        address: of `void f(int64_t *numbers)`.
        numbers: that it gets.

    Raises:
        OSError: there is no such library.
    """
    given = (ctypes.c_int64 * len(numbers))(*numbers)
    _library().GOMP_parallel(address, ctypes.addressof(given), torch.get_num_threads(), 0)


@cache
def asking() -> tuple[int, int]:
    """Returns addresses of `int f(void)` that say to a thread which one it is, and of how many.

    Raises:
        OSError: there is no such library.
    """
    which, many = (
        ctypes.cast(f, ctypes.c_void_p).value for f in (_library().omp_get_thread_num, _library().omp_get_num_threads)
    )
    assert which and many
    return which, many


@cache
def _library() -> Any:
    home = Path(torch.__file__).parent
    found = sorted([*home.glob("lib/libgomp*"), *home.glob("../torch.libs/libgomp*")])
    if not found:
        raise OSError("torch brings no libgomp")
    try:
        library = ctypes.CDLL(found[0].name)  # the one that is loaded, wherever it came from
    except OSError:
        library = ctypes.CDLL(str(found[0]))
    library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    library.GOMP_parallel.restype = None
    return library
