"""Work in a copy of this process, so that what kills the copy kills nothing else."""

from __future__ import annotations

import faulthandler
import gc
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import torch

from unlabeled.data.room import give_back

STILL = 300.0
"""Seconds without a word and without a second of processor time after which a copy is taken to hang."""

T = TypeVar("T")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Death:
    """How a copy ended that did not come to its end.

    Attributes:
        at: what it said last.
        how: the name of the signal, or other words.
    """

    at: str
    how: str


def can_copy(device: torch.device) -> bool:
    """Tells whether this process can be copied and compute in the copy: on Linux, before a GPU is in use."""
    return sys.platform == "linux" and device.type == "cpu" and not torch.cuda.is_initialized()  # type: ignore[no-untyped-call]


def apart(work: Callable[[Tell], T], device: torch.device) -> T | Death:
    """Runs `work` in a forked copy of this process: it costs no second start, and sees all that is here. Where there can be
    no copy, it runs here.

    The fork is made in a new thread: GNU's OpenMP keeps its threads by the thread that called it, none of which are in the
    copy; a new one has none.

    Args:
        work: is given a function by which it says what it begins with; what it returns can be pickled.
        device: where it computes.
    """
    if not can_copy(device):
        return _here(work)
    context = multiprocessing.get_context("fork")
    hear, speak = context.Pipe(duplex=False)
    process = context.Process(target=_copy, args=(work, speak), daemon=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads: see above
        start = threading.Thread(target=process.start)
        start.start()
        start.join()
    speak.close()
    try:
        return _heard(hear, process.pid or 0, work)
    except EOFError as end:
        process.join()
        number = -(process.exitcode or 0)
        how = signal.Signals(number).name if number > 0 else f"exit code {process.exitcode}"
        return Death(str(end), how)
    finally:
        process.kill()
        process.join()
        hear.close()


def _here(work: Callable[[Tell], T]) -> T:
    """What work finds in this process, which then gives back the memory that it took."""
    try:
        return work(lambda said: None)
    finally:
        gc.collect()
        give_back()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()


def _heard(hear: Connection, process: int, work: Callable[[Tell], T]) -> T | Death:
    """What the copy sends.

    Raises:
        EOFError: it is gone; the message is what it said last.
    """
    said: list[str] = [""]
    while True:
        before = _seconds(process)
        while not hear.poll(STILL):
            if (now := _seconds(process)) - before < 1:
                return Death(said[-1], "it hangs") if len(said) > 2 else _here(work)
            before = now
        try:
            kind, value = hear.recv()
        except (EOFError, ConnectionError):
            raise EOFError(said[-1]) from None
        if kind == "done":
            return value  # type: ignore[no-any-return]
        if kind == "error":
            if "fork" in str(value):  # a library that has been used here and refuses to work in a copy
                return _here(work)
            raise value
        said.append(value)


def _copy(work: Callable[[Tell], Any], speak: Connection) -> None:
    """The copy's side: silent, and without a core file if it dies."""
    import resource  # Windows has none

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    faulthandler.disable()
    if compiler := sys.modules.get("torch._inductor.async_compile"):  # of PyTorch 2.14.1: it would wait for threads that are
        compiler.AsyncCompile.pool.cache_clear()  # not in the copy, if this process has compiled
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    try:
        message = ("done", work(lambda said: speak.send(("at", said))))
    except Exception as error:
        message = ("error", error)
    try:
        speak.send(message)
    except Exception:  # one that cannot be pickled
        speak.send(("error", RuntimeError(repr(message[1]))))


def _seconds(process: int) -> float:
    """Of processor time that a process has taken."""
    with suppress(OSError, IndexError, ValueError):
        user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return 0.0
