"""Rows per second through the request log's store, beside bare executemany of the very same rows.

    python benchmarks/request_log.py [requests]

Each request is a server span with request_log attributes, one branch, and two model calls below it: 4 spans in, rows of
request_log, llm_call and span_node out, with roll-ups and prices. The bare figure inserts the rows that the store has
just written into a second, empty database of the same schema: what the disk and the tables cost by themselves.
"""

import secrets
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from otel_telemetry import records
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store import open_store

SECOND = 1_000_000_000
START = 1_790_000_000 * SECOND
TABLES = ("request_log", "llm_call", "span_node")


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
        resource={"service.name": "bench", "deployment.environment.name": "test"},
    )


def request(number: int) -> list[records.Span]:
    trace, at = secrets.token_hex(16), number * SECOND // 100
    said = {"request_log.route": f"route_{number % 5}", "request_log.session_id": secrets.token_hex(6)}
    server = span(trace, None, "SERVER", at, {**said, "http.route": "/chat", "http.response.status_code": 200})
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


def through_store(path: Path, spans: list[records.Span], size: int) -> float:
    store = open_store(RequestLogSettings(url=f"sqlite:///{path}"))
    store.write(request(0))  # load the price table
    start = time.perf_counter()
    for batch in batches(spans, size):
        store.write(batch)
    seconds = time.perf_counter() - start
    store.close()
    return seconds


def bare(path: Path, source: Path, size: int) -> tuple[float, int]:
    """Insert the same rows, in batches that hold as many spans, and count them."""
    open_store(RequestLogSettings(url=f"sqlite:///{path}")).close()
    reader, writer = sqlite3.connect(source), sqlite3.connect(path, isolation_level=None)
    writer.execute("PRAGMA synchronous=NORMAL")
    rows = {table: reader.execute(f"SELECT * FROM {table} ORDER BY rowid").fetchall() for table in TABLES}  # noqa: S608
    spans = len(rows["span_node"])
    count = sum(map(len, rows.values()))
    start = time.perf_counter()
    for at in range(0, spans, size):
        writer.execute("BEGIN IMMEDIATE")
        for table, all_rows in rows.items():
            share = all_rows[at * len(all_rows) // spans : (at + size) * len(all_rows) // spans]
            marks = ",".join("?" * len(all_rows[0]))
            writer.executemany(f"INSERT INTO {table} VALUES ({marks})", share)  # noqa: S608
        writer.execute("COMMIT")
    seconds = time.perf_counter() - start
    reader.close()
    writer.close()
    return seconds, count


def main() -> None:
    requests = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    spans = [each for number in track(range(requests), "making spans") for each in request(number)]
    table = Table(
        "spans a batch", "rows", "store, rows/s", "of these request_log and llm_call", "bare, rows/s", "ratio"
    )
    for size in (200, 1_000, 5_000):
        with tempfile.TemporaryDirectory() as folder:
            seconds = through_store(Path(folder, "store.db"), spans, size)
            bare_seconds, rows = bare(Path(folder, "bare.db"), Path(folder, "store.db"), size)
        table.add_row(
            *(f"{size:,}", f"{rows:,}", f"{rows / seconds:,.0f}", f"{3 * requests / seconds:,.0f}"),
            *(f"{rows / bare_seconds:,.0f}", f"{seconds / bare_seconds:.1f} x"),
        )
    Console().print(table)


if __name__ == "__main__":
    main()
