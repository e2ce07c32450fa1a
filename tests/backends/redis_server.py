"""A real redis-server for tests: on a free port of loopback, with a temporary folder, nothing on disk."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.backends import process, programs

_START_SECONDS = 20.0


class RedisServer:
    """One server, which may be stopped, started again on its port, frozen and thawed."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._program = programs.program("redis-server", "redis-server", ("/opt/homebrew/bin",))
        self._folder = folder
        self._arguments = arguments
        self._process: subprocess.Popen[Any] | None = None
        self.port = process.free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = {"port": self.port, "bind": "127.0.0.1", "dir": self._folder, "save": "", "appendonly": "no"}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        arguments.extend(self._arguments)
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen([self._program, *arguments], stdout=log, stderr=log)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError((self._folder / "log").read_text(errors="replace")[-2_000:])
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), 1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def freeze(self) -> None:
        """Stop it in its tracks: it still takes connections, and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """End it, frozen or not; what it held is gone."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)

    def close(self) -> None:
        """End it for good."""
        self.stop()


def running(*arguments: str) -> AbstractContextManager[RedisServer]:
    """Run a server with further arguments."""
    return programs.in_a_folder(lambda folder: RedisServer(folder, *arguments))


@pytest.fixture(scope="session", name="shared_redis")
def shared_redis_fixture() -> Iterator[RedisServer]:
    """A server that all tests share: leave it running."""
    with running() as server:
        yield server


@pytest.fixture(name="redis_server")
def redis_server_fixture(shared_redis: RedisServer) -> RedisServer:
    """The shared server, empty."""
    with socket.create_connection(("127.0.0.1", shared_redis.port), 5) as connection:
        connection.sendall(b"FLUSHALL\r\n")
        assert connection.recv(16).startswith(b"+OK")
    return shared_redis


@pytest.fixture(name="own_redis")
def own_redis_fixture() -> Iterator[RedisServer]:
    """A server for one test, which may stop or freeze it."""
    with running() as server:
        yield server
