"""The ClickHouse engine for tests, where chdb is installed in an environment of its own, outside of the repository.

With REQUIRE_BUILT=1 (`make e2e`) what is missing is installed there (555 MB); else such tests are skipped.
`clickhouse_front.py` is what runs.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import process, programs
from tests.company import environments

_CHDB = "chdb-core==26.9.0"


def python() -> Path:
    """Return the Python that has chdb."""
    folder = environments.cache() / "chdb"
    found = folder / "bin" / "python"
    if not found.exists() and programs.required(programs.REQUIRE_BUILT):
        subprocess.run([environments.uv(), "venv", "--quiet", "--python", sys.executable, folder], check=True)
        subprocess.run([environments.uv(), "pip", "install", "--quiet", "--python", found, _CHDB], check=True)
    if not found.exists():
        programs.absent(f"{_CHDB} is not in {folder}", programs.REQUIRE_BUILT)
    return found


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
