"""Databases for tests, each of its own: with our tables and no row, or with nothing in it.

One with tables is a copy, which takes a tenth of the time that the migrations take.
"""

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.backends.postgres import PostgresServer


@pytest.fixture(scope="session", name="tables")
def tables_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of SQLite that is copied."""
    path: Path = tmp_path_factory.mktemp("tables") / "log.db"
    open_store(RequestLogSettings(url=f"sqlite:///{path}")).close()
    return path


@pytest.fixture(scope="session", name="postgres_tables")
def postgres_tables_fixture(postgres: PostgresServer) -> str:
    """The name of the database of PostgreSQL that is copied."""
    url = postgres.database()
    open_store(RequestLogSettings(url=url)).close()
    return url.rpartition("/")[2]


@pytest.fixture(name="with_tables")
def with_tables_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Makes such a database in "sqlite" or "postgres" and returns its URL.

    For "clickhouse", in which nobody writes, it is one of SQLite: `as_read` sends its rows there.
    """
    numbers = itertools.count(1)

    def with_tables(kind: str) -> str:
        if kind in {"sqlite", "clickhouse"}:
            return f"sqlite:///{shutil.copy(request.getfixturevalue('tables'), tmp_path / f'log{next(numbers)}.db')}"
        url: str = request.getfixturevalue("postgres").database(request.getfixturevalue("postgres_tables"))
        return url

    return with_tables


@pytest.fixture(name="empty_database")
def empty_database_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], str]:
    """Makes a database without tables in "sqlite" or "postgres" and returns its URL."""
    numbers = itertools.count(1)

    def empty_database(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / f'empty{next(numbers)}.db'}"
        url: str = request.getfixturevalue("postgres").database()
        return url

    return empty_database
