"""A real PostgreSQL for tests: its own cluster in a temporary folder, on a free port of loopback, as safe as shipped.

fsync stays on: what tests say of crashes they say of the server as people run it. The server refuses to run as root,
so there it runs as `postgres` or `nobody`.
"""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from tests.backends import process, programs

USER = "tester"
PASSWORD = "p@ss/w:rd"  # needs quoting in a URL
QUOTED = "p%40ss%2Fw%3Ard"
_FOLDERS = ("/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/pgsql/bin")
_START_SECONDS = 60.0


class PostgresServer:
    """One cluster, which may be stopped, killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.bin = programs.program("initdb", "postgresql", _FOLDERS).parent
        self.folder = folder
        self.port = process.free_port()
        self._as: dict[str, Any] = _unprivileged(folder)
        self._process: subprocess.Popen[Any] | None = None
        self._log = (folder / "log").open("ab")
        self._initialise()

    def _initialise(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)  # the folder is the server's user's alone
        subprocess.run(
            [
                *(self.bin / "initdb", "--pgdata", self.folder / "data", "--username", USER, "--pwfile", secret),
                *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"),
            ],
            check=True, stdout=self._log, stderr=self._log, timeout=120, cwd=self.folder, **self._as,
        )  # fmt: skip

    def start(self) -> None:
        """Start and wait until it answers."""
        options = {"listen_addresses": "127.0.0.1", "port": str(self.port), "unix_socket_directories": ""}
        options["dynamic_shared_memory_type"] = "mmap"  # in its folder: what a killed server leaves goes with that
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command: list[str | Path] = [self.bin / "postgres", "-D", self.folder / "data", *given]
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process is None or self._process.poll() is not None:  # a lock of a killed one may linger
                self._process = subprocess.Popen(
                    command, stdout=self._log, stderr=self._log, cwd=self.folder, **self._as
                )
            if time.monotonic() > deadline:
                raise TimeoutError((self.folder / "log").read_text()[-2_000:])
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def pid(self) -> int:
        """The process id of the server; 0 where it is stopped."""
        return self._process.pid if self._process else 0

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: SIGINT closes all connections in order, SIGKILL is a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=60)
            self._process = None

    def close(self) -> None:
        """Stop for good, whatever state it is in: nobody will read these files again."""
        self.stop(signal.SIGQUIT)
        self._log.close()

    def connect(self, database: str = "postgres") -> "psycopg.Connection[tuple[Any, ...]]":
        """Return a connection with nothing of ours in between, that commits each statement."""
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def database(self, like: str = "template1") -> str:
        """Make a database, empty or like another one that nobody is connected to; return its URL."""
        name = f"t{secrets.token_hex(6)}"
        create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(like))
        with self.connect() as connection:
            connection.execute(create)
        return self.url(name)

    def url(self, database: str, *, user: str = USER, password: str = QUOTED, host: str = "127.0.0.1") -> str:
        """Return the URL of a database."""
        return f"postgresql://{user}:{password}@{host}:{self.port}/{database}"


def _unprivileged(folder: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def running() -> AbstractContextManager[PostgresServer]:
    """Run a server for as long as the block lasts."""
    return programs.in_a_folder(PostgresServer)


@pytest.fixture(scope="session", name="postgres")
def postgres_fixture() -> Iterator[PostgresServer]:
    """A server that all tests share: make a database of your own in it, and leave it running."""
    with running() as server:
        yield server


@pytest.fixture(name="own_postgres")
def own_postgres_fixture() -> Iterator[PostgresServer]:
    """A server for one test, which may kill it."""
    with running() as server:
        yield server
