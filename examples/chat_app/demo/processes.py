"""The demo's child processes: started on free loopback ports, watched, and stopped whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

ROOT: Final = Path(__file__).resolve().parents[3]
_BIN: Final = Path(sys.executable).parent
#: Seconds that a child gets to become healthy, and to stop.
START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 15.0
_TAIL_LINES: Final = 25


class DemoError(Exception):
    """The demo cannot go on. The message says why, and `hint` what to do."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


@dataclass(slots=True, frozen=True)
class Child:
    """One running program and the file that its output goes to."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """Return its last lines."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL_LINES:])


class Children:
    """The programs of one run: `with Children(folder) as children`. None outlives the block."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in reversed(self._children):
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> Child:
        """Start a program of this environment's bin folder; nothing of the shell's own OTEL_* settings reaches it."""
        log = self._logs / f"{name}.log"
        inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith("OTEL_")}
        inherited["PATH"] = f"{_BIN}{os.pathsep}{inherited.get('PATH', '')}"  # where they look for one another
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own programs
                [str(_BIN / command[0]), *command[1:]],
                env=inherited | {"PYTHONUNBUFFERED": "1"} | dict(environment),
                cwd=self._logs.parent,  # not where somebody may keep an otel-telemetry.toml
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops them in order
            )
        child = Child(name, process, log)
        self._children.append(child)
        return child

    def run(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Run a program to its end; raise DemoError where it fails, or takes too long."""
        child = self.start(name, command, environment)
        try:
            code = child.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{name} did not end in {START_SECONDS:g} s:\n{child.tail()}") from None
        self._children.remove(child)
        if code:
            raise DemoError(f"{name} ended with exit code {code}:\n{child.tail()}")

    def wait_healthy(self, child: Child, url: str) -> None:
        """Wait until `url` answers 200, or raise DemoError with the end of the child's output."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            self.check()
            try:
                if httpx.get(url, timeout=2).is_success:
                    return
            except httpx.HTTPError:
                time.sleep(0.05)
        raise DemoError(f"{child.name} did not become healthy:\n{child.tail()}", f"its whole output is in {child.log}")

    def check(self, patience: float = 0.0) -> None:
        """Raise DemoError where a child has died; wait `patience` seconds for one that is about to."""
        until = time.monotonic() + patience
        while True:
            for child in self._children:
                self._alive(child)
            if time.monotonic() >= until:
                return
            time.sleep(0.02)

    @staticmethod
    def _alive(child: Child) -> None:
        code = child.process.poll()
        if code is not None:
            raise DemoError(
                f"{child.name} ended early with exit code {code}:\n{child.tail()}",
                f"its whole output is in {child.log}; run the demo again once that is mended "
                "(a port that was taken in the meantime is gone the next time)",
            )

    def stop(self, child: Child) -> int:
        """Ask a child to stop, wait, and return its exit code."""
        child.process.send_signal(signal.SIGTERM)
        try:
            code = child.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise DemoError(f"{child.name} did not stop in {STOP_SECONDS:g} s:\n{child.tail()}") from None
        self._children.remove(child)
        return code


def free_ports(count: int) -> list[int]:
    """Return loopback ports that are free now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports
