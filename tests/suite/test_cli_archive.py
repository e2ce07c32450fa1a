"""`otel-telemetry export --to` writes whole days as Parquet files, which are read as one table."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.conftest import START, chat, make_span

pq = pytest.importorskip("pyarrow.parquet")
BEGIN = datetime.fromtimestamp(START / 1e9, UTC)
DAY = 86_400.0


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request: pytest.FixtureRequest, with_tables: Callable[[str], str]) -> str:
    """Three days with two requests each, and the present day with one."""
    url = with_tables(request.param)
    now = (datetime.now(UTC) - BEGIN).total_seconds()
    store = open_store(RequestLogSettings(url=url, store_text=True))
    for number, start in enumerate((0.0, 1.0, DAY, DAY + 1, 3 * DAY, 3 * DAY + 1, now)):
        trace = f"{number + 1:032x}"
        asked = {"request_log.route": "direct", "request_log.query_text": "what is said stays"}
        store.write([make_span(2, 1, chat(), trace_id=trace, start=start)])
        store.write([make_span(1, None, asked, trace_id=trace, start=start)])
    store.close()
    return url


def run(url: str, target: Path | str, *more: str) -> Result:
    return CliRunner().invoke(app, ["export", "--db", url, "--to", str(target), *more])


def stored(url: str, table: sa.Table) -> list[dict[str, Any]]:
    engine = database.reader(url)
    ended = datetime.combine(datetime.now(UTC).date(), datetime.min.time(), UTC)
    with engine.connect() as connection:
        query = sa.select(table).where(table.c.ts < ended).order_by(table.c.ts, table.c.id)
        rows = [dict(row) for row in connection.execute(query).mappings()]
    engine.dispose()
    return rows


def test_days_that_have_ended_are_read_as_one_table_without_texts(url: str, tmp_path: Path) -> None:
    result = run(url, tmp_path / "archive")
    assert result.exit_code == 0, result.output
    assert "request_log: 6 rows written" in result.output
    for table in (schema.request_log, schema.llm_call):
        found = pq.read_table(tmp_path / "archive" / table.name, partitioning="hive").sort_by([("ts", "ascending")])
        rows, expected = found.to_pylist(), stored(url, table)
        assert [row["id"] for row in rows] == [row["id"] for row in expected]
        for name in ("ts", "cost_usd", "trace_id", "ok", "prompt_tokens"):
            assert [row[name] for row in rows] == [row[name] for row in expected], name
        assert [str(row["day"]) for row in rows] == [str(row["ts"].date()) for row in expected]
        assert not schema.TEXTS & set(found.column_names)
    days = sorted(path.name for path in (tmp_path / "archive" / "request_log").iterdir())
    assert days == [f"day={(BEGIN + timedelta(days=number)).date()}" for number in (0, 1, 3)]
    assert b"what is said stays" not in b"".join(path.read_bytes() for path in tmp_path.rglob("*.parquet"))
    assert not list(tmp_path.rglob("*.part"))


def test_a_day_of_which_rows_were_deleted_is_left_until_it_is_to_be_replaced(url: str, tmp_path: Path) -> None:
    run(url, tmp_path)
    first = next((tmp_path / "request_log" / f"day={BEGIN.date()}").iterdir())
    before = first.read_bytes()
    engine = database.connect(url)
    with engine.begin() as connection:
        connection.execute(sa.delete(schema.request_log).where(schema.request_log.c.ts == BEGIN))
    engine.dispose()
    result = run(url, tmp_path)
    assert f"request_log of {BEGIN.date()} is left as it is" in result.output
    assert "request_log: 4 rows written" in result.output
    assert first.read_bytes() == before
    assert "request_log: 5 rows written" in run(url, tmp_path, "--replace").output
    assert pq.read_metadata(first).num_rows == 1


def test_days_are_chosen_and_only_whole_ones_are_written(url: str, tmp_path: Path) -> None:
    since = BEGIN + timedelta(hours=1)
    until = BEGIN.date() + timedelta(days=3)
    result = run(url, tmp_path, "-f", f"since={since:%Y-%m-%dT%H:%M}", "-f", f"until={until}")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "request_log").iterdir()] == [f"day={BEGIN.date() + timedelta(days=1)}"]
    refused = run(url, tmp_path, "-f", "route=chat").exception
    assert isinstance(refused, ConfigurationError)
    assert "route cannot go with --to" in str(refused)


@pytest.mark.parametrize("target", ["ftp://x/y", "s3://", "/proc/no"])
def test_a_target_that_cannot_be_used_is_an_error_in_words(url: str, target: str) -> None:
    refused = run(url, target).exception
    assert isinstance(refused, ConfigurationError)
    assert refused.key == "--to"
