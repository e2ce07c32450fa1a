"""The log exporter of the SDK: what an app says becomes rows, next to its spans, in every process that it forks."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import (
    BatchLogRecordProcessor,
    InMemoryLogRecordExporter,
    LogRecordExportResult,
    SimpleLogRecordProcessor,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.exporters.request_log import RequestLogLogExporter, RequestLogSpanExporter
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.store import retry

DETAILS = "gen_ai.client.inference.operation.details"


@pytest.fixture(name="url")
def url_fixture(tmp_path) -> str:
    return f"sqlite:///{tmp_path / 'log.db'}"


@pytest.fixture(name="logger")
def logger_fixture(url) -> Iterator[Any]:
    """A logger whose records are written when the provider is flushed."""
    provider = LoggerProvider(resource=Resource({"service.name": "chat"}), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(RequestLogLogExporter(url=url, store_text=True)))
    logger = provider.get_logger("app")
    logger.flush = provider.force_flush  # type: ignore[attr-defined]
    yield logger
    provider.shutdown()


def finished(*records: LogRecord) -> list[Any]:
    """Return records as an exporter gets them."""
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    for record in records:
        provider.get_logger("app").emit(record)
    return list(exporter.get_finished_logs())


def feedback(**values: Any) -> LogRecord:
    attributes = {f"request_log.{name}": value for name, value in {"verdict": "up", **values}.items()}
    return LogRecord(timestamp=1_790_000_000_000_000_000, event_name="request_log.feedback", attributes=attributes)


def test_what_is_said_becomes_rows_and_other_records_do_not(logger, tmp_path, rows):
    logger.emit(feedback(request_id="r", sources=["a", {"b": [1]}]))
    ended = {"request_log.type": "step:end", "request_log.run_id": "r", "request_log.step_id": "s"}
    logger.emit(event_name="request_log.workflow", timestamp=5, body={"output": {"deep": [1, 2]}}, attributes=ended)
    older = {"event.name": "request_log.browser", "request_log.type": "page_view"}
    logger.emit(attributes=older, timestamp=6)
    logger.emit(body="a line of the app's own", attributes={"request_log.verdict": "up"})
    logger.flush()
    (row,) = rows(tmp_path / "log.db", "feedback")
    assert (row["verdict"], row["request_id"], row["sources"]) == ("up", "r", '["a",{"b":[1]}]')
    (step,) = rows(tmp_path / "log.db", "workflow_step")
    assert (step["output"], step["status"]) == ('{"deep":[1,2]}', "finished")
    assert [row["type"] for row in rows(tmp_path / "log.db", "browser_event")] == ["page_view"]


def test_the_details_of_a_model_call_become_a_row(logger, tmp_path, rows):
    call = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o-mini", "gen_ai.provider.name": "openai"}
    logger.emit(event_name=DETAILS, timestamp=7, attributes={**call, "gen_ai.usage.input_tokens": 5})
    logger.flush()
    (row,) = rows(tmp_path / "log.db", "llm_call")
    assert (row["model"], row["prompt_tokens"], row["application"]) == ("gpt-4o-mini", 5, "chat")


def test_spans_and_logs_of_the_same_settings_share_one_connection(url):
    spans, logs = RequestLogSpanExporter(url=url), RequestLogLogExporter(config=RequestLogSettings(url=url))
    assert spans._store is logs._store
    assert RequestLogLogExporter(url=url, store_text=True)._store is not logs._store
    spans.shutdown()
    assert logs.export(finished(feedback())) is LogRecordExportResult.SUCCESS
    logs.shutdown()


def test_a_record_twice_is_one_row(url, tmp_path, rows):
    made = RequestLogLogExporter(url=url)
    batch = finished(feedback(), feedback(request_id="other"))
    for _ in range(2):
        assert made.export(batch) is LogRecordExportResult.SUCCESS
    made.shutdown()
    assert len(rows(tmp_path / "log.db", "feedback")) == 2


def test_a_record_that_no_table_takes_goes_aside_and_the_others_are_written(url, tmp_path, rows):
    made = RequestLogLogExporter(url=url)
    batch = finished(feedback(), feedback(verdict="sideways", note="a", query="secret"), feedback(request_id="x"))
    assert made.export(batch) is LogRecordExportResult.SUCCESS
    made.shutdown()
    assert len(rows(tmp_path / "log.db", "feedback")) == 2
    (letter,) = rows(tmp_path / "log.db", "dead_letter")
    assert (letter["signal"], letter["name"]) == ("logs", "request_log.feedback")
    assert letter["reason"] == "InvalidEvent: verdict: not up or down"
    assert "secret" not in str(letter)


def test_nothing_is_opened_for_records_that_become_no_rows(url, tmp_path):
    made = RequestLogLogExporter(url=url)
    assert made.export(finished(LogRecord(body="a line"))) is LogRecordExportResult.SUCCESS
    assert not (tmp_path / "log.db").exists()
    made.shutdown()


def test_a_database_that_is_away_is_tried_again_then_the_loss_is_counted(url, monkeypatch, dropped):
    monkeypatch.setattr(retry, "_TRIES", 2)
    monkeypatch.setattr(retry, "_FIRST_PAUSE", 0.001)
    made = RequestLogLogExporter(url=url)
    answers = iter([StoreUnavailable("locked"), None, StoreUnavailable("away"), StoreUnavailable("away")])

    def write(events):
        answer = next(answers)
        if answer is not None:
            raise answer

    monkeypatch.setattr(made._store, "write_events", write)
    assert made.export(finished(feedback())) is LogRecordExportResult.SUCCESS
    assert dropped == []
    assert made.export(finished(feedback(), LogRecord(body="of no concern"))) is LogRecordExportResult.FAILURE
    assert dropped == [(1, "store_unavailable")]
    made.shutdown()
    made.shutdown()
    assert made.export(finished(feedback())) is LogRecordExportResult.FAILURE
    assert dropped[1:] == [(1, "shutdown")]


def test_processes_that_a_server_forks_each_write_spans_and_logs_through_their_own_connection(tmp_path):
    script = f"""
import os
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from otel_telemetry.exporters.request_log import RequestLogLogExporter, RequestLogSpanExporter
url = "sqlite:///{tmp_path / "log.db"}"
logs, spans = LoggerProvider(), TracerProvider()
logs.add_log_record_processor(BatchLogRecordProcessor(RequestLogLogExporter(url=url)))
spans.add_span_processor(BatchSpanProcessor(RequestLogSpanExporter(url=url)))
def request(n):
    name = f"{{os.getpid()}}-{{n}}"
    spans.get_tracer("app").start_span("r", attributes={{"request_log.id": name}}).end()
    verdict = {{"request_log.verdict": "up", "request_log.request_id": name}}
    logs.get_logger("app").emit(event_name="request_log.feedback", attributes=verdict)
def end():
    spans.shutdown()
    logs.shutdown()
request(0)
spans.force_flush(), logs.force_flush()
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        for n in range(5):
            request(n + 1)
        end()
        os._exit(0)
    children.append(child)
assert all(os.waitpid(child, 0)[1] == 0 for child in children)
request(6)
end()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    joined = "SELECT count(*), count(DISTINCT f.id) FROM feedback f JOIN request_log r ON r.id = f.request_id"
    connection = sqlite3.connect(tmp_path / "log.db")
    assert connection.execute(joined).fetchone() == (12, 12)
    connection.close()


APP = """
import otel_telemetry
with otel_telemetry.request(route="direct", id="r-1", session_id="s") as r:
    r.event("run:start", id="run", name="answer")
    r.event("lookup", data={"mail": "anna@example.com"})
    r.feedback("up", note="thanks")
otel_telemetry.event("run:update", id="run", status="finished")
otel_telemetry.feedback("down", request_id="r-1", note="bob@example.com")
"""


def test_zero_code_what_an_app_says_is_in_the_database_when_it_ends(tmp_path):
    (tmp_path / "app.py").write_text(APP)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
        "OTEL_TRACES_EXPORTER": "request_log",
        "OTEL_SERVICE_NAME": "chat",
        "OTEL_TELEMETRY_REQUEST_LOG__URL": "sqlite:///log.db",
        "OTEL_TELEMETRY_REDACTION__PSEUDONYMS__SECRET": "0123456789abcdef",
    }
    command = [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable, "app.py"]
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, timeout=60)
    connection = sqlite3.connect(tmp_path / "log.db")
    rows = connection.execute("SELECT verdict, request_id, note FROM feedback ORDER BY ts").fetchall()
    assert rows == [("up", "r-1", "thanks"), ("down", "r-1", "[REDACTED_EMAIL]")]
    assert connection.execute("SELECT id, name, status, application FROM workflow_run").fetchall() == [
        ("run", "answer", "finished", "chat")
    ]
    (event,) = connection.execute("SELECT type, request_id, data, session_id FROM workflow_event").fetchall()
    assert event[:3] == ("lookup", "r-1", '{"mail":"[REDACTED_EMAIL]"}')
    assert connection.execute("SELECT session_id FROM request_log WHERE id = 'r-1'").fetchone() == (event[3],)
    connection.close()


def test_a_provider_of_the_app_s_own_writes_both_and_leaves_nothing_behind(url, tmp_path, rows, chat):
    spans = TracerProvider(shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(RequestLogSpanExporter(url=url)))
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(BatchLogRecordProcessor(RequestLogLogExporter(url=url)))
    with spans.get_tracer("app").start_as_current_span("r", attributes={"request_log.route": "a"}) as span:
        logs.get_logger("app").emit(event_name="request_log.feedback", attributes={"request_log.verdict": "up"})
    spans.shutdown()
    logs.shutdown()
    (row,) = rows(tmp_path / "log.db", "feedback")
    assert row["trace_id"] == f"{span.get_span_context().trace_id:032x}"
    assert len(rows(tmp_path / "log.db", "request_log")) == 1
