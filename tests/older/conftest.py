"""Brings older databases over with the command, and reads what came of it."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.db import database, schema

SECRET = "a secret of this test only"


@pytest.fixture(name="bring")
def bring_fixture(monkeypatch, tmp_path) -> Callable[..., dict[str, dict[str, Any]]]:
    """Returns what becomes of each table, as the command tells it."""
    monkeypatch.setenv("OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET", SECRET)
    monkeypatch.setenv("OTEL_TELEMETRY_REDACTION__LEAK_CHECK_RATIO", "1")
    monkeypatch.chdir(tmp_path)

    def bring(old: str, into: str, *options: str) -> dict[str, dict[str, Any]]:
        done = CliRunner().invoke(app, ["import", old, "--into", into, "--json", *options], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return {row["table"]: row for row in json.loads(done.stdout)}

    return bring


@pytest.fixture(name="stored")
def stored_fixture() -> Callable[[str, str], list[dict[str, Any]]]:
    """Reads a table of ours."""

    def stored(url: str, name: str) -> list[dict[str, Any]]:
        engine = database.reader(url)
        table = schema.metadata.tables[name]
        with engine.connect() as connection:
            found = connection.execute(sa.select(table).order_by(*table.primary_key.columns)).mappings().all()
        engine.dispose()
        return [dict(row) for row in found]

    return stored


@pytest.fixture(name="new", params=["sqlite", "postgres"])
def new_fixture(request, tmp_path) -> str:
    """Names an empty database: a file, and one of a real server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'new.db'}"
    url: str = request.getfixturevalue("postgres").database()
    return url


def everything(path: Path) -> str:
    """Return all that a file of SQLite holds, as text."""
    connection = sqlite3.connect(path)
    try:
        return "\n".join(connection.iterdump())
    finally:
        connection.close()
