"""A process that has imported what rows need and computed nothing, and forks for each of them: only it waits for PyTorch."""

from __future__ import annotations

import gc
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from select import select
from typing import IO

PRELOADED = (
    "cyclopts", "unlabeled.training.pretrain", "lightning_fabric.loggers.tensorboard", "numba", "timm",
    "torch.utils.tensorboard", "scipy.stats", "sklearn.neighbors", "unlabeled.data.kinds.image", "unlabeled.views.policies",
)  # fmt: skip
"""What a training imports in any case, or nearly."""


class Forked:
    """A process that the server forked, with as much of `subprocess.Popen` as is needed. It ends with its server.

    Args:
        told: where the server tells its number, and later its exit code.
        server: the exit code of which counts where it is gone.
    """

    def __init__(self, told: socket.socket, server: subprocess.Popen[bytes]) -> None:
        self._told, self._server = told, server
        self._code: int | None = None
        self._pid = self._hear()

    def poll(self) -> int | None:
        """Returns the exit code, as `Popen` has it; None while it runs."""
        if self._code is None and select([self._told], [], [], 0)[0]:
            self.wait()
        return self._code

    def wait(self) -> int:
        """Returns the exit code, once there is one."""
        if self._code is None:
            self._code = self._hear()
        if self._code is None:
            if self._pid:
                with suppress(ProcessLookupError):
                    os.kill(self._pid, signal.SIGKILL)
            self._code = self._server.wait() or 1
        return self._code

    def send_signal(self, number: int) -> None:
        """Passes a signal on, if it still runs."""
        if self.poll() is None and self._pid:
            os.kill(self._pid, number)

    def kill(self) -> None:
        """Ends it at once."""
        self.send_signal(signal.SIGKILL)

    def _hear(self) -> int | None:
        """A number; None if the server is gone."""
        said = b""
        with suppress(ConnectionError):
            said = self._told.recv(64)
        return int(said) if said else None


class ForkServer:
    """Starts modules in forks of one process, which itself starts with the first of them. On Linux only: elsewhere a forked
    process cannot use all that was imported."""

    def __init__(self) -> None:
        self._ours: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, words: Sequence[str], log: IO[bytes], handle: int) -> Forked:
        """Runs `python -m WORDS` in a fork, which prints to the log and inherits the handle, unless that is -1."""
        if self._process is None or self._process.poll() is not None:
            self._begin(log)
        assert self._ours and self._process
        socket.send_fds(self._ours, [json.dumps(list(words)).encode()], [log.fileno(), *([handle] if handle >= 0 else [])])
        return Forked(self._ours, self._process)

    def close(self) -> None:
        """Ends the server; what it forked goes on."""
        if self._process is not None and self._ours is not None:
            self._ours.close()
            self._process.kill()  # it may not have forked yet
            self._process.wait()
            self._process = None

    def _begin(self, log: IO[bytes]) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(theirs.fileno(),),
            )


def serve(asked: socket.socket) -> list[str]:
    """Makes a fork for each message and tells its number, then its exit code; ends when nobody can ask any more.

    Returns:
        In the fork: the words that it was asked to run.
    """
    gc.disable()  # it would look through what imports made again and again
    for name in PRELOADED:
        import_module(name)
    gc.freeze()
    gc.enable()
    while True:
        message, handles, _, _ = socket.recv_fds(asked, 1 << 16, 2)
        if not message:
            sys.exit()
        if not (pid := os.fork()):
            asked.close()
            os.setsid()
            for stream in (1, 2):
                os.dup2(handles[0], stream)
            words: list[str] = json.loads(message)
            return words
        for handle in handles:
            os.close(handle)
        with suppress(BrokenPipeError):  # who asked was killed: the fork goes on, and ends by itself
            asked.send(str(pid).encode())
            asked.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())


if __name__ == "__main__":
    sys.argv = serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
