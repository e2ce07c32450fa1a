"""The report's numbers, against numbers worked out by hand."""

import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
import sqlalchemy as sa

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.db import schema
from otel_telemetry.exporters.request_log.operate.report import ReportQueries
from otel_telemetry.exporters.request_log.operate.report_groups import Period
from otel_telemetry.exporters.request_log.store.store import open_store

DAY = 86_400
SECOND_DAY = Period(datetime(2026, 9, 22, tzinfo=UTC))


@pytest.fixture(name="url")
def url_fixture(read_in, with_tables):
    return with_tables(read_in)


@pytest.fixture(name="report")
def report_fixture(read_in, url, as_read, span, chat):
    spans = []
    for n in range(1, 21):  # route a: 20 requests of 1 to 20 seconds, each with one priced call
        trace = f"{n:032x}"
        attributes = {"request_log.route": "a", **({"request_log.ttfb_ms": float(n)} if n <= 10 else {})}
        attributes |= {
            "request_log.user_id": f"k1_{n % 2:012x}",
            **({"request_log.degraded": "web_failed"} if n < 4 else {}),
        }
        attributes |= {"request_log.cache_hit": n > 12, **({"request_log.cache_saved_ms": 100.5} if n > 12 else {})}
        attributes |= {"request_log.cache_saved_usd": 0.25} if n > 14 else {}
        attributes |= {"request_log.cache_saved_usd": "a text"} if n == 13 else {}
        spans += [span(1, None, attributes, trace_id=trace, seconds=n, status="ERROR" if n == 20 else "UNSET")]
        spans += [span(2, 1, chat(), trace_id=trace)]
    trace = "f" * 32  # route b: one request a day later, without a price
    spans += [span(1, None, {"request_log.route": "b"}, trace_id=trace, start=DAY, seconds=0.5)]
    spans += [span(2, 1, chat("of-tomorrow"), trace_id=trace, start=DAY)]
    store = open_store(RequestLogSettings(url=url))
    store.write(spans)
    say(store, ("up", f"{1:032x}-{1:016x}", None), ("up", None, "f" * 32), ("down", None, None))
    store.close()
    with ReportQueries(RequestLogSettings(url=as_read(read_in, url))) as report:
        yield report


def say(store, *verdicts):
    """Store feedback: verdict, request id, trace id."""
    with store._engine.begin() as connection:
        for n, (verdict, request_id, trace_id) in enumerate(verdicts):
            row = {"id": str(n), "ts": datetime(2026, 9, 22, 10, n, tzinfo=UTC), "verdict": verdict}
            row |= {"request_id": request_id, "trace_id": trace_id}
            connection.execute(sa.insert(schema.feedback), row)


def picked(rows, *names):
    return [tuple(row[name] for name in names) for row in rows]


def test_cost_and_latency_by_route(report):
    a, b = report.requests()
    assert (a["route"], a["requests"], a["ok"], a["share"], a["llm_calls"]) == ("a", 20, 19, 20 / 21, 20)
    assert (a["prompt_tokens"], a["completion_tokens"], a["cached_tokens"]) == (2_000, 400, None)
    assert (a["cost_usd"], a["unpriced"]) == (20 * Decimal("0.000027"), 0)
    assert (a["latency_p50_ms"], a["latency_p95_ms"], a["latency_p99_ms"]) == (10_000.0, 19_000.0, 20_000.0)
    assert (a["ttfb_p50_ms"], a["ttfb_p95_ms"]) == (5.0, 10.0)
    assert (b["requests"], b["cost_usd"], b["unpriced"], b["ttfb_p50_ms"], b["latency_p95_ms"]) == (
        1,
        None,
        1,
        None,
        500,
    )
    assert (a["degraded_requests"], a["cache_hits"]) == (3, 8)


def test_cost_and_latency_per_day(report):
    first, second = report.requests(["day"])
    assert (first["day"], first["requests"], first["cost_usd"]) == ("2026-09-21", 20, Decimal("0.00054"))
    assert (first["unpriced"], first["latency_p95_ms"]) == (0, 19_000.0)
    assert (second["day"], second["requests"], second["unpriced"]) == ("2026-09-22", 1, 1)
    assert picked(report.requests(["hour"]), "hour", "requests") == [("2026-09-21 14:00", 20), ("2026-09-22 14:00", 1)]


def test_groups_by_several_things_are_in_order_of_time_and_then_the_largest_first(report):
    found = picked(report.requests(["day", "route", "user"]), "day", "route", "user", "requests")
    assert found == [
        ("2026-09-21", "a", f"k1_{0:012x}", 10),
        ("2026-09-21", "a", f"k1_{1:012x}", 10),
        ("2026-09-22", "b", None, 1),
    ]
    assert picked(report.requests(["hour", "service"]), "hour", "service") == [
        ("2026-09-21 14:00", "chat"),
        ("2026-09-22 14:00", "chat"),
    ]


def test_reasons_why_answers_were_degraded(report):
    found = picked(report.requests(["degraded"]), "degraded", "requests", "share")
    assert found == [(None, 18, 18 / 21), ("web_failed", 3, 3 / 21)]


def test_cost_and_latency_by_model_are_those_of_model_calls(report):
    mini, tomorrow = report.calls()
    assert (mini["model"], mini["llm_calls"], mini["ok"], mini["cost_usd"]) == (
        "gpt-4o-mini",
        20,
        20,
        Decimal("0.00054"),
    )
    assert (mini["latency_p50_ms"], mini["ttfb_p50_ms"]) == (1_000.0, None)
    assert (tomorrow["model"], tomorrow["unpriced"], tomorrow["cost_usd"]) == ("of-tomorrow", 1, None)
    found = picked(report.calls(["day", "provider", "model"]), "day", "provider", "model", "llm_calls")
    assert found == [("2026-09-21", "openai", "gpt-4o-mini", 20), ("2026-09-22", "openai", "of-tomorrow", 1)]


def test_what_the_cache_saved_is_what_its_hits_said(report):
    a, b = report.cache()
    assert (a["route"], a["requests"], a["cache_hits"], a["hit_rate"]) == ("a", 20, 8, 0.4)
    assert (a["saved_usd"], a["saved_ms"], a["unpriced"]) == (Decimal("1.5"), 804.0, 2)
    assert (b["cache_hits"], b["hit_rate"], b["saved_usd"], b["saved_ms"], b["unpriced"]) == (0, 0, None, None, 0)
    assert picked(report.cache(["day"]), "day", "cache_hits") == [("2026-09-21", 8), ("2026-09-22", 0)]


def test_feedback_is_counted_by_the_route_and_model_of_the_request_that_it_is_about(report, read_in):
    if read_in == "clickhouse":
        with pytest.raises(ConfigurationError, match=r"but no feedback(?s:.)*--db"):
            report.feedback()
        return
    found = picked(report.feedback(), "route", "model", "feedback", "up", "down", "up_share")
    assert sorted(found, key=str) == [
        ("a", "gpt-4o-mini", 1, 1, 0, 1),
        ("b", "of-tomorrow", 1, 1, 0, 1),
        (None, None, 1, 0, 1, 0),
    ]
    assert picked(report.feedback(["day"]), "day", "up", "down") == [("2026-09-22", 2, 1)]


def test_a_period_leaves_out_what_was_before_and_after(report, read_in):
    assert picked(report.requests(["route"], SECOND_DAY), "route") == [("b",)]
    assert picked(report.requests(["day"], SECOND_DAY), "requests") == [(1,)]
    assert picked(report.requests(["day"], Period(until=SECOND_DAY.since)), "requests") == [(20,)]
    later = Period(datetime(2026, 9, 22, tzinfo=UTC) + timedelta(days=30))
    questions = [report.requests, report.calls, report.cache]
    for question in questions if read_in == "clickhouse" else [*questions, report.feedback]:
        assert question(period=later) == []
    assert len(report.latest(50, SECOND_DAY)) == 1


def test_hours_and_days_are_those_of_utc_wherever_the_reader_is(report, monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("PGTZ", "Pacific/Auckland")
    time.tzset()
    try:
        assert picked(report.requests(["day"]), "day") == [("2026-09-21",), ("2026-09-22",)]
        assert picked(report.requests(["day", "route"]), "day") == [("2026-09-21",), ("2026-09-22",)]
    finally:
        monkeypatch.undo()
        time.tzset()


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
        ReportQueries(RequestLogSettings(url=f"sqlite:///{tmp_path / 'none.db'}"))


def test_requests_that_were_declined_on_purpose_are_no_errors(read_in, url, as_read, span):
    store = open_store(RequestLogSettings(url=url))
    for number, degraded in enumerate(("encrypted_room", "declined", "send_failed")):
        attributes = {"request_log.route": "none", "request_log.ok": False, "request_log.degraded": degraded}
        store.write([span(1, None, attributes, trace_id=f"{number}" * 32)])
    store.close()
    with ReportQueries(RequestLogSettings(url=as_read(read_in, url))) as report:
        (row,) = report.requests()
    assert (row["requests"], row["ok"], row["degraded_requests"]) == (3, 2, 3)
