"""Each figure of the report is what a person gets who writes the query by hand, on each database.

Rows are drawn at random from a seed, with unknown values in every column that may have them; the queries below are
plain SQL text, written without the report's own code.
"""

import json
import math
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate.report import ReportQueries
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.conftest import READ_IN

START = datetime(2026, 9, 20, 22, 30, tzinfo=UTC)
SINCE, UNTIL = START + timedelta(hours=9), START + timedelta(hours=60)
PERIOD = Period(SINCE, UNTIL)
WITHIN = "ts >= :since AND ts < :until"
TOKENS = ("prompt_tokens", "cached_tokens", "completion_tokens")
#: Reasons that are a decision and no error, as docs/metrics.md lists them.
DECLINED = "('encrypted_room', 'media', 'foreign_room', 'skip', 'skipped', 'declined', 'ignored', 'not_for_us')"


def maybe(chance, value):
    """Return a value, or None for one row in so many."""
    return None if chance.random() < 0.2 else value


def usage(chance):
    cost = maybe(chance, Decimal(chance.randrange(1, 10**9)).scaleb(-12))
    source = "unpriced" if cost is None else chance.choice(["computed", "given"])
    return {name: maybe(chance, chance.randrange(5_000)) for name in TOKENS} | {"cost_usd": cost, "cost_source": source}


def request_row(chance, number):
    hit = chance.random() < 0.3
    saved = {"cache_saved_usd": chance.choice([0.25, 0.5, "a text", None]), "cache_saved_ms": chance.randrange(900) / 4}
    return {
        "id": f"r{number}",
        "ts": START + timedelta(seconds=chance.randrange(72 * 3600), microseconds=chance.randrange(10**6)),
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "service": maybe(chance, chance.choice(["shop", "Läden"])),
        "route": maybe(chance, chance.choice(["a", "b", "c'; --"])),
        "user_id": maybe(chance, chance.choice(["u1", "u2"])),
        "degraded": maybe(chance, chance.choice(["web_failed", "declined", "media"])) if number % 3 == 0 else None,
        "model": maybe(chance, chance.choice(["m1", "m2"])),
        "llm_calls": chance.randrange(4),
        "latency_ms": maybe(chance, chance.randrange(40_000) / 8),
        "ttfb_ms": maybe(chance, chance.randrange(4_000) / 8),
        "ok": chance.random() < 0.8,
        "cache_hit": hit,
        "meta": maybe(chance, saved) if hit else None,
        **usage(chance),
    }


def call_row(chance, number):
    return {
        "id": f"c{number}",
        "ts": START + timedelta(seconds=chance.randrange(72 * 3600)),
        "trace_id": f"{number:032x}",
        "span_id": f"{number:016x}",
        "application": maybe(chance, chance.choice(["shop", "Läden"])),
        "provider": maybe(chance, chance.choice(["openai", "anthropic"])),
        "model": maybe(chance, chance.choice(["m1", "m2", "m3"])),
        "total_latency_ms": maybe(chance, chance.randrange(40_000) / 8),
        "ttfb_ms": maybe(chance, chance.randrange(4_000) / 8),
        "ok": chance.random() < 0.8,
        **usage(chance),
    }


def feedback_row(chance, number):
    return {
        "id": f"f{number}",
        "ts": START + timedelta(seconds=chance.randrange(72 * 3600)),
        "verdict": chance.choice(["up", "up", "down"]),
        "request_id": maybe(chance, f"r{chance.randrange(300)}"),
        "scope": maybe(chance, chance.choice(["x", "y"])),
    }


@pytest.fixture(name="read_in", params=READ_IN)
def read_in_fixture(request):
    return request.param


@pytest.fixture(name="url")
def url_fixture(read_in, with_tables):
    return with_tables(read_in)


@pytest.fixture(name="report")
def report_fixture(read_in, url, database, as_read):
    """Ask the rows; ClickHouse has them from the database that is asked by hand."""
    del database
    with ReportQueries(RequestLogSettings(url=as_read(read_in, url, once="report_sql"))) as report:
        yield report


@pytest.fixture(name="database")
def database_fixture(url):
    """Fill a database with rows; give it for queries by hand."""
    open_store(RequestLogSettings(url=url)).close()
    chance = random.Random(20260921)  # noqa: S311 - the same rows in every run
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    makers = ((schema.request_log, request_row), (schema.llm_call, call_row), (schema.feedback, feedback_row))
    with engine.begin() as connection:
        for table, make in makers:
            needed = {column.name: column.type.python_type() for column in table.columns if not column.nullable}
            connection.execute(sa.insert(table), [needed | make(chance, number) for number in range(300)])
    with engine.connect() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("SET TIME ZONE 'UTC'"))
        yield connection
    engine.dispose()


def asked(database, sql, between=" ", **values):
    """Run a query that a person wrote, for the period of the report. In feedback a T stands between day and time."""
    times = {"since": SINCE, "until": UNTIL}
    if database.dialect.name == "sqlite":  # where a time is text
        values |= {name: f"{moment:%Y-%m-%d}{between}{moment:%H:%M:%S.%f}" for name, moment in times.items()}
    return database.execute(sa.text(sql), times | values).mappings().all()


def rank(database, table, column, share, where, **values):
    """Return the smallest value that at least that share of the known values does not exceed, or None."""
    known = f"FROM {table} WHERE {WITHIN} AND {where} AND {column} IS NOT NULL"
    count = asked(database, f"SELECT count(*) AS n {known}", **values)[0]["n"]
    if not count:
        return None
    found = f"SELECT {column} AS value {known} ORDER BY {column} LIMIT 1 OFFSET {math.ceil(share * count) - 1}"
    return asked(database, found, **values)[0]["value"]


def read(meta):
    """Return free JSON, which SQLite gives as text."""
    return json.loads(meta) if isinstance(meta, str) else meta


def money(amount):
    return None if amount is None else Decimal(str(amount)).quantize(Decimal("1e-12"))


def by_hand(database, table, column, ok, more=""):
    """Return the sums of a table by one column, as a map from its value."""
    sums = ", ".join(f"sum({name}) AS {name}" for name in TOKENS)
    rows = asked(
        database,
        f"SELECT {column} AS own, count(*) AS n, sum(CASE WHEN {ok} THEN 1 ELSE 0 END) AS ok, {sums},{more}"  # noqa: S608
        " sum(cost_usd) AS cost, sum(CASE WHEN cost_source = 'unpriced' THEN 1 ELSE 0 END) AS unpriced"
        f" FROM {table} WHERE {WITHIN} GROUP BY {column}",
    )
    return {row["own"]: row for row in rows}


def hold(found, expected, count):
    """Hold what both subjects share against the sums made by hand."""
    every = sum(row["n"] for row in expected.values())
    assert found[count] == expected[found["own"]]["n"]
    row = expected[found["own"]]
    assert (found["ok"], found["unpriced"], found["share"]) == (row["ok"], row["unpriced"], row["n"] / every)
    assert [found[name] for name in TOKENS] == [row[name] for name in TOKENS]
    assert found["cost_usd"] == money(row["cost"]), "unknown is NULL, and no cent is lost"


@pytest.mark.parametrize(
    ("by", "column"), [("route", "route"), ("service", "service"), ("user", "user_id"), ("degraded", "degraded")]
)
def test_requests(report, database, by, column):
    more = " sum(CASE WHEN degraded IS NOT NULL THEN 1 ELSE 0 END) AS degraded_requests,"
    more += " sum(CASE WHEN cache_hit THEN 1 ELSE 0 END) AS cache_hits, sum(llm_calls) AS llm_calls,"
    expected = by_hand(database, "request_log", column, f"ok OR degraded IN {DECLINED}", more)
    rows = report.requests([by], PERIOD)
    assert {row[by] for row in rows} == expected.keys()
    for row in rows:
        hold({**row, "own": row[by]}, expected, "requests")
        sums = expected[row[by]]
        names = ("degraded_requests", "cache_hits", "llm_calls")
        assert [row[name] for name in names] == [sums[name] for name in names]
    assert [row["requests"] for row in rows] == sorted((row["n"] for row in expected.values()), reverse=True)


def test_percentiles_of_requests(report, database):
    rows = report.requests(["route"], PERIOD)
    assert len(rows) == 4
    for row in rows:
        where = "route IS NULL" if row["route"] is None else "route = :route"
        for figure, column in (("latency", "latency_ms"), ("ttfb", "ttfb_ms")):
            for share in (50, 95, 99):
                expected = rank(database, "request_log", column, share / 100, where, route=row["route"])
                assert row.get(f"{figure}_p{share}_ms", expected) == expected
        assert row["latency_p50_ms"] is not None


@pytest.mark.parametrize("by", ["day", "hour"])
def test_requests_along_time(report, database, by):
    length = {"day": 10, "hour": 13}[by]
    expected = by_hand(
        database, "request_log", f"substr(CAST(ts AS TEXT), 1, {length})", f"ok OR degraded IN {DECLINED}"
    )
    rows = report.requests([by], PERIOD)
    assert [row[by][:length] for row in rows] == sorted(expected)
    for row in rows:
        hold({**row, "own": row[by][:length]}, expected, "requests")


@pytest.mark.parametrize(("by", "column"), [("model", "model"), ("provider", "provider"), ("service", "application")])
def test_model_calls(report, database, by, column):
    expected = by_hand(database, "llm_call", column, "ok")
    rows = report.calls([by], PERIOD)
    assert {row[by] for row in rows} == expected.keys()
    for row in rows:
        hold({**row, "own": row[by]}, expected, "llm_calls")
    if by == "model":
        for row in rows:
            where = "model IS NULL" if row["model"] is None else "model = :model"
            expected_rank = rank(database, "llm_call", "total_latency_ms", 0.95, where, model=row["model"])
            assert row["latency_p95_ms"] == expected_rank


def test_what_the_cache_saved(report, database):
    hits: dict[str | None, list[Any]] = {}
    rows = report.cache(["route"], PERIOD)
    for row in asked(database, f"SELECT route, cache_hit, meta FROM request_log WHERE {WITHIN}"):  # noqa: S608
        hits.setdefault(row["route"], []).append(row)
    assert {row["route"] for row in rows} == hits.keys()
    for row in rows:
        stored = hits[row["route"]]
        saved = [read(hit["meta"]) for hit in stored if hit["cache_hit"]]
        usd = [meta["cache_saved_usd"] for meta in saved if meta and isinstance(meta["cache_saved_usd"], float)]
        assert (row["requests"], row["cache_hits"], row["hit_rate"]) == (
            len(stored),
            len(saved),
            len(saved) / len(stored),
        )
        assert row["saved_usd"] == (money(sum(usd)) if usd else None)
        assert row["unpriced"] == len(saved) - len(usd)
        assert row["saved_ms"] == sum(meta["cache_saved_ms"] for meta in saved if meta)


def test_feedback(report, database, read_in):
    if read_in == "clickhouse":
        pytest.skip("feedback is not sent on to ClickHouse")
    sums = asked(
        database,
        "SELECT request_log.route AS route, count(*) AS n,"
        " sum(CASE WHEN verdict = 'up' THEN 1 ELSE 0 END) AS up,"
        " sum(CASE WHEN verdict = 'down' THEN 1 ELSE 0 END) AS down"
        " FROM feedback LEFT JOIN request_log ON request_log.id = feedback.request_id"
        " WHERE feedback.ts >= :since AND feedback.ts < :until GROUP BY request_log.route",
        between="T",
    )
    expected = {row["route"]: (row["n"], row["up"], row["down"], row["up"] / (row["up"] + row["down"])) for row in sums}
    rows = report.feedback(["route"], PERIOD)
    assert {row["route"]: (row["feedback"], row["up"], row["down"], row["up_share"]) for row in rows} == expected
