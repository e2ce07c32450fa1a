"""Seconds that each report takes over many requests, on SQLite and PostgreSQL, beside counting the same rows.

    python benchmarks/report.py [requests]

The rows are those of one real request, written by the store, repeated with other ids, times (over thirty days), routes
and latencies. The ratio is against `SELECT count(*), sum(latency_ms)`: what reading every row costs the database.
"""

import itertools
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
from otel_telemetry import records
from otel_telemetry.exporters.request_log import bulk, database, partitions, schema
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.report import Report
from otel_telemetry.exporters.request_log.store import open_store
from tests.backends import postgres

CHUNK = 20_000
LAST = datetime(2026, 11, 20, tzinfo=UTC)


def fill(url: str, count: int) -> None:
    store = open_store(RequestLogSettings(url=url))
    store.write(request(0))
    store.close()
    with Report(RequestLogSettings(url=url)) as report:
        pattern = report.latest(1)[0]
    engine = database.connect(url)
    numbers = iter(range(count))
    months = [LAST - timedelta(days=days) for days in (0, 29)]
    if engine.dialect.name == "postgresql":
        partitions.Partitions(engine).prepare(months)
    values = attrgetter(*schema.request_log.c.keys())
    with engine.begin() as connection:
        for _ in track(range(count // CHUNK), f"rows for {engine.dialect.name}"):
            rows = (values(made(pattern, number, count)) for number in itertools.islice(numbers, CHUNK))
            bulk.bulk(connection).insert(schema.request_log, rows)
    raw = engine.raw_connection()
    with suppress(AttributeError):
        raw.driver_connection.autocommit = True  # type: ignore[union-attr]  # PostgreSQL's VACUUM asks for it
    raw.cursor().execute("VACUUM ANALYZE request_log" if engine.dialect.name == "postgresql" else "ANALYZE")
    raw.close()
    engine.dispose()


def made(pattern: records.Request, number: int, count: int) -> records.Request:
    chance = random.Random(number)  # noqa: S311  # numbers to sort, no secret
    trace = f"{chance.getrandbits(128):032x}"
    return replace(
        pattern,
        id=f"{trace}-{pattern.span_id}",
        trace_id=trace,
        ts=LAST - timedelta(days=30) * (1 - number / count),
        route=f"route_{number % 12}",
        latency_ms=chance.lognormvariate(7, 0.6),
        ttfb_ms=chance.lognormvariate(6, 0.6) if number % 3 else None,
        ok=number % 50 != 0,
        degraded="web_failed" if number % 40 == 0 else None,
    )


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
    week = LAST - timedelta(days=7)
    with Report(RequestLogSettings(url=url)) as report:
        queries: dict[str, Callable[[], Any]] = {
            "by route": report.by_route,
            "by route, 7 of 30 days": lambda: report.by_route(week),
            "by day": report.by_day,
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
