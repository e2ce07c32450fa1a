"""The SDK exporter: real spans of a real TracerProvider become rows, and the app never notices anything."""

import os
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from otel_telemetry.base import metrics
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log import RequestLogLogExporter, RequestLogSpanExporter
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import sqlite
from otel_telemetry.exporters.request_log.read import span_facts
from otel_telemetry.exporters.request_log.store import retry


@pytest.fixture(name="provider")
def provider_fixture(tmp_path):
    provider = TracerProvider(
        resource=Resource({"service.name": "chat", "deployment.environment.name": "test"}), shutdown_on_exit=False
    )
    provider.add_span_processor(BatchSpanProcessor(RequestLogSpanExporter(url=f"sqlite:///{tmp_path / 'log.db'}")))
    yield provider
    provider.shutdown()


def finished_spans(count=1):
    """Spans as an exporter gets them."""
    provider = TracerProvider(shutdown_on_exit=False)
    found = []
    for number in range(count):
        span = provider.get_tracer("test").start_span(f"span {number}", attributes={"request_log.route": "a"})
        span.end()
        assert isinstance(span, Span)
        found.append(span._readable_span())
    return found


def test_an_app_s_spans_become_a_request_with_its_calls(provider, chat, tmp_path, rows):
    tracer = provider.get_tracer("app")
    with tracer.start_as_current_span("POST /chat", kind=SpanKind.SERVER, attributes={"request_log.route": "web"}):
        with tracer.start_as_current_span("chat", kind=SpanKind.CLIENT, attributes=chat()):
            pass
        with pytest.raises(ValueError, match="boom"), tracer.start_as_current_span("chat", attributes=chat()):
            raise ValueError("boom")
    provider.shutdown()
    request = rows(tmp_path / "log.db", "request_log")[0]
    assert (request["service"], request["environment"], request["route"]) == ("chat", "test", "web")
    assert (request["llm_calls"], request["prompt_tokens"], request["ok"]) == (2, 200, 1)
    calls = rows(tmp_path / "log.db", "llm_call")
    assert sorted(call["error"] or "" for call in calls) == ["", "ValueError: boom"]
    assert {call["request_id"] for call in calls} == {request["id"]}


def test_every_field_of_an_sdk_span_is_read(provider):
    tracer = provider.get_tracer("scope")
    with tracer.start_as_current_span("parent") as parent:
        link = Link(parent.get_span_context())
        span = tracer.start_span("child", kind=SpanKind.CONSUMER, attributes={"a": (1, 2)}, links=[link])
        span.add_event("exception", {"exception.message": "m"}, timestamp=5)
        span.set_status(Status(StatusCode.ERROR, "broken"))
        span.end()
    ours = span_facts.from_sdk(span._readable_span())
    assert (ours.parent_span_id, ours.local_root) == (f"{parent.get_span_context().span_id:016x}", True)
    assert (ours.kind, ours.status, ours.status_message, ours.scope) == ("CONSUMER", "ERROR", "broken", "scope")
    assert (dict(ours.attributes), ours.events[0].name, ours.events[0].time_ns) == ({"a": (1, 2)}, "exception", 5)
    assert ours.end_ns >= ours.start_ns > 0


def test_nothing_is_opened_before_the_first_export(tmp_path):
    made = RequestLogSpanExporter(config=RequestLogSettings(url=f"sqlite:///{tmp_path / 'log.db'}"))
    assert not (tmp_path / "log.db").exists()
    assert made.export(finished_spans()) is SpanExportResult.SUCCESS
    assert (tmp_path / "log.db").exists()
    assert made.force_flush()
    made.shutdown()


def test_arguments_go_before_the_configuration_and_wrong_ones_are_refused():
    with pytest.raises(ValueError, match="batch_sise"):
        RequestLogSpanExporter(batch_sise=3)
    assert RequestLogSpanExporter(config=RequestLogSettings(store_text=True), url="sqlite:///x")._store._config == (
        RequestLogSettings(store_text=True, url="sqlite:///x")
    )


def test_a_database_that_is_away_is_tried_again_then_the_loss_is_counted(tmp_path, monkeypatch, dropped):
    monkeypatch.setattr(retry, "_TRIES", 3)
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.001)
    failures = []
    monkeypatch.setattr(metrics.write_failures, "add", lambda n, _: failures.append(n))
    made = RequestLogSpanExporter(url=f"sqlite:///{tmp_path / 'log.db'}")
    answers = iter([StoreUnavailable("locked"), StoreUnavailable("locked"), None, *[StoreUnavailable("away")] * 3])

    def write(spans):
        answer = next(answers)
        if answer is not None:
            raise answer

    monkeypatch.setattr(made._store, "write", write)
    assert made.export(finished_spans()) is SpanExportResult.SUCCESS
    assert dropped == []
    assert made.export(finished_spans(3)) is SpanExportResult.FAILURE
    assert dropped == [(3, "store_unavailable")]
    assert len(failures) == 5
    made.shutdown()


def test_while_another_one_holds_the_database_no_more_waits_than_the_queue_holds(tmp_path, monkeypatch, dropped):
    monkeypatch.setattr(retry, "_TRIES", 3)
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sqlite, "_BUSY_MS", 20)
    path = tmp_path / "log.db"
    exporter = RequestLogSpanExporter(url=f"sqlite:///{path}")
    assert exporter.export(finished_spans()) is SpanExportResult.SUCCESS
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    provider = TracerProvider(shutdown_on_exit=False)
    queue = BatchSpanProcessor(exporter, max_queue_size=64, max_export_batch_size=32, schedule_delay_millis=20)
    provider.add_span_processor(queue)
    tracer = provider.get_tracer("test")
    for _ in range(2_000):
        tracer.start_span("lost", attributes={"request_log.route": "a"}).end()
    deadline = time.monotonic() + 30
    while not dropped and time.monotonic() < deadline:
        time.sleep(0.01)
    assert dropped
    assert {reason for _, reason in dropped} == {"store_unavailable"}
    assert len(queue._batch_processor._queue) <= 64
    other.execute("ROLLBACK")
    other.close()
    tracer.start_span("kept", attributes={"request_log.id": "kept"}).end()
    provider.shutdown()
    rows = sqlite3.connect(path)
    assert rows.execute("SELECT count(*) FROM request_log WHERE id = 'kept'").fetchone() == (1,)
    rows.close()


def test_a_setting_that_cannot_be_used_never_raises_into_the_app(tmp_path, dropped, caplog):
    (tmp_path / "file").write_text("")
    made = RequestLogSpanExporter(url=f"sqlite:///{tmp_path / 'file' / 'log.db'}")
    for _ in range(3):
        assert made.export(finished_spans(2)) is SpanExportResult.FAILURE
    assert dropped == [(2, "store_failed")] * 3
    assert [record.message for record in caplog.records if "cannot write" in record.message].__len__() == 1
    made.shutdown()


def test_instrumentation_is_suppressed_while_it_writes(tmp_path, monkeypatch):
    made = RequestLogSpanExporter(url=f"sqlite:///{tmp_path / 'log.db'}")
    seen = []
    monkeypatch.setattr(made._store, "write", lambda spans: seen.append(is_instrumentation_enabled()))
    made.export(finished_spans())
    assert seen == [False]
    assert is_instrumentation_enabled()
    made.shutdown()


def test_what_comes_after_shutdown_is_counted_as_lost(tmp_path, dropped):
    made = RequestLogSpanExporter(url=f"sqlite:///{tmp_path / 'log.db'}")
    made.shutdown()
    made.shutdown()
    assert made.export(finished_spans()) is SpanExportResult.FAILURE
    assert dropped == [(1, "shutdown")]
    assert not (tmp_path / "log.db").exists()


@pytest.fixture(name="often")
def often_fixture():
    """Threads that take turns so often that each meets the other wherever it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_who_shares_a_database_may_close_it_at_any_time(tmp_path, caplog, often):
    del often
    url = f"sqlite:///{tmp_path / 'log.db'}"
    exporter, ended = RequestLogSpanExporter(url=url), threading.Event()

    def close_again_and_again():
        while not ended.is_set():
            RequestLogLogExporter(url=url).shutdown()

    other = threading.Thread(target=close_again_and_again)
    other.start()
    try:
        results = {exporter.export(finished_spans()) for _ in range(200)}
    finally:
        ended.set()
        other.join()
        exporter.shutdown()
    assert results == {SpanExportResult.SUCCESS}
    assert not caplog.records


def test_processes_that_a_server_forks_after_loading_the_app_each_write_their_requests(tmp_path):
    script = f"""
import os
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_telemetry.exporters.request_log import RequestLogSpanExporter
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(RequestLogSpanExporter(url="sqlite:///{tmp_path / "log.db"}")))
def request(n):
    provider.get_tracer("app").start_span("r", attributes={{"request_log.id": f"{{os.getpid()}}-{{n}}"}}).end()
request(0)
provider.force_flush()
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        for n in range(5):
            request(n + 1)
        provider.shutdown()
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
request(6)
provider.shutdown()
"""
    environment = {**os.environ, "OTEL_SERVICE_NAME": "forked"}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)
    connection = sqlite3.connect(tmp_path / "log.db")
    assert connection.execute("SELECT count(*), count(DISTINCT service) FROM request_log").fetchone() == (12, 1)
    connection.close()
