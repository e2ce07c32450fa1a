"""The ClickHouse engine for tests, where chdb is installed in an environment of its own, outside of the repository.

With REQUIRE_BUILT=1 (`make e2e`) what is missing is installed there (555 MB); else such tests are skipped.
`clickhouse_front.py` is what runs.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.clickhouse import tables
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse
from otel_telemetry.exporters.request_log.db import column_types, database
from tests.backends import packages, process, programs

_CHDB = "chdb-core==26.9.0"


def python() -> Path:
    """Return the Python that has chdb."""
    return packages.program("chdb", _CHDB, "python")


class ClickHouseServer:
    """The engine behind HTTP, which may be killed and started again; its tables are in a folder."""

    def __init__(self, folder: Path) -> None:
        port = process.free_port()
        front = Path(__file__).resolve().with_name("clickhouse_front.py")
        command: list[str | Path] = [python(), front, str(port), folder / "data"]
        self.address = f"http://127.0.0.1:{port}"
        #: Databases that tests share.
        self.filled: set[str] = set()
        self._process = process.Process(command, folder, f"{self.address}/ping")

    def url(self, database: str = "telemetry") -> str:
        """Return what `request_log.clickhouse.url` is set to."""
        return f"{self.address}/{database}"

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process.start()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()

    def close(self) -> None:
        """End it for good: its files are not read again."""
        self._process.kill()


def send(url: str, server: ClickHouse) -> None:
    """Send the rows of a database, each behind an older version of it with other numbers, and behind one since deleted.

    Whoever reads them without FINAL reads all of these.
    """
    tables.make(server)
    engine = database.reader(url)
    with engine.connect() as connection:
        for table in tables.TABLES:
            rows = [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            if rows:
                keys = {name: [row[name] for row in rows] for name in ("trace_id", "span_id", "ts")}
                old = [tables.row(table, _other(table, row), 1) for row in rows]
                gone = [{**row, "span_id": f"gone{n}", "id": f"gone{n}"} for n, row in enumerate(old)]
                deleted = [
                    tables.tombstone((trace, f"gone{n}", ts), 2)
                    for n, (trace, ts) in enumerate(zip(keys["trace_id"], keys["ts"], strict=True))
                ]
                insert(server, table.name, [*old, *gone], "old")
                insert(server, table.name, [*(tables.row(table, row, 2) for row in rows), *deleted], "new")
    engine.dispose()


def insert(server: ClickHouse, table: str, rows: Iterable[Mapping[str, Any]], token: str) -> None:
    """Insert rows; of two inserts with one token the server takes the first."""
    server.insert_lines(table, ("", "JSONEachRow"), (tables.encode(row) + b"\n" for row in rows), token)


def _other(table: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    numbers = (column_types.Money, sa.BigInteger, sa.Double)
    changed = {
        name: row[name] * 2 + 1
        for name, column in table.c.items()
        if isinstance(column.type, numbers) and row[name] is not None
    }
    return row | changed


@pytest.fixture(scope="session", name="shared_clickhouse")
def shared_clickhouse_fixture() -> Iterator[ClickHouseServer]:
    """One server for many tests, none of which kills it."""
    with programs.in_a_folder(ClickHouseServer) as server:
        yield server


@pytest.fixture(name="as_read")
def as_read_fixture(request: pytest.FixtureRequest) -> Callable[..., str]:
    """Sends the rows of a database to ClickHouse where that is the kind to be read; returns the URL to read them by.

    Rows that are the same in several tests have a name, `once`: the second that asks for them finds them there.
    """

    def as_read(kind: str, url: str, once: str = "") -> str:
        if kind != "clickhouse":
            return url
        server: ClickHouseServer = request.getfixturevalue("shared_clickhouse")
        name = once or f"of_test_{next(_numbers)}"
        found = server.url(name)
        if name not in server.filled:
            send(url, ClickHouse(found))
            server.filled.add(name)
        return found.replace("http://", "clickhouse://")

    return as_read


_numbers = itertools.count(1)


@pytest.fixture(name="clickhouse")
def clickhouse_fixture() -> Iterator[ClickHouseServer]:
    """A server for one test, which may kill it."""
    with programs.in_a_folder(ClickHouseServer) as server:
        yield server
