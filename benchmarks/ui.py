"""How long the page takes over many requests: each page and filter, on SQLite, PostgreSQL and ClickHouse.

    python benchmarks/ui.py [requests] [sqlite|postgres|clickhouse|URL]

Requests are spread over 30 days, of 2 services, 8 routes, 4 models and 1,000 users, with one or two model calls each.
ClickHouse is there where the tests have its engine (`make e2e` brings it); it answers 501 for what it does not have.
Times are of the server alone (Starlette's test client, no network), warm: each address is asked once, then measured.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import itemgetter

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from benchmarks.gateway import used_by
from otel_telemetry.base import records
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.clickhouse import reader, tables
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse
from otel_telemetry.exporters.request_log.db import bulk, database, rollups, schema
from otel_telemetry.exporters.request_log.db.partitions import Partitions
from otel_telemetry.exporters.request_log.db.redactions import redaction_count
from otel_telemetry.exporters.request_log.rollup.build import Builder
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.app import make_app
from otel_telemetry.ui.reading import Reading
from tests.backends import postgres, programs
from tests.backends.clickhouse import ClickHouseServer, insert

DAYS = 30
CHUNK = 5_000
TIMES = 20  # of filters, half of that
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "o3")
USER, ONE = "k1_000000000007", f"{500_000:032x}-{500_000:016x}"
#: Pages as people open them.
PLAIN = (
    *("/ui/?range=30d", "/ui/?range=7d", "/ui/?range=24h", "/ui/?range=1h"),
    *("/ui/?range=30d&tz=Asia/Kolkata", "/ui/?range=30d&tz=America/New_York", "/ui/?range=7d&tz=Asia/Kolkata"),
    *("/ui/requests?range=30d", "/ui/requests?range=30d&sort=cost", "/ui/requests?range=30d&sort=latency"),
    *(
        "/ui/sessions?range=30d",
        "/ui/users?range=30d",
        "/ui/workflows?range=30d",
        "/ui/privacy?range=30d",
        "/ui/pipeline",
    ),
    *(f"/ui/requests/{ONE}", "/ui/sessions/s70000", f"/ui/users/{USER}?range=30d"),
)
#: Filters that let much through, little, or nothing.
FILTERS = (
    *("route=route_3", "outcome=failed", f"user={USER}", "session=s7", "model=o3", "environment=prod&service=chat"),
    *("degraded=none", "environment=none", "region=none", "model=none", "route=none&outcome=failed&min_ms=10"),
    *("outcome=limited", "outcome=unpriced", "absent=user_id", "min_ms=90000", "min_usd=0.0159"),
)
SORTED = ("route=route_3&sort=cost", f"user={USER}&sort=latency", "degraded=none&sort=cost")
FILTERED = (
    *(f"/ui/requests?range=30d&{each}" for each in (*FILTERS, *SORTED)),
    *(f"/ui/?range=30d&{each}" for each in FILTERS),
)


def rows(count: int) -> Iterator[tuple[list[records.Request], list[records.LlmCall]]]:
    chance = random.Random(1)  # noqa: S311
    now = datetime.now(UTC)
    requests: list[records.Request] = []
    calls: list[records.LlmCall] = []
    for n in range(count):
        trace = f"{n:032x}"
        ts = now - timedelta(seconds=DAYS * 86_400 * (count - n) / count)
        model, service = chance.choice(MODELS), chance.choice(("chat", "search"))
        prompt, took = chance.randrange(100, 8_000), chance.lognormvariate(7, 1)
        cost = Decimal(prompt) / 1_000_000
        ok, hit = chance.random() > 0.03, chance.random() < 0.1
        own = 1 + (chance.random() < 0.3)
        requests.append(
            records.Request(
                id=f"{trace}-{n:016x}", ts=ts, trace_id=trace, span_id=f"{n:016x}", service=service, environment="prod",
                route=f"route_{chance.randrange(8)}", model=model, provider="p", ok=ok, session_id=f"s{n // 6}",
                user_id=f"k1_{chance.randrange(1_000):012x}", error=None if ok else "TimeoutError: no answer",
                degraded="web_failed" if chance.random() < 0.02 else None, cache_hit=hit,
                meta={"cache_saved_usd": 0.01, "cache_saved_ms": 900} if hit else None, prompt_tokens=prompt,
                cached_tokens=prompt // 3, completion_tokens=prompt // 9, cost_usd=cost * own, cost_source="computed",
                latency_ms=took, ttfb_ms=took / 5, llm_calls=own,
            )
        )  # fmt: skip
        calls += [
            records.LlmCall(
                id=f"{trace}-{n:015x}{c}", request_id=requests[-1].id, ts=ts, trace_id=trace, span_id=f"{n:015x}{c}",
                application=service, environment="prod", provider="p", model=model, model_requested=model, ok=ok,
                prompt_tokens=prompt, cached_tokens=prompt // 3, completion_tokens=prompt // 9, cost_usd=cost,
                cost_source="computed", total_latency_ms=took / own, ttfb_ms=took / 5,
            )
            for c in range(own)
        ]  # fmt: skip
        if len(requests) == CHUNK:
            yield requests, calls
            requests, calls = [], []
    yield requests, calls


def fill(url: str, count: int) -> None:
    engine = database.connect(url)
    if engine.dialect.name == "postgresql":
        Partitions(engine).prepare([datetime.now(UTC) - timedelta(days=days) for days in range(DAYS + 1)])
    for requests, calls in rows(count):
        with engine.begin() as connection:
            for table, given in ((schema.request_log, requests), (schema.llm_call, calls)):
                values = [[getattr(row, column.name) for column in table.c] for row in given]
                if values:
                    bulk.bulk(connection).insert(table, values)
    with engine.begin() as connection:
        connection.execute(sa.insert(redaction_count), list(findings()))
    with engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()


def findings() -> Iterator[dict[str, str | int]]:
    """Yield what a gateway counts that redacts: of two services, ten rules, in each quarter of an hour."""
    last = rollups.start_of(datetime.now(UTC))
    key: dict[str, str | int] = {"what": "finding", "type": "EMAIL", "number": 7}
    for start in range(last, last - DAYS * 86_400, -rollups.QUARTER * 60):
        for number in range(20):
            yield {"start": start, **key, "rule": f"rule {number % 10}", "service": f"service {number // 10}"}


def send(url: str, count: int) -> None:
    """Fill ClickHouse as the relay does: of one row in a hundred, an older version too."""
    server = ClickHouse(url.replace("clickhouse://", "http://"))
    tables.make(server)
    for number, (requests, calls) in enumerate(rows(count)):
        for table, given in ((schema.request_log, requests), (schema.llm_call, calls)):
            sent = [{name: getattr(row, name) for name in table.c.keys()} for row in given]  # noqa: SIM118
            for rev, some in ((1, sent[::100]), (2, sent)):
                if some:
                    insert(server, table.name, [tables.row(table, row, rev) for row in some], f"{number}-{rev}")


def there(url: str) -> bool:
    """Tell whether an earlier run has filled a database that was named."""
    try:
        engine = reader.reader(url) if reader.names(url) else database.connect(url)
    except ConfigurationError:
        return False
    with engine.connect() as connection:
        found = connection.execute(sa.select(schema.request_log.c.id).limit(1)).first() is not None
    engine.dispose()
    return found


def measure(
    url: str, pages: tuple[str, ...], times: int, server: int = 0
) -> Iterator[tuple[str, int, float, float, float]]:
    """Yield each page with its status, the first and the 95th of 100 times in ms, and the CPU time at p95.

    CPU tells more than the clock where other things run beside. It is that of this process, in which SQLite works, and
    of `server`, the process id of PostgreSQL, with all that it starts (in steps of 10 ms).
    """
    app = make_app(Reading(url, seconds=60), RedactionSettings())
    with TestClient(app, base_url="http://127.0.0.1") as client:
        for page in pages:
            taken, used = [], []
            for _ in range(times + 1):
                began, before = time.perf_counter(), time.process_time() + used_by(server)
                status = client.get(page).status_code
                taken.append((time.perf_counter() - began) * 1e3)
                used.append((time.process_time() + used_by(server) - before) * 1e3)
            late = [statistics.quantiles(each[1:], n=20, method="inclusive")[-1] for each in (taken, used)]
            yield page, status, taken[0], late[0], late[1]


@contextmanager
def databases(wanted: str) -> Iterator[Iterator[tuple[str, str, int]]]:
    """Yield databases: a name, a URL, and the process id of a server."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:

        def each() -> Iterator[tuple[str, str, int]]:
            if wanted in {"", "sqlite"}:
                yield "SQLite", f"sqlite:///{folder}/rows.db", 0
            if wanted in {"", "postgres"}:
                server = stack.enter_context(postgres.running())
                yield "PostgreSQL", server.database(), server.pid
            if wanted in {"", "clickhouse"}:
                with suppress(pytest.skip.Exception):
                    columns = stack.enter_context(programs.in_a_folder(ClickHouseServer))
                    yield "ClickHouse", columns.url().replace("http://", "clickhouse://"), columns.pid
            if ":" in wanted:
                yield wanted.partition(":")[0], wanted, int(os.environ.get("SERVER_PID", "0"))

        yield each()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with databases(sys.argv[2] if len(sys.argv) > 2 else "") as each:
        for name, url, server in each:
            began = time.perf_counter()
            if not there(url):
                (send if reader.names(url) else fill)(url, count)
                print(f"{name}: {count:,} requests written in {time.perf_counter() - began:.0f} s", flush=True)
            if not reader.names(url):
                sum_up(name, url)
            for pages, what in ((PLAIN, "pages"), (FILTERED, "filters")):
                found = []
                for one in measure(url, pages, TIMES if pages is PLAIN else TIMES // 2, server):
                    found.append(one)
                    print(f"  {shown(*one)}", flush=True)
                for column, title in ((3, "p95"), (4, "CPU at p95"), (2, "the first time")):
                    worst = max(found, key=itemgetter(column))
                    print(f"{name}, {what}: {title} {worst[column]:,.0f} ms at most, of {worst[0]}", flush=True)


def sum_up(name: str, url: str) -> None:
    began, before = time.perf_counter(), time.process_time()
    with Builder(url) as builder:
        spans = sum(1 for _ in builder.steps())
    took, used = time.perf_counter() - began, time.process_time() - before
    print(f"{name}: {spans} spans summed up in {took:.1f} s, CPU {used:.1f} s", flush=True)


def shown(page: str, status: int, first: float, p95: float, cpu: float) -> str:
    return f"{status} first {first:6,.0f} ms, p95 {p95:6,.0f} ms, CPU {cpu:6,.0f} ms  {page}"


if __name__ == "__main__":
    main()
