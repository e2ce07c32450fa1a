"""How many rows a second go on to ClickHouse: from PostgreSQL and from SQLite, all that an outbox names.

    python benchmarks/relay.py [requests] [postgres|sqlite]

Each request has one or two model calls, and an entry of the outbox names what a writer commits at once. Rows go to the
engine where the tests have it (`make e2e` brings it), and to a server that reads and forgets: that is what the relay
and the database can do. CPU time is shown apart, of the relay, of PostgreSQL and of who takes the rows: where fewer
cores are free than processes are busy, the clock tells of the machine.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import ThreadingHTTPServer
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import sqlalchemy as sa

from benchmarks import ui
from benchmarks.forward import Taker
from benchmarks.gateway import used_by
from otel_telemetry.exporters.request_log.clickhouse import tables
from otel_telemetry.exporters.request_log.clickhouse.client import ClickHouse
from otel_telemetry.exporters.request_log.clickhouse.config import ClickHouseSettings
from otel_telemetry.exporters.request_log.clickhouse.relay import Relay
from otel_telemetry.exporters.request_log.db import database, outbox
from tests.backends import postgres, programs
from tests.backends.clickhouse import ClickHouseServer

NAMED = 600  # requests in an entry


def forget(told: Connection) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
    told.send(server.server_address[1])
    server.serve_forever()


@contextmanager
def forgetting() -> Iterator[tuple[str, int]]:
    """Yield the address of a server that forgets, and its process id."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=forget, args=(theirs,), daemon=True)
    process.start()
    yield f"http://127.0.0.1:{ours.recv()}/telemetry", process.pid or 0
    process.kill()


def name_all(url: str) -> int:
    """Note all rows in the outbox, as their writers would have; return how many that are."""
    engine = database.connect(url)
    with engine.begin() as connection:
        keys = []
        for table in tables.TABLES:
            own = table.c
            query = sa.select(own.trace_id, own.span_id, own.ts).order_by(own.ts)
            keys.append([tuple(row) for row in connection.execute(query)])
        requests, calls = keys
        entries = len(requests) // NAMED + 1
        for number in range(entries):
            outbox.note(connection, requests[number::entries], calls[number::entries])
        connection.execute(sa.text("ANALYZE"))
    engine.dispose()
    return len(requests) + len(calls)


def entries_again(url: str, kept: list[tuple[str]]) -> list[tuple[str]]:
    """Return what the outbox has, or put it back there."""
    engine = database.connect(url)
    with engine.begin() as connection:
        found = [tuple(row) for row in connection.execute(sa.select(outbox.outbox.c.body))]
        if kept:
            connection.execute(sa.insert(outbox.outbox), [{"body": body} for (body,) in kept])
    engine.dispose()
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 60_000
    wanted = sys.argv[2] if len(sys.argv) > 2 else ""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sources = []
        if wanted in {"", "postgres"}:
            server = stack.enter_context(postgres.running())
            sources.append(("PostgreSQL", server.database(), server.pid))
        if wanted in {"", "sqlite"}:
            sources.append(("SQLite", f"sqlite:///{folder / 'rows.db'}", 0))
        targets = [("forgotten", *stack.enter_context(forgetting()))]
        with suppress(pytest.skip.Exception):
            columns = stack.enter_context(programs.in_a_folder(ClickHouseServer))
            tables.make(ClickHouse(columns.url()))
            targets.append(("ClickHouse", columns.url(), columns.pid))
        for source, url, pid in sources:
            ui.fill(url, count)
            rows = name_all(url)
            entries = entries_again(url, [])
            for target, address, taker in targets:
                show(source, target, rows, measure(url, address, (pid, taker)))
                entries_again(url, entries)


def measure(url: str, address: str, others: tuple[int, int]) -> tuple[float, ...]:
    """Return seconds: by the clock, of the relay's CPU, of the database's server and of who takes the rows."""
    with Relay(url, ClickHouse(address), ClickHouseSettings().batch_rows) as relay:
        began, before = time.perf_counter(), [time.process_time(), *map(used_by, others)]
        while relay.step():
            pass
        used = [time.process_time(), *map(used_by, others)]
        return time.perf_counter() - began, *(now - was for now, was in zip(used, before, strict=True))


def show(source: str, target: str, rows: int, taken: tuple[float, ...]) -> None:
    clock, *used = (f"{rows / each:,.0f}" if each else "-" for each in taken)
    print(
        f"{source} to {target}: {rows:,} rows, {clock} a second; a second of CPU: relay {used[0]}, database {used[1]},"
        f" who takes them {used[2]}",
        flush=True,
    )


if __name__ == "__main__":
    main()
