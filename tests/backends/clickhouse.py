"""The ClickHouse engine for tests, where chdb is installed in an environment of its own, outside of the repository.

With REQUIRE_BUILT=1 (`make e2e`) what is missing is installed there (555 MB); else such tests are skipped.
`clickhouse_front.py` is what runs.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import packages, process, programs

_CHDB = "chdb-core==26.9.0"


def python() -> Path:
    """Return the Python that has chdb."""
    return packages.program("chdb", _CHDB, "python")


class ClickHouseServer:
    """The engine behind HTTP, which may be killed and started again; its tables are in a folder."""

    def __init__(self, folder: Path) -> None:
        port = process.free_port()
        front = Path(__file__).with_name("clickhouse_front.py")
        command: list[str | Path] = [python(), front, str(port), folder / "data"]
        self.address = f"http://127.0.0.1:{port}"
        self._process = process.Process(command, folder, f"{self.address}/ping")

    def url(self, database: str = "telemetry") -> str:
        """Return what `request_log.clickhouse.url` is set to."""
        return f"{self.address}/{database}"

    def start(self) -> None:
        """Start, and wait until it answers."""
        self._process.start()

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()

    def close(self) -> None:
        """End it for good: its files are not read again."""
        self._process.kill()


@pytest.fixture(name="clickhouse")
def clickhouse_fixture() -> Iterator[ClickHouseServer]:
    """A server for one test, which may kill it."""
    with programs.in_a_folder(ClickHouseServer) as server:
        yield server
