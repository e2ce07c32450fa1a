"""What an app says with `request()` is on the request's span, and nothing that goes wrong there reaches the app."""

import asyncio
import contextvars
import gc
import json
import sys
import threading
from decimal import Decimal
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode

from otel_telemetry.instrument import active
from otel_telemetry.request import Request, request, set_enabled
from tests.instrument.conftest import ModelServer, Telemetry

MODULE = sys.modules["otel_telemetry.request"]


@pytest.fixture
def spans(telemetry: Telemetry, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(MODULE, "_tracer", lambda: telemetry.tracers.get_tracer("otel_telemetry"))
    yield telemetry
    assert trace.get_current_span() is trace.INVALID_SPAN
    assert active.root.get() is None
    assert active.stage.get() is None


def attributes_of(spans: Telemetry, name: str = "request") -> dict[str, Any]:
    return {
        key.removeprefix("request_log."): value
        for key, value in spans.attributes(name).items()
        if key.startswith("request_log.")
    }


def test_without_a_server_span_it_is_a_span_of_its_own(spans: Telemetry) -> None:
    with request(route="direct", session_id="s", user_id="u", conversation_id="c", id="i", topk=[1, 2]) as r:
        assert r.route == "direct"
    span = spans.span("request direct")
    assert span.kind is SpanKind.INTERNAL
    assert attributes_of(spans) == {"route": "direct", "session_id": "s", "user_id": "u", "id": "i", "topk": "[1, 2]"}
    assert span.attributes["gen_ai.conversation.id"] == "c"


def test_on_a_server_span_it_says_everything_there(spans: Telemetry) -> None:
    tracer = spans.tracers.get_tracer("server")
    with tracer.start_as_current_span("POST /chat", kind=SpanKind.SERVER), request(route="direct") as r:
        r.set(route="agent", models={"router": "small", "final": "large"}, nothing=None, mine={"a": [1]})
    assert attributes_of(spans, "POST /chat") == {
        "route": "agent",
        "models.router": "small",
        "models.final": "large",
        "mine": '{"a": [1]}',
    }
    assert r.route == "agent"
    spans.spans(1)


def test_on_a_websockets_span_each_request_is_a_span_of_its_own(spans: Telemetry) -> None:
    tracer = spans.tracers.get_tracer("server")
    with tracer.start_as_current_span("/chat", kind=SpanKind.SERVER, attributes={"url.scheme": "ws"}):
        for route in ("one", "two"):
            with request(route=route):
                pass
    assert [span.name for span in spans.spans(3)] == ["request one", "request two", "/chat"]


def test_a_request_within_a_request_says_more_about_the_same(spans: Telemetry) -> None:
    with request(route="outer"), request(scope="shop") as inner:
        inner.cache_hit()
    assert attributes_of(spans) == {"route": "outer", "scope": "shop", "cache_hit": True}


def test_stages_are_timed_and_added_up_and_named_on_model_calls(spans: Telemetry, server: ModelServer) -> None:
    server.answer({"model": "m"})
    with request() as r, httpx.Client() as client:
        for _ in range(2):
            with r.stage("web"):
                client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
        with r.stage("final"):
            pass
        client.post(f"{server.url}/v1/chat/completions", json={"model": "m"})
    stages = [span.attributes.get("request_log.stage") for span in spans.spans(3, "chat")]
    assert stages == ["web", "web", None]
    own = spans.span("request")
    calls = [span.end_time - span.start_time for span in spans.spans(3, "chat")]
    assert own.attributes["request_log.stage_ms.web"] * 1e6 >= calls[0] + calls[1]
    assert own.attributes["request_log.stage_ms.final"] >= 0
    assert all(span.parent.span_id == own.context.span_id for span in spans.spans(3, "chat"))


async def test_stages_and_requests_may_be_asynchronous_and_in_tasks(spans: Telemetry) -> None:
    async def one(number: int) -> None:
        async with request(route=f"r{number}") as r:
            async with r.stage("web"):
                await asyncio.sleep(0.01)
            assert active.stage.get() is None

    await asyncio.gather(*(one(number) for number in range(5)))
    assert {span.name for span in spans.spans(5)} == {f"request r{number}" for number in range(5)}
    for span in spans.spans(5):
        assert span.parent is None
        assert span.attributes["request_log.stage_ms.web"] >= 9


def test_threads_that_copy_the_context_say_things_about_the_same_request(spans: Telemetry) -> None:
    with request(route="direct") as r:

        def work() -> None:
            with r.stage("thread"), request(scope="inner"):
                pass

        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(work,))
        thread.start()
        thread.join()
    assert attributes_of(spans)["scope"] == "inner"
    assert "stage_ms.thread" in attributes_of(spans)


def test_a_declined_request_has_a_reason_and_the_route_none(spans: Telemetry) -> None:
    with request() as r:
        r.skip("media")
    assert attributes_of(spans) == {"degraded": "media", "route": "none"}


def test_a_declined_request_keeps_a_route_it_had(spans: Telemetry) -> None:
    with request(route="direct") as r:
        r.degrade("web_failed")
        r.skip("media")
    assert attributes_of(spans) == {"degraded": "media", "route": "direct"}


def test_an_exception_passes_through_unchanged_and_is_the_requests_error(spans: Telemetry) -> None:
    error = ValueError("no such room")
    with pytest.raises(ValueError, match="no such room") as caught, request():
        raise error
    assert caught.value is error
    assert attributes_of(spans) == {"error": "ValueError: no such room", "ok": False}
    span = spans.span()
    assert span.status.status_code is StatusCode.ERROR
    assert [event.name for event in span.events] == ["exception"]


async def test_a_cancelled_request_has_an_error_to_group_by(spans: Telemetry) -> None:
    with pytest.raises(asyncio.CancelledError), request():
        raise asyncio.CancelledError("Cancelled via cancel scope 7f11a2")
    assert attributes_of(spans) == {"error": "CancelledError", "ok": False}


def test_an_exception_on_a_server_span_leaves_its_status_to_the_server(spans: Telemetry) -> None:
    tracer = spans.tracers.get_tracer("server")
    with tracer.start_as_current_span("POST /", kind=SpanKind.SERVER), pytest.raises(KeyError), request():
        raise KeyError
    assert attributes_of(spans, "POST /") == {"error": "KeyError", "ok": False}
    assert spans.span("POST /").status.status_code is StatusCode.UNSET


def test_a_functions_calls_are_requests_when_it_is_decorated(spans: Telemetry) -> None:
    @request(route="direct")
    def ask(question: str) -> str:
        """Ask."""
        return question.upper()

    @request(route="agent")
    async def ask_later(question: str) -> str:
        return question.upper()

    assert (ask("a"), ask("b"), asyncio.run(ask_later("c"))) == ("A", "B", "C")
    assert ask.__doc__ == "Ask."
    assert [span.name for span in spans.spans(3)] == ["request direct", "request direct", "request agent"]


def test_a_generator_may_be_closed_in_another_context_than_it_was_opened_in(
    spans: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    def answer() -> Any:
        with request(route="stream") as r, r.stage("final"):
            yield 1
            yield 2

    pieces = answer()
    contextvars.copy_context().run(next, pieces)
    contextvars.copy_context().run(pieces.close)
    attributes = attributes_of(spans)
    assert attributes["route"] == "stream"
    assert "stage_ms.final" in attributes
    assert "error" not in attributes
    assert caplog.records == []


async def test_an_asynchronous_generator_that_is_dropped_ends_its_request(
    spans: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer() -> Any:
        async with request(route="stream"):
            yield 1
            yield 2

    async def take_one() -> None:
        async for _ in answer():
            break

    await asyncio.create_task(take_one())
    gc.collect()
    await asyncio.sleep(0.01)
    assert attributes_of(spans) == {"route": "stream"}
    assert [record for record in caplog.records if "Context" in record.message] == []


class Unsayable:
    def __str__(self) -> str:
        raise ZeroDivisionError


def hostile() -> Any:
    return Unsayable()


def test_arguments_that_cannot_be_used_are_counted_and_told_once(
    spans: Telemetry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("otel_telemetry.instrument.shield._logged", set())
    with request(route="direct", scope=hostile()) as r:
        r.set(topk={"a": hostile()})
        r.fail(hostile())
        r.degrade(hostile())
        with r.stage(hostile()):
            pass
        r.set(scope="fine", cost_usd=Decimal("0.10"), deep=(1, None))
    attributes = attributes_of(spans)
    assert attributes["route"] == "direct"
    assert attributes["scope"] == "fine"
    assert attributes["cost_usd"] == "0.10"
    assert json.loads(attributes["deep"]) == [1, None]
    assert len([record for record in caplog.records if "otel_telemetry" in record.message]) == 1
    assert spans.faults() == 3


def test_an_exception_that_cannot_be_printed_still_is_the_apps_own(spans: Telemetry) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(Unprintable), request(route="direct"):
        raise Unprintable
    assert attributes_of(spans) == {"route": "direct", "error": "Unprintable", "ok": False}


def test_what_is_said_after_the_end_is_lost_without_a_word(spans: Telemetry, caplog: pytest.LogCaptureFixture) -> None:
    with request(route="direct") as r:
        pass
    r.set(scope="late")
    r.degrade("late")
    assert attributes_of(spans) == {"route": "direct"}
    assert caplog.records == []


def test_switched_off_it_does_nothing(spans: Telemetry) -> None:
    set_enabled(False)
    try:
        with request(route="direct") as r:
            assert isinstance(r, Request)
            with r.stage("web"):
                r.set(scope="x")
            r.degrade("web_failed")
        with pytest.raises(KeyError), request():
            raise KeyError

        @request(route="later")
        def decorated() -> int:
            return 1

        assert decorated() == 1
        spans.spans(0)
    finally:
        set_enabled(True)
    assert decorated() == 1
    spans.span("request later")


def test_without_a_tracer_provider_it_costs_nothing_but_works() -> None:
    with request(route="direct") as r, r.stage("web"):
        r.set(scope="x")
    assert r.route == "direct"
