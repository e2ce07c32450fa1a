"""The processes of one gateway, as seen from each of them.

A supervisor starts them (supervisor.py). Each has a context: its name, the objects it was given, and a pair of pipes to
the supervisor. Each answers requests of the others for its metrics and its health, on a socket in the spool's folder,
so that any of them can report on all.

When the supervisor ends, its pipe closes, and the process ends at once: nothing acknowledged depends on it.
"""

import asyncio
import contextlib
import json
import mmap
import os
import re
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.receive.suspects import Suspects

Question = Literal["metrics", "health"]

RUN_NAME: Final = "run"
GO: Final = "go\n"
_ANSWER_SECONDS: Final = 2.0
_LONGEST_ADDRESS: Final = 100  # sun_path has 108 bytes on Linux and 104 elsewhere
_ORPHANED: Final = 71
_COUNT: Final = struct.Struct("=Q")
_OURS: Final = re.compile(r"[0-9a-f]{8}\.[a-z]+(?:-[0-9]+)?")  # the name of a socket, see Group._path


class Group:
    """The names of the processes, how often each was started again, and a way to ask them."""

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self._folder = folder.absolute() / RUN_NAME
        self._prefix = f"{secrets.token_hex(4)}."  # no process id: containers may share the folder
        self.names = tuple(names)
        self._restarts = mmap.mmap(-1, _COUNT.size * len(names))  # one memory for all who are forked from here

    def prepare(self) -> None:
        """Make the folder of the sockets and clear away those that a gateway that was killed has left there."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for path in self._folder.iterdir():
            if _OURS.fullmatch(path.name) and path.is_socket() and not _answers(path):
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete the sockets of this group."""
        for name in self.names:
            self._path(name).unlink(missing_ok=True)

    # --- restarts ---------------------------------------------------------------------------------------------------
    def count_restart(self, name: str) -> None:
        """Note that a process had to be started again. Only the supervisor does so."""
        _COUNT.pack_into(self._restarts, self._offset(name), self.restarts()[name] + 1)

    def restarts(self) -> Mapping[str, int]:
        """Return how often each process had to be started again."""
        return {name: _COUNT.unpack_from(self._restarts, self._offset(name))[0] for name in self.names}

    def _offset(self, name: str) -> int:
        return _COUNT.size * self.names.index(name)

    # --- questions --------------------------------------------------------------------------------------------------
    async def answer(self, name: str, answers: Mapping[Question, Callable[[], bytes]]) -> asyncio.Server:
        """Answer the others' questions under this name until the server is closed."""
        questions: Mapping[bytes, Callable[[], bytes]] = {key.encode(): value for key, value in answers.items()}

        async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError, TimeoutError, KeyError), contextlib.closing(writer):
                question = await asyncio.wait_for(reader.readline(), _ANSWER_SECONDS)
                writer.write(await asyncio.to_thread(questions[question.strip()]))
                await writer.drain()

        path = self._path(name)
        path.unlink(missing_ok=True)
        with _short(path) as address:
            return await asyncio.start_unix_server(respond, address)

    def ask_others(self, own: str, question: Question) -> dict[str, bytes | None]:
        """Return what each of the others answers, None for one that does not."""
        answers: dict[str, bytes | None] = dict.fromkeys(name for name in self.names if name != own)
        threads = [threading.Thread(target=self._ask, args=(name, question, answers), daemon=True) for name in answers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return dict(answers)

    def _ask(self, name: str, question: Question, answers: dict[str, bytes | None]) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            with _short(self._path(name)) as address:
                connection.connect(address)
            connection.sendall(question.encode() + b"\n")
            with connection.makefile("rb") as answer:
                answers[name] = answer.read() or None

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._prefix}{name}"


class WorkerContext:
    """The connection of one process of the group to its supervisor.

    `http` is the listening socket that receivers share; `suspects` is where they note what they work on.
    """

    def __init__(
        self,
        name: str,
        group: Group,
        control: int,
        reports: int,
        http: socket.socket | None = None,
        *,
        suspects: Suspects | None = None,
    ) -> None:
        self.name = name
        self.group = group
        self.http = http
        self.suspects = suspects
        self.index = group.names.index(name)
        self._control = control
        self._reports = reports
        self._admitted = threading.Event()
        self._waiting: list[float] = []
        self._stop_callback = self._waiting.append
        self._lock = threading.Lock()

    def follow(self) -> None:
        """Listen to the supervisor from now on. If it dies, this process ends at once."""
        threading.Thread(target=self._listen, name="otel-telemetry-orders", daemon=True).start()

    def on_stop(self, stop: Callable[[float], None]) -> None:
        """Call `stop` with the seconds that it may take, each time the supervisor orders it, or has ordered it."""
        with self._lock:
            self._stop_callback = stop
            for seconds in self._waiting:
                stop(seconds)

    def wait_until_admitted(self) -> None:
        """Return when requests may be accepted: the delivering process has found its settings valid."""
        self._admitted.wait()

    def _listen(self) -> None:
        with os.fdopen(self._control, "r", encoding="ascii", closefd=False) as control:
            for line in control:
                self._admitted.set()  # or there is no use in waiting for it any more
                if line != GO:
                    with self._lock:
                        self._stop_callback(float(line))
        os._exit(_ORPHANED)  # nobody is left to tell; what is acknowledged is on disk

    def ready(self) -> None:
        """Report to the supervisor that this process works."""
        os.write(self._reports, b"{}\n")

    def refused(self, error: ConfigurationError) -> None:
        """Report to the supervisor why this process cannot start."""
        os.write(self._reports, json.dumps([error.key, error.problem, error.hint]).encode() + b"\n")


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """Yield an address for a socket's path; one that is too long is reached through its folder's descriptor."""
    if len(os.fsencode(path)) <= _LONGEST_ADDRESS or not Path("/proc/self/fd").exists():
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, _short(path) as address:
        connection.settimeout(_ANSWER_SECONDS)
        return connection.connect_ex(address) == 0
