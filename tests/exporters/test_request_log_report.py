"""The report's numbers, against numbers worked out by hand."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from otel_telemetry.errors import ConfigurationError
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.report import Report
from otel_telemetry.exporters.request_log.store import open_store

DAY = 86_400
FIRST_DAY = date(2026, 9, 21)


@pytest.fixture(name="url", params=["sqlite", "postgres"])
def url_fixture(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'log.db'}"
    return request.getfixturevalue("postgres").database()


@pytest.fixture(name="report")
def report_fixture(url, span, chat):
    spans = []
    for n in range(1, 21):  # route a: 20 requests of 1 to 20 seconds, each with one priced call
        trace = f"{n:032x}"
        said = {"request_log.route": "a", **({"request_log.ttfb_ms": float(n)} if n <= 10 else {})}
        spans += [span(1, None, said, trace_id=trace, seconds=n, status="ERROR" if n == 20 else "UNSET")]
        spans += [span(2, 1, chat(), trace_id=trace)]
    trace = "f" * 32  # route b: one request a day later, without a price
    spans += [span(1, None, {"request_log.route": "b"}, trace_id=trace, start=DAY, seconds=0.5)]
    spans += [span(2, 1, chat("of-tomorrow"), trace_id=trace, start=DAY)]
    store = open_store(RequestLogSettings(url=url))
    store.write(spans)
    store.close()
    with Report(RequestLogSettings(url=url)) as report:
        yield report


def test_cost_and_latency_by_route(report):
    a, b = report.by_route()
    assert (a.route, a.requests, a.ok, a.ok_share, a.llm_calls) == ("a", 20, 19, 0.95, 20)
    assert (a.prompt_tokens, a.completion_tokens, a.cached_tokens) == (2_000, 400, 0)
    assert (a.cost_usd, a.unpriced) == (20 * Decimal("0.000027"), 0)
    assert (a.latency_p50_ms, a.latency_p95_ms) == (10_000.0, 19_000.0)
    assert (a.ttfb_p50_ms, a.ttfb_p95_ms) == (5.0, 10.0)
    assert (b.requests, b.cost_usd, b.unpriced, b.ttfb_p50_ms, b.latency_p95_ms) == (1, 0, 1, None, 500.0)


def test_cost_per_day(report):
    first, second = report.by_day()
    assert (first.day, first.requests, first.cost_usd, first.unpriced) == (FIRST_DAY, 20, Decimal("0.00054"), 0)
    assert (second.day, second.requests, second.unpriced) == (FIRST_DAY + timedelta(days=1), 1, 1)


def test_since_leaves_out_what_was_before(report):
    since = datetime(2026, 9, 22, tzinfo=UTC)
    assert [summary.route for summary in report.by_route(since)] == ["b"]
    assert [summary.requests for summary in report.by_day(since)] == [1]
    assert report.by_route(since + timedelta(days=30)) == []


def test_the_latest_requests_come_first_with_their_calls(report):
    latest = report.latest(3)
    assert len(latest) == 3
    assert latest[0].route == "b"
    assert latest[0].ts == datetime(2026, 9, 22, 14, 13, 20, tzinfo=UTC)
    assert latest[1].cost_usd == Decimal("0.000027")
    assert [call.model for call in report.calls_of(latest[0].id)] == ["of-tomorrow"]


def test_a_report_cannot_change_anything(report):
    with pytest.raises(sa.exc.DBAPIError, match=r"read-?only"), report._engine.connect() as connection:
        connection.exec_driver_sql("DELETE FROM request_log")


def test_a_report_on_nothing_says_what_to_do(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no database"):
        Report(RequestLogSettings(url=f"sqlite:///{tmp_path / 'none.db'}"))
