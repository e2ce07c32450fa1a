"""Rows per second through the request log's store, beside the bare driver with the very same rows.

    python benchmarks/request_log.py [requests]

Each request is a server span with request_log attributes, one branch, and two model calls below it: 4 spans in, rows of
request_log, llm_call and trace_facts out, with roll-ups and prices. The bare figure inserts the rows that the store has
just written into a second, empty database of the same schema, by executemany on SQLite and by COPY on PostgreSQL: what
the disk, the tables and their indexes cost by themselves.

Then what the gateway's sink does with the bodies of benchmarks/gateway.py: 512 spans of 1 kB each, in traces of four, a
quarter of them model calls; with one process that writes and with two. CPU seconds are those of the writing processes,
not of the database: they tell more than the clock where other things run beside it. The cycle collector is held back,
as the sink does it.
"""

import os
import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import sqlalchemy as sa
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import forward, gateway
from otel_telemetry.base import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import bulk, database, schema
from otel_telemetry.exporters.request_log.db.partitions import Partitions
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from otel_telemetry.exporters.request_log.store.gc_pause import held_back
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.backends import postgres

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
RESOURCE = {"service.name": "bench", "deployment.environment.name": "test"}
IN_REQUEST = 4  # spans
CHUNK = 32  # bodies: 16 MB
BODY_NS = SECOND // 16  # 8,192 spans a second
TABLES = (schema.request_log, schema.llm_call, schema.trace_facts)


def span(trace: str, parent: str | None, kind: str, at: int, attributes: dict[str, Any]) -> records.Span:
    return records.Span(
        trace_id=trace,
        span_id=secrets.token_hex(8),
        parent_span_id=parent,
        local_root=parent is None,
        name="POST /chat" if parent is None else "chat",
        kind=kind,
        start_ns=START + at,
        end_ns=START + at + SECOND,
        status="UNSET",
        status_message="",
        attributes=attributes,
        events=(),
        resource=RESOURCE,
    )


def request(number: int) -> list[records.Span]:
    trace, at = secrets.token_hex(16), number * SECOND // 100
    attributes = {"request_log.route": f"route_{number % 5}", "request_log.session_id": secrets.token_hex(6)}
    server = span(trace, None, "SERVER", at, {**attributes, "http.route": "/chat", "http.response.status_code": 200})
    branch = span(trace, server.span_id, "INTERNAL", at, {})
    calls = [span(trace, branch.span_id, "CLIENT", at, call(model)) for model in ("gpt-4o-mini", "gpt-4o")]
    return [*calls, branch, server]


def call(model: str) -> dict[str, Any]:
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": model,
        "gen_ai.response.model": model,
        "gen_ai.response.id": secrets.token_hex(12),
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.request.temperature": 0.2,
        "gen_ai.usage.input_tokens": 1_200,
        "gen_ai.usage.output_tokens": 240,
        "gen_ai.usage.cache_read.input_tokens": 512,
    }


def batches(spans: list[records.Span], size: int) -> Iterator[list[records.Span]]:
    for start in range(0, len(spans), size):
        yield spans[start : start + size]


def through_store(url: str, spans: list[records.Span], size: int) -> tuple[float, float]:
    """Return the seconds that it took, and those of them that this process was busy."""
    store = open_store(RequestLogSettings(url=url))
    store.write(request(0))  # load the price table, make the partitions
    start, busy = time.perf_counter(), time.process_time()
    with held_back():
        for batch in batches(spans, size):
            store.write(batch)
    seconds = time.perf_counter() - start, time.process_time() - busy
    store.close()
    return seconds


def through_sink(url: str, bodies: list[bytes], writers: int) -> tuple[float, float]:
    """Deliver bodies, as many at a time as a gateway does; return the seconds that it took, and those of CPU time."""
    sink = RequestLogSink(RequestLogSettings(url=url, writers=writers))
    sink.deliver("traces", new_bodies(CHUNK))  # now all writers have started
    start, busy = time.perf_counter(), cpu_seconds()
    for at in range(0, len(bodies), CHUNK):
        sink.deliver("traces", bodies[at : at + CHUNK])
    seconds, busy = time.perf_counter() - start, cpu_seconds() - busy
    sink.close()
    return seconds, busy


def new_bodies(count: int) -> list[bytes]:
    """Return so many bodies of few kinds, each with traces of its own."""
    kinds = [gateway.make_request(seed) for seed in range(min(count, 8))]
    begins = (gateway.LATE_NS + number * BODY_NS for number in range(count))
    return [gateway.renewed(kinds[number % len(kinds)], at) for number, at in enumerate(begins)]


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it started."""
    return sum(forward.cpu_seconds(pid) for pid in gateway.family(os.getpid()))


def bare(url: str, source: str, size: int) -> tuple[float, int]:
    """Insert the same rows, in batches of as many requests, and count them."""
    reader = database.reader(source)
    with reader.connect() as connection:
        rows = {table: [tuple(row) for row in connection.execute(sa.select(table))] for table in TABLES}
    reader.dispose()
    engine = database.connect(url)
    if engine.dialect.name == "postgresql":
        Partitions(engine).prepare(row[rows_ts] for row in rows[schema.llm_call])
    spans = IN_REQUEST * len(rows[schema.request_log])
    shares = [
        [(table, encoded(table, share(of_table, at, size, spans), engine)) for table, of_table in rows.items()]
        for at in range(0, spans, size)
    ]
    start = time.perf_counter()
    for batch in shares:
        with engine.begin() as connection:
            for table, ready in batch:
                insert(connection, table, ready)
    seconds = time.perf_counter() - start
    engine.dispose()
    return seconds, sum(map(len, rows.values()))


rows_ts = list(schema.llm_call.c.keys()).index("ts")


def share(rows: list[Any], at: int, size: int, spans: int) -> list[Any]:
    return rows[at * len(rows) // spans : (at + size) * len(rows) // spans]


def encoded(table: sa.Table, rows: list[Any], engine: sa.Engine) -> list[Any]:
    """Return rows as the driver takes them, so that only the driver and the database are measured."""
    is_postgres = engine.dialect.name == "postgresql"
    return bulk._rows(bulk._encoded(table, tuple(table.c.keys()), rows, postgres=is_postgres, whole=True))  # noqa: SLF001


def insert(connection: sa.Connection, table: sa.Table, rows: list[Any]) -> None:
    raw: Any = connection.connection.driver_connection
    columns = ", ".join(table.c.keys())
    if connection.dialect.name == "postgresql":
        with raw.cursor() as cursor, cursor.copy(f"COPY {table.name} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
    else:
        marks = ",".join("?" * len(table.c))
        raw.executemany(f"INSERT INTO {table.name} ({columns}) VALUES ({marks})", rows)  # noqa: S608


@contextmanager
def databases() -> Iterator[dict[str, Callable[[], str]]]:
    """Yield what makes an empty database, by kind."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        made = {"SQLite": lambda: f"sqlite:///{folder}/{secrets.token_hex(4)}.db"}
        with suppress(pytest.skip.Exception):
            made["PostgreSQL"] = stack.enter_context(postgres.running()).database
        yield made


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    spans = [each for number in track(range(requests), "making spans") for each in request(number)]
    table = Table(
        *("database", "batch", "rows", "store, rows/s", "requests and calls/s", "and per CPU second"),
        *("bare, rows/s", "ratio"),
    )
    delivered = Table("database", "writers", "spans", "sink, spans/s", "and per CPU second, writers only")
    bodies = new_bodies(requests // 25)
    with databases() as kinds:
        for kind, make in kinds.items():
            for size in (200, 1_000, 5_000):
                source = make()
                seconds, busy = through_store(source, spans, size)
                bare_seconds, rows = bare(make(), source, size)
                table.add_row(
                    *(kind, f"{size:,}", f"{rows:,}", f"{rows / seconds:,.0f}", f"{3 * requests / seconds:,.0f}"),
                    f"{3 * requests / busy:,.0f}",
                    *(f"{rows / bare_seconds:,.0f}", f"{seconds / bare_seconds:.1f} x"),
                )
            for writers in (1, 2):
                seconds, busy = through_sink(make(), bodies, writers)
                count = len(bodies) * gateway.SPANS
                delivered.add_row(kind, str(writers), f"{count:,}", f"{count / seconds:,.0f}", f"{count / busy:,.0f}")
    Console().print(table, delivered)


if __name__ == "__main__":
    main()
