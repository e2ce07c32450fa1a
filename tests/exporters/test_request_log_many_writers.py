"""Several processes write to one PostgreSQL at a time: the rows are those that one writer makes of all spans."""

import os
import pickle
import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from otel_telemetry.base import records
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import database, postgres, schema
from otel_telemetry.exporters.request_log.rollup.build import Builder, wrong
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from otel_telemetry.exporters.request_log.store.retention import Retention
from otel_telemetry.exporters.request_log.store.store import open_store
from tests.exporters.known import rows_of
from tests.exporters.test_request_log_order import LOGGED, SAYINGS, START, TABLES, Oracle, log_of
from tests.exporters.test_request_log_writers import BODIES, TRACES, make_body

COUNT = int(os.environ.get("MANY_WRITERS_TRACES", "400"))
KILLS = int(os.environ.get("MANY_WRITERS_KILLS", "3"))
SECOND = 1_000_000_000
WRITER = Path(__file__).with_name("many_writers.py")
OF = [schema.metadata.tables[name] for name in TABLES]


def spans_of(traces: int) -> list[records.Span]:
    """Return the same spans each time: trees over two services, whose apps give one id to several requests."""
    chance = random.Random(traces)  # noqa: S311  # no secret
    return [span for number in range(traces) for span in _trace(number, traces, chance)]


def _trace(number: int, traces: int, chance: random.Random) -> list[records.Span]:
    found = []
    services: list[str] = []
    day = START + chance.randrange(3) * 86_400 * SECOND
    for position in range(chance.randint(1, 10)):
        parent = chance.choice([None, *range(position)]) if position else None
        inherited = services[parent] if parent is not None else "chat"
        services.append(chance.choice([inherited, inherited, inherited, "worker"]))
        attributes = dict(chance.choice(SAYINGS))
        if chance.random() < 0.4 and not any(name.startswith("gen_ai.") for name in attributes):
            attributes["request_log.id"] = f"shared-{chance.randrange(traces // 2)}"
        enters = parent is None or chance.random() < 0.2
        start = day + position * SECOND
        span = records.Span(
            trace_id=f"{number * 0x9E3779B97F4A7C15 % 2**64:032x}",
            span_id=f"{position + 1:016x}",
            parent_span_id=None if parent is None else f"{parent + 1:016x}",
            local_root=enters,
            name="span",
            kind="SERVER" if enters else "INTERNAL",
            start_ns=start,
            end_ns=start + chance.randrange(6) * SECOND,
            status="UNSET",
            status_message="",
            attributes=attributes,
            events=(),
            resource={"service.name": services[-1]},
        )
        found.append(span)
        if chance.random() < 0.2:
            found.append(log_of(span, chance.choice(LOGGED)))
    return found


@pytest.fixture(name="url")
def url_fixture(postgres) -> str:
    url: str = postgres.database()
    return url


@pytest.fixture(name="expected", scope="module")
def expected_fixture(tmp_path_factory):
    """The tables that one writer makes of all spans at once, on SQLite; its requests are those of the rules."""
    store = open_store(RequestLogSettings(url=f"sqlite:///{tmp_path_factory.mktemp('one') / 'log.db'}"))
    spans = spans_of(COUNT)
    store.write(spans)
    assert store._engine is not None
    found = rows_of(store._engine, OF)
    store.close()
    by_trace: dict[str, list[records.Span]] = {}
    for span in spans:
        by_trace.setdefault(span.trace_id, []).append(span)
    requests = {key for each in by_trace.values() for key in Oracle(each).requests}
    assert {(row["trace_id"], row["span_id"]) for row in found["request_log"]} == requests
    return found


def run(url: str, file: Path, share: int, kills: list[int]) -> None:
    """Run one writer until it has written all; before, kill it each time that it has written so many batches."""
    command = [sys.executable, str(WRITER), url, str(file), str(share), "2"]
    for batches in kills:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(batches):
                writer.stdout.readline()
            writer.kill()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


@pytest.mark.timeout(300 + 30 * KILLS)
@pytest.mark.parametrize("kills", [0, KILLS])
def test_two_writers_end_with_the_rows_of_one(url, expected, kills, tmp_path):
    chance = random.Random(kills)  # noqa: S311  # no secret
    file = tmp_path / "spans"
    file.write_bytes(pickle.dumps(spans_of(COUNT)))
    open_store(RequestLogSettings(url=url)).close()
    over = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        beside = pool.submit(sum_up_until, over, url)
        writers = [
            pool.submit(run, url, file, share, [chance.randint(1, 6) for _ in range(kills)]) for share in range(2)
        ]
        try:
            wait(writers)
        finally:
            over.set()
        assert beside.result()
    for writer in writers:
        writer.result()
    engine = database.reader(url)
    found = rows_of(engine, OF)
    for table in TABLES:
        assert found[table] == expected[table], table
    ids = [row["id"] for row in found["request_log"]]
    assert len(ids) == len(set(ids))
    with engine.connect() as connection:
        assert list(wrong(connection)) == []
    engine.dispose()


def sum_up_until(over: threading.Event, url: str) -> int:
    """Sum up and trim nothing, again and again, beside the writers; return how often."""
    times = 0
    while not over.is_set():
        with Builder(url) as builder:
            for _ in builder.steps():
                pass
            Retention(builder._writer, datetime(2001, 1, 1, tzinfo=UTC), None).run(1)
        times += 1
    return times


def test_two_gateways_with_helpers_write_each_row_once(url):
    sinks = [RequestLogSink(RequestLogSettings(url=url, writers=2)) for _ in range(2)]
    bodies = [make_body(number) for number in range(BODIES)]
    with ThreadPoolExecutor(2) as pool:
        for done in [
            pool.submit(sink.deliver, "traces", each) for sink, each in zip(sinks, (bodies, bodies[::-1]), strict=True)
        ]:
            done.result()
    for sink in sinks:
        sink.close()
    engine = database.reader(url)
    with engine.connect() as connection:
        query = "SELECT count(*), count(DISTINCT id), sum(llm_calls) FROM request_log"
        assert connection.exec_driver_sql(query).one() == (BODIES * TRACES, BODIES * TRACES, BODIES * TRACES)
        assert connection.exec_driver_sql("SELECT count(*), count(DISTINCT id) FROM llm_call").one() == (1000, 1000)
    engine.dispose()


def test_a_writer_takes_what_is_free_and_waits_for_what_is_not(url, span, chat):
    """Whoever has one bucket keeps nobody from the others; a command has all of them to itself."""
    store = open_store(RequestLogSettings(url=url))
    traces = [f"{number:032x}" for number in range(1, 200)]
    spans = [span(1, None, chat(), trace_id=trace) for trace in traces]
    store.write(spans[:1])
    other = postgres.sharing(database.connect(url))
    with other.begin() as connection:
        assert postgres.take(connection, {3: 1}, 1) == ([3], False)
        written = threading.Event()

        def write() -> None:
            store.write(spans)
            written.set()

        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(write)
            reader = database.reader(url)
            while count(reader) == 1:
                pass
            assert count(reader) < len(traces)
            assert not written.is_set()
            connection.commit()
            done.result()
    assert count(reader) == len(traces)
    reader.dispose()
    alone = database.connect(url)
    assert store._engine is not None
    with store._engine.begin() as raw:
        raw.exec_driver_sql("SET lock_timeout = '200ms'")
    with alone.begin(), pytest.raises(StoreUnavailable, match="lock timeout"):
        store.write([span(2, 1, chat(), trace_id=traces[0])])
    store.write([span(2, 1, chat(), trace_id=traces[0])])
    for engine in (alone, other):
        engine.dispose()
    store.close()


def count(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(schema.llm_call)).scalar_one())
