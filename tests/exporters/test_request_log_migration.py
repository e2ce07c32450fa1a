"""Databases of earlier versions are brought up to date, and late spans mean there what they mean everywhere."""

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, schema
from otel_telemetry.exporters.request_log.store.retention import Retention
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.known import facts, rows_of

SECOND = 1_000_000_000
PACKED, SPLIT = "a" * 32, "b" * 32
SERVED = (schema.request_log, schema.llm_call)
NOW = datetime.now(UTC)


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request: pytest.FixtureRequest, empty_database: Callable[[str], str]) -> str:
    """Names an empty database: an older version makes its tables in it."""
    return empty_database(request.param)


def old_database(url: str, revision: str) -> sa.Engine:
    """Make a database as an earlier version made it, and return how to write to it."""
    parsed = database.parse(url)
    engine: sa.Engine = database._KINDS[parsed.drivername].writer(parsed)
    config = Config()
    config.set_main_option("script_location", str(Path(database.__file__).parents[1] / "migrations"))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    return engine


def put(connection: sa.Connection, name: str, **values: Any) -> None:
    columns, marks = ", ".join(values), ", ".join(f":{key}" for key in values)
    given = {key: json.dumps(each) if isinstance(each, dict) else each for key, each in values.items()}
    connection.execute(sa.text(f"INSERT INTO {name} ({columns}) VALUES ({marks})"), given)  # noqa: S608


@pytest.fixture(name="early")
def early_fixture(span, chat):
    """Return spans of an earlier version: a whole trace, and one that came in parts."""
    request_fields = {"request_log.route": "a", "request_log.note": "n"}
    final = {**chat(), "request_log.stage": "final", "user.id": "0123456789ab"}
    return [
        span(1, None, request_fields, trace_id=PACKED, kind="SERVER"),
        span(2, 1, final, trace_id=PACKED, start=1),
        span(3, 1, {}, trace_id=PACKED, start=2),
        span(1, None, {"request_log.id": "r-1"}, trace_id=SPLIT, kind="SERVER"),
        span(3, 2, {**chat("gpt-4o"), "gen_ai.response.id": "x"}, trace_id=SPLIT, start=1),
        span(2, 1, {**chat("gpt-4o"), "request_log.stage": "router"}, trace_id=SPLIT, start=1, seconds=3.0),
        span(4, 9, {}, trace_id=SPLIT, start=1),
    ]


@pytest.fixture(name="late")
def late_fixture(span, chat):
    """Return what comes when that version is gone: calls, a branch between spans, and another request of that id."""
    return [
        span(5, 3, chat("gpt-4o"), trace_id=PACKED, start=3),
        span(9, 1, {}, trace_id=SPLIT, start=1),
        span(6, 4, chat(), trace_id=SPLIT, start=4),
        span(1, None, {"request_log.id": "r-1"}, trace_id="1" * 32),
    ]


def old_rows(connection: sa.Connection, early: list[Any]) -> None:
    """Write what an earlier version stored of these spans beside request_log and llm_call."""
    ts = [datetime.fromtimestamp(each.start_ns // SECOND, UTC) for each in early]
    end = early[1].end_ns
    sums = {"call_ns:final": SECOND, "llm_calls": 1}
    last = [end, early[1].span_id, ["gpt-4o-mini", "openai", None, None]]
    part = [sums, {"": last, "final": last}, {"user_id": [end, early[1].span_id, "0123456789ab"]}]
    nodes = [
        [
            early[0].span_id,
            None,
            "chat",
            ts[0].isoformat(),
            None,
            {"route": "a", "meta": {"note": "n"}, "service": "chat", "ok": True, "latency_ms": 1000.0},
            0b1000011,
            [0, 0, None, None],
            None,
            None,
            1,
        ],
        [early[1].span_id, early[0].span_id, "chat", ts[1].isoformat(), None, None, 0b100, [0, 0, 0, 0], part, None, 0],
    ]
    irrelevant = [[early[2].span_id, early[2].parent_span_id, "chat", early[2].start_ns // 1_000, False, None]]
    put(connection, "span_packed", trace_key=1, ts=ts[2], body=json.dumps([PACKED, nodes, irrelevant]))
    flags = dict.fromkeys(
        ("local_root", "carrier", "call", "of_log", "call_below", "carrier_below", "is_request"), False
    )
    common = {"trace_id": SPLIT, "service": "chat", "direct_calls": 0, "has_text": False, **flags}
    request = {"id": "r-1", "service": "chat", "ok": True, "latency_ms": 1000.0}
    put(
        connection,
        "span_node",
        **{
            **common,
            "span_id": early[3].span_id,
            "ts": ts[3],
            "local_root": True,
            "carrier": True,
            "is_request": True,
            "claimed_id": "r-1",
            "log_id": "r-1",
            "facts": request,
        },
    )
    own = {
        "sums": {"llm_calls": 1},
        "told": {},
        "last": {"": [early[4].end_ns, early[4].span_id, ["gpt-4o", "openai", None, "x"]]},
    }
    put(
        connection,
        "span_node",
        **{
            **common,
            "span_id": early[4].span_id,
            "parent_span_id": early[5].span_id,
            "ts": ts[4],
            "call": True,
            "response_id": "x",
            "part": own,
        },
    )
    put(
        connection,
        "span_node",
        **{
            **common,
            "span_id": early[5].span_id,
            "parent_span_id": early[3].span_id,
            "ts": ts[5],
            "call": True,
            "call_below": True,
            "part": {"sums": {"span_ns:router": 3 * SECOND}, "last": {}, "told": {}},
        },
    )
    put(
        connection,
        "span_waiting",
        trace_id=SPLIT,
        span_id=early[6].span_id,
        parent_span_id=early[6].parent_span_id,
        service="chat",
        at_us=early[6].start_ns // 1_000,
        local_root=False,
    )


def test_late_spans_mean_what_they_mean_everywhere(url, open_url, early, late, tmp_path):
    fresh = open_url(f"sqlite:///{tmp_path / 'fresh.db'}")
    fresh.write(early)
    served = rows_of(fresh._engine, SERVED)
    engine = old_database(url, "0009")
    with engine.begin() as connection:
        for table in SERVED:
            there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            for row in served[table.name]:
                connection.execute(sa.insert(table), {name: value for name, value in row.items() if name in there})
        old_rows(connection, early)
    engine.dispose()
    store = open_url(url)
    assert rows_of(store._engine, SERVED) == served
    with store._engine.connect() as connection:
        assert len(facts(connection)) == len(early)
        assert not sa.inspect(connection).has_table("span_node")
    for each in (fresh, store):
        assert each.write(early).spans == 0
        for span in late:
            each.write([span])
    found, expected = rows_of(store._engine, SERVED), rows_of(fresh._engine, SERVED)
    for name, rows in expected.items():
        for row, other in zip(found[name], rows, strict=True):
            assert row == other


def test_texts_that_the_first_schema_kept_of_spans_are_found_and_removed(url):
    engine = old_database(url, "0001")
    with engine.begin() as connection:
        flags = dict.fromkeys(("local_root", "carrier", "is_request"), True)
        flags |= dict.fromkeys(("call", "call_below", "carrier_below"), False)
        put(
            connection,
            "span_node",
            trace_id=PACKED,
            span_id="1" * 16,
            service="chat",
            ts=NOW - timedelta(days=40),
            direct_calls=0,
            facts={"query_text": "secret?", "route": "a"},
            **flags,
        )
    engine.dispose()
    store = open_store(RequestLogSettings(url=url, store_text=True))
    assert store._engine is not None
    with store._engine.connect() as connection:
        assert connection.execute(sa.select(schema.trace_facts.c.has_text)).scalars().all() == [True]
    Retention(store._engine, None, NOW - timedelta(days=30)).run(10)
    with store._engine.connect() as connection:
        (fact,) = facts(connection)
        assert fact.request_fields == {"route": "a"}
        assert connection.execute(sa.select(schema.trace_facts.c.has_text)).scalars().all() == [False]
    store.close()


def test_of_a_million_spans_the_way_is_told(url, monkeypatch, caplog, early):
    from importlib import import_module

    moving = import_module("otel_telemetry.exporters.request_log.migrations.versions.0010_facts")
    monkeypatch.setattr(moving, "_SAY_SECONDS", -1.0)
    engine = old_database(url, "0009")
    with engine.begin() as connection:
        old_rows(connection, early)
    engine.dispose()
    open_store(RequestLogSettings(url=url)).close()
    assert "moved what is known of traces into one table: 5 rows" in caplog.text


def test_a_report_from_before_is_no_twin_of_a_later_one(url, open_url, early, chat):
    engine = old_database(url, "0009")
    with engine.begin() as connection:
        old_rows(connection, early)
    engine.dispose()
    store = open_url(url)
    twin = dataclasses.replace(early[4], span_id="7" * 16, parent_span_id=early[3].span_id, scope="another")
    assert store.write([twin]).llm_calls == 1
