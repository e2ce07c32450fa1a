"""A database of an older system is not written to: it is recognised, left as it is, the error says the next step."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.db import database
from tests.backends.postgres import PASSWORD, QUOTED
from tests.older import databases

OPENINGS = (database.connect, database.reader)
MADE: dict[str, Callable[[Path], str]] = {
    "module": databases.module,
    "chat bot": databases.bot,
    "chronicle": databases.chronicle,
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("opening", OPENINGS)
@pytest.mark.parametrize("system", MADE)
def test_each_older_system_is_named_with_the_command_that_brings_its_rows_over(tmp_path, system, opening):
    path = tmp_path / "old.db"
    url = MADE[system](path)
    before = digest(path)
    with pytest.raises(ConfigurationError, match=system) as refused:
        opening(url)
    assert refused.value.key == "request_log.url"
    assert refused.value.hint.startswith(f"otel-telemetry import {url} --into ")
    assert digest(path) == before
    assert [each.name for each in tmp_path.iterdir()] == ["old.db"]


@pytest.mark.parametrize("opening", OPENINGS)
def test_a_file_with_a_log_beside_it_is_left_as_it_is_with_its_log(tmp_path, opening):
    databases.module(tmp_path / "living.db", journal="wal", rows={})
    connection = sqlite3.connect(tmp_path / "living.db")
    connection.execute("INSERT INTO feedback (ts, verdict) VALUES ('2025-09-01T10:00:00', 'up')")
    connection.commit()
    for end in ("", "-wal"):  # as it is where the program was killed
        shutil.copy(tmp_path / f"living.db{end}", tmp_path / f"old.db{end}")
    connection.close()
    before = digest(tmp_path / "old.db"), digest(tmp_path / "old.db-wal")
    with pytest.raises(ConfigurationError, match="module"):
        opening(f"sqlite:///{tmp_path / 'old.db'}")
    assert (digest(tmp_path / "old.db"), digest(tmp_path / "old.db-wal")) == before


@pytest.mark.parametrize("opening", OPENINGS)
def test_tables_of_an_app_where_ours_would_be_are_refused_too(tmp_path, opening):
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.execute("CREATE TABLE feedback (id INTEGER, stars INTEGER)")
    connection.close()
    with pytest.raises(ConfigurationError, match="has a table feedback of somebody else"):
        opening(f"sqlite:///{tmp_path / 'app.db'}")


def test_an_app_with_other_tables_may_share_its_file(tmp_path):
    connection = sqlite3.connect(tmp_path / "app.db")
    connection.execute("CREATE TABLE orders (id INTEGER)")
    connection.close()
    database.connect(f"sqlite:///{tmp_path / 'app.db'}").dispose()
    assert database.reader(f"sqlite:///{tmp_path / 'app.db'}")


@pytest.mark.parametrize("opening", OPENINGS)
def test_chronicle_on_postgresql_is_recognised_without_showing_the_password(postgres, opening):
    url = databases.chronicle_on_postgres(postgres.database())
    with pytest.raises(ConfigurationError, match="chronicle") as refused:
        opening(url)
    assert "otel-telemetry import postgresql://" in refused.value.hint
    assert PASSWORD not in str(refused.value)
    assert QUOTED not in str(refused.value)


def test_a_gateway_on_such_a_file_ends_at_once_and_says_why(tmp_path):
    url = databases.module(tmp_path / "old.db")
    command = [sys.executable, "-m", "otel_telemetry.cli", "serve", "--db", url, "--http-port", "0", "--grpc-port", "0"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "the SQLite telemetry module" in " ".join(ended.stderr.split())
    assert "otel-telemetry import" in " ".join(ended.stderr.split())
