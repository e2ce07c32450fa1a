"""Several processes write rows: the same rows as one writes, each once, and nothing is left behind by one that dies."""

import contextlib
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry import assemble_gateway, settings
from otel_telemetry.base import metrics, relay
from otel_telemetry.base.errors import MalformedTelemetry
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db.write_lock import WriteLock
from otel_telemetry.exporters.request_log.sink import RequestLogSink
from otel_telemetry.exporters.request_log.store.helper import Helper

BODIES = 10
TRACES = 100
FILLING = "x" * 16_000  # so that a body is most of what one transaction takes


def make_body(number: int) -> bytes:
    """Return traces of a request and its call each; the requests of one body come with the calls of the next."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for trace in range(TRACES):
        call = spans.add(trace_id=identity(16, number, trace), span_id=identity(8, 1, trace), name="chat")
        call.parent_span_id = identity(8, 2, trace)
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "app.filling": FILLING}
        for key, value in attributes.items():
            call.attributes.add(key=key).value.string_value = value
        before = (number + 1) % BODIES
        root = spans.add(trace_id=identity(16, before, trace), span_id=identity(8, 2, trace), name="POST", kind=2)
        root.attributes.add(key="http.route").value.string_value = "/chat"
        for span in (call, root):
            span.start_time_unix_nano = 1_790_000_000_000_000_000 + trace
            span.end_time_unix_nano = span.start_time_unix_nano + 1_000_000
    return request.SerializeToString()


def identity(length: int, *numbers: int) -> bytes:
    return b"".join(number.to_bytes(length // 2, "big") for number in (numbers[0] + 1, numbers[1] + 1))


@pytest.fixture(name="database")
def database_fixture(tmp_path):
    return tmp_path / "log.db"


@pytest.fixture(name="sink")
def sink_fixture(database):
    sink = RequestLogSink(RequestLogSettings(url=f"sqlite:///{database}", writers=3))
    yield sink
    sink.close()


def child_pids() -> list[int]:
    found = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return [int(pid) for file in found for pid in file.read_text(encoding="ascii").split() if is_helper(pid)]


def is_helper(pid: str) -> bool:
    return b"request_log.store.helper" in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_several_processes_write_the_rows_that_one_writes(sink, database, rows, tmp_path):
    bodies = [make_body(number) for number in range(BODIES)]
    sink.deliver("traces", bodies)
    assert len(child_pids()) == 2
    alone = RequestLogSink(RequestLogSettings(url=f"sqlite:///{tmp_path / 'alone.db'}", writers=1))
    alone.deliver("traces", bodies)
    alone.close()
    for table in ("request_log", "llm_call", "facts"):
        together, apart = (sorted(map(repr, rows(path, table))) for path in (database, tmp_path / "alone.db"))
        assert together == apart, table
    assert len(rows(database, "request_log")) == BODIES * TRACES
    assert {row["llm_calls"] for row in rows(database, "request_log")} == {1}


def test_a_little_is_written_without_another_process(sink, database, rows):
    sink.deliver("traces", [make_body(0)])
    assert child_pids() == []
    assert len(rows(database, "llm_call")) == TRACES


@pytest.mark.parametrize(("workers", "helpers"), [(0, 0), (1, 1)])
def test_who_asks_for_a_gateway_in_one_process_gets_one(database, tmp_path, workers, helpers):
    config = settings.load(
        request_log={"url": f"sqlite:///{database}"},
        gateway={"workers": workers, "role": "deliver" if workers else "all", "spool_dir": tmp_path, "http_port": 0},
        redaction={"pseudonyms": {"secret": "0123456789abcdef0123"}},
    )
    gateway: Any = assemble_gateway.gateway_of(config)
    (sink,) = gateway._sinks
    assert len(sink._helpers) == helpers
    sink.close()


def test_the_share_of_a_writer_that_was_killed_is_written_here_and_each_row_once(sink, database, rows, caplog):
    bodies = [make_body(number) for number in range(BODIES)]
    sink.deliver("traces", bodies[:6])
    killed = child_pids()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    sink.deliver("traces", bodies)
    assert caplog.text.count("a process that writes rows is gone (-9)") == len(killed)
    sink.deliver("traces", bodies)
    assert len(child_pids()) == len(killed), "they are started again"
    assert len(rows(database, "request_log")) == len(rows(database, "llm_call")) == BODIES * TRACES


def test_a_writer_that_cannot_start_is_done_without(sink, database, rows, caplog, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    for number in range(4):
        sink.deliver("traces", [make_body(each) for each in range(number, number + 6)])
    assert len(rows(database, "llm_call")) == 9 * TRACES
    assert caplog.text.count("its share is written here, from now on always") == 2
    assert caplog.text.count("is gone") == 6


def test_a_body_that_is_no_otlp_is_malformed_whoever_gets_it(sink, database, rows):
    bodies = [make_body(number) for number in range(BODIES)]
    for at in (0, BODIES // 2, BODIES):
        with pytest.raises(MalformedTelemetry, match="ExportTraceServiceRequest"):
            sink.deliver("traces", [*bodies[:at], b"\xff\xff not protobuf", *bodies[at:]])
    sink.deliver("traces", bodies)
    assert len(rows(database, "llm_call")) == BODIES * TRACES


def test_what_a_writer_counts_and_logs_is_told_by_the_process_that_asked(tmp_path, monkeypatch, caplog):
    class Counter:
        total: dict[str, float]

        def __init__(self) -> None:
            self.total = {}

        def add(self, amount, attributes):
            self.total[attributes["table"]] = self.total.get(attributes["table"], 0) + amount

    counter = Counter()
    monkeypatch.setattr(metrics, "rows_written", counter)
    write_lock = WriteLock()
    helper = Helper(RequestLogSettings(url=f"sqlite:///{tmp_path / 'log.db'}"), write_lock)
    helper.ask("traces", [[make_body(0)], [make_body(0), make_body(1)]])
    assert helper.answer() is None
    assert counter.total["llm_call"] == 2 * TRACES
    with caplog.at_level(logging.WARNING):
        with contextlib.closing(sqlite3.connect(tmp_path / "log.db")) as database:
            database.execute("CREATE TRIGGER no BEFORE INSERT ON llm_call BEGIN SELECT RAISE(ABORT, 'not today'); END")
        helper.ask("traces", [[make_body(2)]])
        assert helper.answer() is None
    assert "1 spans or records went to dead_letter: IntegrityError: not today" in caplog.messages
    helper.close()
    write_lock.close()


def test_a_writer_ends_with_the_process_that_asked(tmp_path):
    program = f"""
import os, signal
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store.helper import Helper
from otel_telemetry.exporters.request_log.db.write_lock import WriteLock
helper = Helper(RequestLogSettings(url="sqlite:///{tmp_path / "log.db"}"), WriteLock())
helper.ask("traces", [])
assert helper.answer() is None
print(helper._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    folder = Path("/proc") / done.stdout.strip()
    until = time.monotonic() + 20
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.02)
    assert not folder.exists()


def test_every_instrument_is_found_by_its_name():
    provider = relay.Relay()
    for attribute, instrument in vars(metrics).items():
        if getattr(instrument, "_name", "").startswith("otel_telemetry."):
            name = instrument._name
            assert name.removeprefix("otel_telemetry.").replace(".", "_") == attribute
            method = next(each for each in ("add", "record", "set") if hasattr(instrument, each))
            getattr(provider.get_meter("any").create_counter(name), method)(1, {"reason": "test"})
            assert provider.take() == [relay.Measurement(name, method, 1, {"reason": "test"})]
