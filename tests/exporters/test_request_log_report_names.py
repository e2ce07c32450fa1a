"""Rows under the names that people look for: a model's failures beside its successes, requests by endpoint."""

import pytest

from otel_telemetry.exporters.request_log.config import RequestLogSettings
from otel_telemetry.exporters.request_log.operate.report import ReportQueries
from otel_telemetry.exporters.request_log.store.store import open_store

DAY = 86_400


@pytest.fixture(name="url")
def url_fixture(read_in, with_tables):
    return with_tables(read_in)


@pytest.fixture(name="stored")
def stored_fixture(read_in, url, as_read):
    """Return what stores spans and returns the report on them."""

    def stored(*spans):
        store = open_store(RequestLogSettings(url=url))
        store.write(spans)
        store.close()
        return ReportQueries(RequestLogSettings(url=as_read(read_in, url)))

    return stored


def call(span, number, requested, answered=None, *, start=0.0):
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": requested}
    if answered is None:
        return span(number, None, {**attributes, "error.type": "429"}, trace_id=f"{number:032x}", start=start)
    attributes |= {"gen_ai.response.model": answered, "gen_ai.usage.input_tokens": 10}
    return span(number, None, attributes, trace_id=f"{number:032x}", start=start)


def counted(rows):
    return {row["model"]: (row["llm_calls"], row["ok"]) for row in rows}


def test_failures_of_a_model_stand_beside_its_successes(stored, span):
    with stored(
        call(span, 1, "m", "m-2026-01"),
        call(span, 2, "m"),
        call(span, 3, "m", start=DAY),
        call(span, 4, "never-answered"),
    ) as report:
        assert counted(report.calls()) == {"m-2026-01": (3, 1), "never-answered": (1, 0)}
        by_day = [(row["day"], row["model"], row["llm_calls"]) for row in report.calls(["day", "model"])]
        assert by_day == [("2026-09-21", "m-2026-01", 2), ("2026-09-21", "never-answered", 1), by_day[2]]
        assert by_day[2][1:] == ("m-2026-01", 1)


def test_of_several_models_that_answered_under_a_name_the_last_has_its_failures(stored, span):
    with stored(
        call(span, 1, "m", "m-new", start=60), call(span, 2, "m", "m-old"), call(span, 3, "m", start=5)
    ) as report:
        assert counted(report.calls()) == {"m-new": (2, 1), "m-old": (1, 1)}


def test_a_model_that_answers_under_its_own_name_keeps_its_failures(stored, span):
    with stored(call(span, 1, "m", "m", start=60), call(span, 2, "m", "m-old"), call(span, 3, "m")) as report:
        assert counted(report.calls()) == {"m": (2, 1), "m-old": (1, 1)}


def test_what_nobody_knows_adds_up_to_nothing_and_not_to_zero(stored, span):
    with stored(call(span, 1, "m")) as report:
        (row,) = report.calls()
        assert [row[name] for name in ("prompt_tokens", "cached_tokens", "completion_tokens", "cost_usd")] == [None] * 4


def server(span, chat, number, attributes, *, kind="SERVER", below=None):
    trace = f"{number:032x}"
    spans = [span(1, None, attributes, trace_id=trace, kind=kind), span(2, 1, below or {}, trace_id=trace)]
    return [*spans, span(3, 2, chat(), trace_id=trace)]


def test_requests_are_reported_by_the_route_of_their_framework_their_task_or_their_method(stored, span, chat):
    with stored(
        *server(span, chat, 1, {"http.route": "/ask/{id}"}),
        *server(span, chat, 2, {"http.route": "/ask/{id}"}, below={"request_log.route": "agent"}),
        *server(span, chat, 3, {"celery.task_name": "tasks.ask"}, kind="CONSUMER"),
        *server(span, chat, 4, {"rpc.method": "shop.Answers/Ask"}),
    ) as report:
        endpoints = {row["endpoint"]: row["requests"] for row in report.requests(["endpoint"])}
        assert endpoints == {"/ask/{id}": 2, "tasks.ask": 1, "shop.Answers/Ask": 1}
        routes = {row["route"]: row["requests"] for row in report.requests()}
        assert routes == {"/ask/{id}": 1, "agent": 1, "tasks.ask": 1, "shop.Answers/Ask": 1}


def test_a_method_that_is_called_elsewhere_is_no_endpoint(stored, span, chat):
    with stored(span(1, None, {"rpc.method": "x.Y/z"}, kind="CLIENT", local_root=True), span(2, 1, chat())) as report:
        assert [row["route"] for row in report.requests()] == [None]


def test_an_entry_that_comes_last_names_the_route_of_its_request(stored, span, url):
    inner = span(2, 1, {"request_log.degraded": "x"})
    with stored(inner), stored(span(1, None, {"http.route": "/late"}, kind="SERVER")) as report:
        assert [(row["route"], row["endpoint"]) for row in report.requests(["route", "endpoint"])] == [
            ("/late", "/late")
        ]
