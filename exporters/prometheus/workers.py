"""The workers of one app: one of them serves the port for all, and if it ends, another does.

FOLDER/1.lock, 2.lock ...   locked by the worker that has that number; the number is the label `process`
FOLDER/1.sock, 2.sock ...   where it answers with its own metrics, and closes
FOLDER/speaker.lock         locked by the worker that has the port; the others wait for it

Locks end with their process however it ends, so no clean-up is needed. A worker that takes a free number continues its
series: to Prometheus it is the same series, started again. The folder belongs to one user, service and port.

A fork copies what is open. A child that does not know of a lock or a port which it got that way would hold it for its
life, so they are opened and noted down with `no_fork` held: a fork waits for that.
"""

import contextlib
import hashlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from otel_telemetry.base.private_folder import private_folder

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_ANSWER_SECONDS: Final = 2.0
_MOST: Final = 256

_log = logging.getLogger("otel_telemetry.prometheus")

no_fork: Final = threading.Lock()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(before=no_fork.acquire, after_in_parent=no_fork.release, after_in_child=no_fork.release)


def folder_of(service: str, port: int) -> Path | None:
    """Return the folder of an app's workers, made where it is missing; None where there can be none that is safe."""
    return private_folder(f"{port}-{hashlib.sha256(service.encode()).hexdigest()[:8]}")


class WorkerEndpoint:
    """One worker: its `number`, and the socket at which it answers the others until `give_up`.

    Make it, and note it down, with `no_fork` held.
    """

    def __init__(self, folder: Path, answer: Callable[[], bytes]) -> None:
        self._folder = folder
        self._answer = answer
        self.number, self._lock = self._take()
        self._speaking = -1
        self._listening = socket.socket(socket.AF_UNIX)
        path = self._path(self.number)
        path.unlink(missing_ok=True)
        self._listening.bind(str(path))
        self._listening.listen(16)
        threading.Thread(target=self._serve, name="otel-telemetry-prometheus-answers", daemon=True).start()

    def _take(self) -> tuple[int, int]:
        for number in range(1, _MOST + 1):
            lock = os.open(self._folder / f"{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(lock)
            else:
                return number, lock
        raise OSError(f"{_MOST} workers show their metrics already")

    def _serve(self) -> None:
        listening = self._listening
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return  # given up
            with contextlib.suppress(Exception), connection:  # whoever asks has its own time limit
                connection.settimeout(_ANSWER_SECONDS)
                connection.sendall(self._answer())

    def wait_for_port(self) -> None:
        """Wait until no other worker serves the port; then this one does."""
        with no_fork:
            self._speaking = lock = os.open(self._folder / "speaker.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)

    def all(self) -> dict[str, bytes]:
        """Return what each worker answers, this one among them, by its number; one that is silent is left out."""
        answers: dict[str, bytes] = {str(self.number): self._answer()}
        others = [path for path in self._folder.glob("*.sock") if path.stem != str(self.number)]
        threads = [threading.Thread(target=_ask, args=(path, answers), daemon=True) for path in others]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return dict(sorted(answers.items()))

    def give_up(self, *, forked: bool = False) -> None:
        """Release number and port. A forked child only closes what it inherited."""
        if not forked:
            self._path(self.number).unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                self._listening.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listening.close()
        for lock in (self._lock, self._speaking):
            with contextlib.suppress(OSError):
                if lock >= 0:
                    os.close(lock)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.sock"


def _ask(path: Path, answers: dict[str, bytes]) -> None:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(path))
        with connection.makefile("rb") as answer:
            text = answer.read()
        if text:
            answers[path.stem] = text
