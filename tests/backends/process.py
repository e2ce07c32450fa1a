"""A program of a backend as tests run it: in a folder of its own, its words in a file, ready when a URL says so."""

import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

_START_SECONDS = 90.0
_STOP_SECONDS = 30.0
_HTTP_OK = 200


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
                raise TimeoutError(f"{self._command[0]} did not get ready:\n{self.said()[-3_000:]}")
            time.sleep(0.05)

    def answers(self) -> bool:
        """Tell whether it is ready."""
        try:
            with urllib.request.urlopen(self._ready, timeout=2) as answer:
                return bool(answer.status == _HTTP_OK)
        except OSError:
            return False

    def said(self) -> str:
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
