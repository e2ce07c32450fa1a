"""Rows go on to ClickHouse: whatever is killed in between, they end there as here, to the last digit of cost."""

import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from otel_telemetry.base.errors import ConfigurationError, StoreUnavailable
from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log.clickhouse import tables
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import bulk, column_types, database, outbox, schema
from otel_telemetry.exporters.request_log.db.partitions import Partitions
from otel_telemetry.exporters.request_log.operate.erase import Eraser
from otel_telemetry.exporters.request_log.operate.erase_search import Person
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.backends.clickhouse import clickhouse_fixture, insert
from tests.exporters.test_request_log_many_writers import spans_of

__all__ = ["clickhouse_fixture"]

KILLS = int(os.environ.get("CLICKHOUSE_KILLS", "4"))
WRITER = Path(__file__).with_name("many_writers.py")


@pytest.fixture(name="command")
def command_fixture(clickhouse, monkeypatch):
    """Run `otel-telemetry clickhouse ...` on a database."""
    monkeypatch.setenv("OTEL_TELEMETRY_REQUEST_LOG__CLICKHOUSE__URL", clickhouse.url())

    def run(url: str, *words: str) -> str:
        result = CliRunner().invoke(app, ["clickhouse", *words, "--db", url], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return run


def here(url: str) -> dict[str, list[dict[str, Any]]]:
    engine = database.reader(url)
    with engine.connect() as connection:
        found = {
            table.name: [
                _plain(table, {name: sent for name, sent in tables.row(table, dict(row), 0).items() if name in table.c})
                for row in connection.execute(sa.select(table).order_by(table.c.trace_id, table.c.span_id)).mappings()
            ]
            for table in tables.TABLES
        }
    engine.dispose()
    return found


def there(server: ClickHouse) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for table in tables.TABLES:
        names = ", ".join(
            f"toString({name}) AS {name}"
            if isinstance(column.type, column_types.Money | column_types.UtcTime)
            else name
            for name, column in table.c.items()
        )
        settings = "SETTINGS output_format_json_quote_64bit_integers = 0"
        query = f"SELECT {names} FROM {server.database}.{table.name} FINAL ORDER BY trace_id, span_id"  # noqa: S608
        answer = server.run(f"{query} FORMAT JSONEachRow {settings}")
        found[table.name] = [_plain(table, orjson.loads(line)) for line in answer.splitlines()]
    return found


def _plain(table: sa.Table, row: dict[str, Any]) -> dict[str, Any]:
    """Return what is known, money as decimals, and JSON as what it says: each database writes it in its own way."""

    def plain(name: str, value: Any) -> Any:
        kind = table.c[name].type
        if isinstance(kind, column_types.Json):
            return orjson.loads(value)
        return Decimal(value) if isinstance(kind, column_types.Money) else value

    return {name: plain(name, value) for name, value in row.items() if value is not None}


def assert_same(url: str, server: ClickHouse) -> None:
    ours, theirs = here(url), there(server)
    for name, rows in ours.items():
        assert len(rows) == len(theirs[name]), name
        for one, other in zip(rows, theirs[name], strict=True):
            assert one == other, name


def test_rows_are_sent_on_as_they_change_and_what_was_there_before_is_sent_once(url, clickhouse, command, span, chat):
    store = open_store(RequestLogSettings(url=url))
    spans = spans_of(60)
    store.write(spans[:100])
    store.close()
    server = ClickHouse(clickhouse.url())
    command(url, "init")
    store.open()
    store.write(spans[100:200])
    command(url, "backfill")
    command(url, "relay", "--once")
    assert_same(url, server)
    for at in range(200, len(spans), 7):
        store.write(spans[at : at + 7])
        if at % 2:
            command(url, "relay", "--once")
    assert '"waiting": 0' not in command(url, "status", "--json") or len(spans) < 214
    command(url, "relay", "--once")
    command(url, "init")
    assert '"waiting": 0' in command(url, "status", "--json")
    assert_same(url, server)
    store.close()


def test_one_row_is_found_without_reading_the_whole_column(shared_clickhouse):
    server = ClickHouse(shared_clickhouse.url("looked_up"))
    tables.make(server)
    tables.make(server)
    insert(server, "request_log", [sent_row(f"r{n}", datetime.now(UTC)) for n in range(40_000)], "many")
    plan = server.rows("EXPLAIN indexes = 1 SELECT ts FROM looked_up.request_log FINAL WHERE id = 'r20'")
    lines = [row["explain"].strip() for row in plan]
    assert "Name: ix_id" in lines
    of_index = lines[lines.index("Name: ix_id") :]
    assert next(line for line in of_index if line.startswith("Granules")) == "Granules: 1/5"


def test_a_database_without_clickhouse_has_an_empty_outbox(url, span, chat):
    store = open_store(RequestLogSettings(url=url))
    store.write([span(1, None, chat())])
    store.close()
    engine = database.reader(url)
    with engine.connect() as connection:
        assert connection.execute(sa.select(outbox.outbox)).first() is None
    engine.dispose()


def relay(url: str, stop: threading.Event, kills: list[float]) -> None:
    """Run relays, each killed after some seconds; the last one until it is told to stop."""
    command = [sys.executable, "-m", "otel_telemetry.cli", "clickhouse", "relay", "--db", url]
    while not stop.is_set():
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            stop.wait(kills.pop() if kills else 3_600)
            process.kill()


def test_whatever_is_killed_the_rows_end_the_same(own_postgres, clickhouse, command, tmp_path):
    url = own_postgres.database()
    open_store(RequestLogSettings(url=url)).close()
    command(url, "init")
    chance = random.Random(KILLS)  # noqa: S311  # no secret
    file = tmp_path / "spans"
    file.write_bytes(pickle.dumps(spans_of(200)))
    stop = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        relays = [pool.submit(relay, url, stop, [chance.uniform(0.5, 4) for _ in range(KILLS)]) for _ in range(2)]
        writer = pool.submit(
            subprocess.run,
            [sys.executable, str(WRITER), url, str(file), "0", "1"],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        for number in range(KILLS):
            time.sleep(chance.uniform(0.2, 2))
            if number % 2:
                own_postgres.stop(signal.SIGKILL)
                own_postgres.start()
            else:
                clickhouse.kill()
                clickhouse.start()
        wait([writer])
        stop.set()
        wait(relays)
        writer.result()
    command(url, "relay", "--once")
    assert_same(url, ClickHouse(clickhouse.url()))


def test_what_is_erased_here_is_erased_there(url, clickhouse, command, span, chat):
    command(url, "init")
    store = open_store(RequestLogSettings(url=url))
    attributes = {"request_log.route": "a", "request_log.user_id": "0123456789ab"}
    store.write([span(1, None, attributes, trace_id="1" * 32), span(2, 1, chat(), trace_id="1" * 32)])
    store.write([span(1, None, {"request_log.route": "b"}, trace_id="2" * 32)])
    store.close()
    command(url, "relay", "--once")
    server = ClickHouse(clickhouse.url())
    assert len(there(server)["request_log"]) == 2
    with Eraser(url, Person("user", ("0123456789ab",), "0123456789ab")) as eraser:
        eraser.erase(eraser.find())
    command(url, "relay", "--once")
    assert [row["route"] for row in there(server)["request_log"]] == ["b"]
    assert there(server)["llm_call"] == []


def test_clickhouse_deletes_rows_and_texts_after_their_days(url, clickhouse, command, monkeypatch):
    def kept(**days: int) -> list[tuple[bool, bool]]:
        """Return, for each row after a merge, whether it is of today, and whether it has its text."""
        for name in ("retention_days", "text_retention_days"):
            variable = f"OTEL_TELEMETRY_REQUEST_LOG__CLICKHOUSE__{name.upper()}"
            monkeypatch.setenv(variable, str(days[name])) if name in days else monkeypatch.delenv(
                variable, raising=False
            )
        command(url, "init")
        server.run(f"OPTIMIZE TABLE {server.database}.request_log FINAL")
        found = there(server)["request_log"]
        return sorted((row["route"] == "today", row.get("query_text") is not None) for row in found)

    server = ClickHouse(clickhouse.url())
    command(url, "init")
    now = datetime.now(UTC)
    days_ago = {"today": 0, "last week": 7, "last month": 30}
    insert(
        server, "request_log", [sent_row(route, now - timedelta(days=days)) for route, days in days_ago.items()], "t"
    )
    assert kept() == [(False, True), (False, True), (True, True)]
    assert kept(retention_days=20) == [(False, True), (True, True)]
    assert kept(retention_days=20, text_retention_days=3) == [(False, False), (True, True)]
    assert kept() == [(False, False), (True, True)]
    assert (
        "TTL" not in server.rows("SELECT create_table_query AS q FROM system.tables WHERE name = 'request_log'")[0]["q"]
    )


def sent_row(route: str, ts: datetime) -> dict[str, Any]:
    """Return the row of a request with a text, as it is sent."""
    return tables.row(schema.request_log, plain_row(route, ts), 1)


def plain_row(route: str, ts: datetime) -> dict[str, Any]:
    """Return a request with a text."""
    values = dict.fromkeys(("llm_calls", "retries"), 0) | dict.fromkeys(
        ("escalated", "fallback_fired", "cache_hit", "ceiling_hit", "per_user_cap_hit", "rate_limited", "ok"), False
    )
    own = {"id": route, "ts": ts, "trace_id": route, "span_id": "1", "route": route, "query_text": "hello"}
    return {**values, **own}


def test_every_character_arrives_as_it_is(url, clickhouse, command):
    command(url, "init")
    odd = "tab\t line\n\r back\\slash \\N \\t quote'\" \x01\x08\x0b\x0c 我 \U0001f600 \u2028"
    values = plain_row(odd, datetime.now(UTC)) | {
        "meta": {odd: [odd, None, 1.5, {"a": True}]},
        "models": [odd],
        "escalated": True,
        "error": "",
        "ok": True,
        "cost_usd": Decimal("0.000000000001"),
        "latency_ms": 1e-7,
        "prompt_tokens": 2**53 + 1,
    }
    write(url, schema.request_log, [values])
    for step in (["backfill"], ["relay", "--once"]):
        ClickHouse(clickhouse.url()).run("TRUNCATE TABLE telemetry.request_log")
        if step[0] == "relay":
            name_rows(url, [(values["trace_id"], values["span_id"], values["ts"])])
        command(url, *step)
        assert_same(url, ClickHouse(clickhouse.url()))
        assert len(there(ClickHouse(clickhouse.url()))["request_log"]) == 1


def test_a_row_that_moved_within_a_day_stays(url, clickhouse, command):
    command(url, "init")
    noon = datetime.now(UTC).replace(hour=12)
    before, after = plain_row("moved", noon - timedelta(hours=1)), plain_row("moved", noon)
    write(url, schema.request_log, [after])
    name_rows(url, [(row["trace_id"], row["span_id"], row["ts"]) for row in (after, before)])
    command(url, "relay", "--once")
    assert [row["ts"] for row in there(ClickHouse(clickhouse.url()))["request_log"]] == [tables.time(noon)]


def write(url: str, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """Write rows that nobody names in the outbox."""
    engine = database.connect(url)
    if engine.dialect.name == "postgresql":
        Partitions(engine).prepare([row["ts"] for row in rows])
    with engine.begin() as connection:
        bulk.bulk(connection).insert(table, [[row.get(name) for name in table.c.keys()] for row in rows])  # noqa: SIM118
    engine.dispose()


def name_rows(url: str, keys: list[outbox.RowKey]) -> None:
    """Name requests in the outbox, all in one entry."""
    engine = database.connect(url)
    with engine.begin() as connection:
        outbox.note(connection, keys, ())
    engine.dispose()


def test_a_row_that_clickhouse_refuses_goes_aside_and_the_others_arrive(url, clickhouse, command, span, chat):
    command(url, "init")
    store = open_store(RequestLogSettings(url=url))
    store.write([span(1, None, {"request_log.route": str(n)}, trace_id=f"{n:032x}") for n in range(1, 20)])
    store.close()
    server = ClickHouse(clickhouse.url())
    server.run("ALTER TABLE telemetry.request_log ADD CONSTRAINT no CHECK route != '7'")
    assert "18 rows; 1 were refused" in command(url, "relay", "--once")
    assert len(there(server)["request_log"]) == 18


def test_an_older_schema_there_is_refused_until_it_is_brought_up_to_date(url, clickhouse, command, span):
    command(url, "init")
    server = ClickHouse(clickhouse.url())
    server.run("ALTER TABLE telemetry.request_log DROP COLUMN region")
    with pytest.raises(ConfigurationError, match="has no column region"):
        command(url, "relay", "--once")
    command(url, "init")
    command(url, "relay", "--once")


@pytest.mark.parametrize(
    "wrong", ["clickhouse://host:9000/x", "http://host:8123", "http://host/x", "http://host:8123/a-b"]
)
def test_a_wrong_url_is_refused_by_the_name_of_its_setting(wrong):
    with pytest.raises(ConfigurationError, match=r"request_log\.clickhouse\.url"):
        ClickHouse(wrong)


def test_a_server_that_is_away_is_waited_for():
    with pytest.raises(StoreUnavailable, match="does not answer"):
        ClickHouse("http://127.0.0.1:9/telemetry").run("SELECT 1")
