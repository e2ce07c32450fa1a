"""`otel-telemetry copy` brings every row of every table into another database, and goes on where it was stopped."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from otel_telemetry.base.errors import ConfigurationError, StoreError
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, outbox, schema
from otel_telemetry.exporters.request_log.db.column_types import Json, Money, UtcTime
from otel_telemetry.exporters.request_log.operate import copying
from otel_telemetry.exporters.request_log.operate.copying import TABLES, Copying
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.conftest import chat, make_span
from tests.exporters.known import rows_of

THERE_AND_BACK = pytest.mark.parametrize(("old", "new"), [("sqlite", "postgres"), ("postgres", "sqlite")])
ODD_TEXT = "naïve 谢谢 🙂 \t\\N 'quoted' \"twice\"\nline"


def run(old: str, new: str, *more: str) -> Result:
    return CliRunner().invoke(app, ["copy", old, "--db", new, *more], env={"COLUMNS": "200"})


def value(column: sa.Column[Any], number: int) -> Any:
    """Return a value that is hard to bring over, for a column of any type."""
    kind = column.type
    if column.nullable and number % 3 == 1:
        return None
    if isinstance(kind, UtcTime):
        return datetime(2026, 9, 1, 12, 0, 0, 123_456, tzinfo=UTC) - timedelta(days=number)
    if isinstance(kind, Money):
        return Decimal("0.000000000001") * (number + 1)
    if isinstance(kind, Json):
        return {"text": ODD_TEXT, "n": [number, 0.1, None, True], "long": 2**60 + number}
    if isinstance(kind, sa.Boolean):
        return number % 2 == 0
    if isinstance(kind, sa.LargeBinary):
        return bytes(range(256)) + bytes([number % 256])
    if isinstance(kind, sa.Double):
        return 0.1 * number
    if isinstance(kind, sa.Integer):
        return 2**40 + number
    return f"{column.name} {number} {'' if column.primary_key else ODD_TEXT}"


def fill(url: str, rows: int) -> None:
    """Put rows into every table that is copied."""
    engine = database.connect(url)
    with engine.begin() as connection:
        for table in TABLES:
            columns = [column for column in table.c if column.computed is None]
            made = [{column.name: value(column, number) for column in columns} for number in range(rows)]
            connection.execute(sa.insert(table), made)
    engine.dispose()


def contents(url: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every table, in order of their keys."""
    engine = database.reader(url)
    with engine.connect() as connection:
        found = {
            table.name: [dict(row) for row in connection.execute(sa.select(table)).mappings()]
            for table in schema.metadata.sorted_tables
            if not table.name.startswith("rollup")
        }
    engine.dispose()
    return {name: sorted(rows, key=lambda row: [str(each) for each in row.values()]) for name, rows in found.items()}


def without_spaces(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with their computed text as JSON: databases write it with other spaces."""
    return [{**row, "sources_json": json.loads(row["sources_json"]) if row["sources_json"] else None} for row in rows]


@THERE_AND_BACK
def test_every_value_of_every_table_comes_over(with_tables: Callable[[str], str], old: str, new: str) -> None:
    source, target = with_tables(old), with_tables(new)
    fill(source, 40)
    result = run(source, target, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == [{"table": table.name, "rows": 40} for table in TABLES]
    before, after = contents(source), contents(target)
    before["feedback"], after["feedback"] = without_spaces(before["feedback"]), without_spaces(after["feedback"])
    assert after == before


@THERE_AND_BACK
def test_what_comes_late_finds_its_trace_in_the_new_database(
    with_tables: Callable[[str], str], old: str, new: str
) -> None:
    source, target, whole = with_tables(old), with_tables(new), with_tables(new)
    request = make_span(1, None, {"request_log.id": "r-1", "request_log.route": "direct"}, kind="SERVER")
    calls = [make_span(2, 1, chat()), make_span(3, 1, chat(tokens=(7, 8)))]
    for url, spans in ((source, [calls[0]]), (whole, [calls[0], request, calls[1]])):
        write(url, spans)
    assert run(source, target).exit_code == 0
    write(target, [request, calls[1]])
    tables = [schema.request_log, schema.llm_call, schema.trace_facts, schema.request_claim]
    engines = [database.reader(url) for url in (target, whole)]
    continued, expected = (rows_of(engine, tables) for engine in engines)
    for engine in engines:
        engine.dispose()
    assert continued == expected
    assert [row["llm_calls"] for row in continued["request_log"]] == [2]


def write(url: str, spans: list[Any]) -> None:
    store = open_store(RequestLogSettings(url=url))
    assert store.write(spans).requests >= 0
    store.close()


def test_a_copy_that_was_stopped_goes_on(with_tables: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "_CHUNK", 10)
    source, target = with_tables("sqlite"), with_tables("postgres")
    fill(source, 25)
    with Copying(source, target) as work:
        for _ in itertools.islice(work.steps(), 20):
            pass
    begun = sum(map(len, contents(target).values()))
    result = run(source, target)
    assert result.exit_code == 0, result.output
    assert 0 < begun < sum(map(len, contents(target).values())) == sum(map(len, contents(source).values()))


def test_rows_are_noted_for_clickhouse_where_the_new_database_has_an_outbox(with_tables: Callable[[str], str]) -> None:
    source, target = with_tables("sqlite"), with_tables("postgres")
    write(source, [make_span(1, None, {"request_log.route": "direct"}), make_span(2, 1, chat())])
    engine = database.connect(target)
    with engine.begin() as connection:
        connection.execute(sa.insert(outbox.outbox_target).values(name="clickhouse", ts=datetime.now(UTC)))
    engine.dispose()
    assert run(source, target).exit_code == 0
    noted = [outbox.load(row["body"]) for row in contents(target)["outbox"]]
    assert [(len(requests), len(calls)) for requests, calls, _ in noted] == [(0, 1), (1, 0)]


def test_a_database_with_other_rows_is_refused_and_left_as_it_is(with_tables: Callable[[str], str]) -> None:
    source, target = with_tables("sqlite"), with_tables("sqlite")
    write(source, [make_span(1, None, {"request_log.route": "direct"})])
    write(target, [make_span(5, None, {"request_log.route": "other"}, trace_id="b" * 32)])
    before = contents(target)
    result = run(source, target)
    assert "request_log.url: has 1 of 1 rows in request_log that are not in the old database" in str(result.exception)
    assert contents(target) == before


def test_a_database_that_is_written_meanwhile_is_told(with_tables: Callable[[str], str]) -> None:
    source, target = with_tables("sqlite"), with_tables("sqlite")
    write(source, [make_span(1, None, {"request_log.route": "direct"})])
    with Copying(source, target) as work:
        list(work.steps())
        write(source, [make_span(2, 1, chat())])
        with pytest.raises(StoreError, match="stop what writes to the old database"):
            list(work.compare())


def test_a_row_that_the_new_database_refuses_is_named(with_tables: Callable[[str], str]) -> None:
    source, target = with_tables("sqlite"), with_tables("postgres")
    engine = database.connect(source)
    with engine.begin() as connection:
        connection.execute(sa.insert(schema.workflow_seen).values(id="a\0b", ts=datetime.now(UTC)))
    engine.dispose()
    result = run(source, target)
    assert "refuses one of the rows ['a\\x00b'] to ['a\\x00b'] of workflow_seen" in str(result.exception)


def test_the_same_database_and_one_that_is_not_there_are_refused(with_tables: Callable[[str], str]) -> None:
    source = with_tables("sqlite")
    assert "is the old database itself" in str(run(source, source).exception)
    missing = run(f"{source}.gone", with_tables("sqlite"))
    assert isinstance(missing.exception, ConfigurationError)
