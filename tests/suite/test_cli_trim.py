"""`otel-telemetry trim` deletes what is old, on demand, and says beforehand what that is."""

import json
import time

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from typer.testing import CliRunner

from otel_telemetry.cli import app
from otel_telemetry.exporters.request_log import RequestLogSpanExporter
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.operate.report import ReportQueries


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request, with_tables):
    """Return the URL of a database with a request of now and two of a hundred days ago."""
    url = with_tables(request.param)
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(RequestLogSpanExporter(url, store_text=True)))
    for days in (0, 100, 100):
        start = time.time_ns() - days * 86_400 * 1_000_000_000
        attributes = {"request_log.route": "a", "request_log.query_text": "what?"}
        provider.get_tracer("t").start_span("request", attributes=attributes, start_time=start).end(start + 1)
    provider.shutdown()
    return url


def run(*arguments: str):
    return CliRunner().invoke(app, ["trim", *arguments])


def requests(url: str) -> list[str | None]:
    with ReportQueries(RequestLogSettings(url=url)) as report:
        return [request.query_text for request in report.latest()]


def test_a_dry_run_counts_and_changes_nothing(url):
    result = run("--db", url, "--older-than", "90d", "--dry-run", "--json")
    assert result.exit_code == 0
    assert {row["table"]: row["count"] for row in json.loads(result.stdout)} == {"request_log": 2, "trace_facts": 2}
    assert len(requests(url)) == 3


def test_a_trace_whose_spans_came_together_is_one_row(url):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(RequestLogSpanExporter(url)))
    start = time.time_ns() - 100 * 86_400 * 1_000_000_000
    tracer = provider.get_tracer("t")
    request = tracer.start_span("request", attributes={"request_log.route": "a"}, start_time=start)
    tracer.start_span("below", trace.set_span_in_context(request), start_time=start).end(start + 1)
    request.end(start + 1)
    provider.shutdown()
    result = run("--db", url, "--older-than", "90d", "--json")
    counts = {row["table"]: row["count"] for row in json.loads(result.stdout)}
    assert counts == {"request_log": 3, "trace_facts": 3}
    assert "nothing is that old" in run("--db", url, "--older-than", "90d").stdout


def test_old_rows_are_deleted_and_the_table_says_how_many(url):
    result = run("--db", url, "--older-than", "90d")
    assert "request_log" in result.stdout
    assert requests(url) == ["what?"]
    assert "nothing is that old" in run("--db", url, "--older-than", "90d").stdout


def test_old_texts_are_removed_and_rows_stay(url):
    assert run("--db", url, "--texts-older-than", "4w").exit_code == 0
    assert requests(url) == ["what?", None, None]


def test_what_is_old_has_to_be_said(url):
    result = run("--db", url)
    assert result.exit_code != 0
    assert "retention_days" in str(result.exception)
    assert run("--db", url, "--older-than", "soon").exit_code == 2


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    result = run("--db", f"sqlite:///{tmp_path / 'none.db'}", "--older-than", "90d")
    assert "there is no database" in str(result.exception)
    assert not (tmp_path / "none.db").exists()
