"""Seconds that each report takes over many requests, on SQLite and PostgreSQL, beside counting the same rows.

    python benchmarks/report.py [requests]

The rows are those of one real request, written by the store, repeated with other ids, times (over thirty days), routes,
users and latencies, with one and a half model calls a request; a quarter are cache hits, a twentieth is judged. The
ratio is against `SELECT count(*), sum(latency_ms)` of request_log: what reading every row costs the database.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.request_log import request
from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import bulk, database, partitions, schema
from otel_telemetry.exporters.request_log.operate.report import ReportQueries
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.backends import postgres

CHUNK = 20_000
JUDGED = 20  # one request of so many is judged
LAST = datetime(2026, 11, 20, tzinfo=UTC)

of_request = attrgetter(*schema.request_log.c.keys())
of_call = attrgetter(*schema.llm_call.c.keys())


def fill(url: str, count: int) -> None:
    store = open_store(RequestLogSettings(url=url))
    store.write(request(0))
    store.close()
    with ReportQueries(RequestLogSettings(url=url)) as report:
        pattern = report.latest(1)[0]
        calls = report.calls_of(pattern.id)
    engine = database.connect(url)
    months = [LAST - timedelta(days=days) for days in (0, 29)]
    if engine.dialect.name == "postgresql":
        partitions.Partitions(engine).prepare(months)
    with engine.begin() as connection:
        to = bulk.bulk(connection)
        for start in track(range(0, count, CHUNK), f"rows for {engine.dialect.name}"):
            rows = [made(pattern, number, count) for number in range(start, min(start + CHUNK, count))]
            to.insert(schema.request_log, map(of_request, rows))
            to.insert(schema.llm_call, [of_call(each) for row in rows for each in calls_made(row, calls)])
            to.insert(schema.feedback, [of_feedback(row) for row in rows[::JUDGED]])
    tidy(engine)


def tidy(engine: sa.Engine) -> None:
    """Do what autovacuum does in time."""
    raw = engine.raw_connection()
    with suppress(AttributeError):
        raw.driver_connection.autocommit = True  # type: ignore[union-attr]  # PostgreSQL's VACUUM asks for it
    raw.cursor().execute("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE")
    raw.close()
    engine.dispose()


def made(pattern: records.Request, number: int, count: int) -> records.Request:
    chance = random.Random(number)  # noqa: S311  # numbers to sort, no secret
    trace = f"{chance.getrandbits(128):032x}"
    hit = number % 4 == 0
    saved = {"cache_saved_usd": 0.0021, "cache_saved_ms": 812.25} if hit else {}
    return replace(
        pattern,
        id=f"{trace}-{pattern.span_id}",
        trace_id=trace,
        ts=LAST - timedelta(days=30) * (1 - number / count),
        route=f"route_{number % 12}",
        user_id=f"k1_{chance.randrange(5_000):012x}",
        latency_ms=chance.lognormvariate(7, 0.6),
        ttfb_ms=chance.lognormvariate(6, 0.6) if number % 3 else None,
        ok=number % 50 != 0,
        degraded="web_failed" if number % 40 == 0 else None,
        cache_hit=hit,
        meta={**(pattern.meta or {}), **saved},
    )


def calls_made(row: records.Request, calls: list[records.LlmCall]) -> Iterator[records.LlmCall]:
    """Yield the model calls of a request: one and a half on average."""
    chance = random.Random(row.id)  # noqa: S311  # as above
    for call in calls[: 1 + row.ok * chance.randrange(2)]:
        model = f"{call.model}-{chance.randrange(4)}"
        took = row.latency_ms or 0
        ids = {"id": f"{row.trace_id}-{call.span_id}", "request_id": row.id, "trace_id": row.trace_id, "ts": row.ts}
        yield replace(call, **ids, model=model, total_latency_ms=took, ttfb_ms=row.ttfb_ms)  # type: ignore[arg-type]  # a mapping of mixed types


def of_feedback(row: records.Request) -> list[Any]:
    values = {"id": row.id, "ts": row.ts, "request_id": row.id, "verdict": "up" if row.ok else "down"}
    return [values.get(name) for name in schema.feedback.c.keys()]  # noqa: SIM118  # a collection of columns, no dict


def best(run: Callable[[], Any], times: int = 3) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def measure(url: str) -> Iterator[tuple[str, float, float]]:
    engine = database.reader(url)
    with engine.connect() as connection:
        bare = best(lambda: connection.execute(sa.text("SELECT count(*), sum(latency_ms) FROM request_log")).all())
    engine.dispose()
    week = Period(LAST - timedelta(days=7))
    with ReportQueries(RequestLogSettings(url=url)) as report:
        queries: dict[str, Callable[[], Any]] = {
            "by route": report.requests,
            "by route, 7 of 30 days": lambda: report.requests(["route"], week),
            "by day": lambda: report.requests(["day"]),
            "by hour, 7 of 30 days": lambda: report.requests(["hour"], week),
            "by day and route": lambda: report.requests(["day", "route"]),
            "by degraded reason": lambda: report.requests(["degraded"]),
            "by user": lambda: report.requests(["user"]),
            "by model": report.calls,
            "by day and model": lambda: report.calls(["day", "model"]),
            "cache by route": report.cache,
            "cache by day": lambda: report.cache(["day"]),
            "feedback by route and model": report.feedback,
            "latest 20": report.latest,
        }
        for name, query in queries.items():
            yield name, best(query), bare


@contextmanager
def databases() -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        urls = {"sqlite": f"sqlite:///{Path(folder, 'log.db')}"}
        with suppress(pytest.skip.Exception):
            with postgres.running() as server:
                yield {**urls, "postgresql": server.database()}
            return
        yield urls


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    table = Table("database", "report", "seconds", "beside count and sum", title=f"{count:,} requests")
    with databases() as urls:
        for kind, url in urls.items():
            fill(url, count)
            for name, seconds, bare in measure(url):
                table.add_row(kind, name, f"{seconds:.2f}", f"{seconds / bare:.1f} x")
    Console().print(table)


if __name__ == "__main__":
    main()
