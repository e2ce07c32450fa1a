"""A program of a backend as tests run it: in a folder of its own, its words in a file, ready when a URL says so."""

import contextlib
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

_START_SECONDS = 90.0
_STOP_SECONDS = 30.0
_HTTP_OK = 200
_PORTS = range(12_000, 32_000)


def free_port() -> int:
    """Return a port of loopback that nobody listens on.

    It is none of those that a system hands out by itself (from 32768 on Linux, 49152 elsewhere): such a port may become
    some connection's own end before the program that is to listen on it has started, or while it is down.
    """
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError("no port of loopback is free")


class Process:
    """One program: `start` returns once `ready` (a URL) answers 200, `close` ends it in order."""

    def __init__(
        self, command: Sequence[str | Path], folder: Path, ready: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder = folder
        self.log = folder / "log"
        self._command = command
        self._ready = ready
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start it; the block's end closes it."""
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise TimeoutError(f"{self._command[0]} did not get ready:\n{self.logged()[-3_000:]}")
            time.sleep(0.05)

    @property
    def pid(self) -> int:
        """Its number, while it runs."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    def answers(self) -> bool:
        """Tell whether it is ready."""
        try:
            with urllib.request.urlopen(self._ready, timeout=2) as answer:
                return bool(answer.status == _HTTP_OK)
        except OSError:
            return False

    def logged(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End it in order: a program that does not end in time is killed, and that is an error."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        self._process = None

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(_STOP_SECONDS)
