"""A FastAPI app under OpenTelemetry's own instrumentation with our hooks, served by uvicorn."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException, WebSocket
from fastapi.responses import StreamingResponse
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.trace import SpanKind
from starlette.testclient import TestClient

from otel_telemetry.instrument import active
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.fastapi import fastapi_hooks, time_first_byte
from otel_telemetry.request import request
from tests.instrument.conftest import ModelServer, Serve, Telemetry


@pytest.fixture
def app_url(telemetry: Telemetry, server: ModelServer, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An app with our hooks; it trusts loopback as a proxy."""
    monkeypatch.setattr(sys.modules["otel_telemetry.request"], "_tracer", lambda: telemetry.tracers.get_tracer("ours"))
    server.answer({"model": "m-1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}})
    app = made(server.url)
    hooks = fastapi_hooks(InstrumentSettings(trusted_proxies=("127.0.0.0/8",)))
    undo = time_first_byte()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=telemetry.tracers, meter_provider=telemetry.meters, **hooks)
    yield serve(app)
    FastAPIInstrumentor.uninstrument_app(app)
    undo()


def made(model_url: str) -> FastAPI:  # noqa: C901 - one endpoint for each thing that can happen
    app = FastAPI()

    async def ask() -> None:
        async with httpx.AsyncClient() as client:
            await client.post(f"{model_url}/v1/chat/completions", json={"model": "m"})

    @app.get("/plain")
    async def plain() -> str:
        return "hello"

    @app.get("/direct")
    async def direct() -> str:
        with request(route="direct"):
            return "hello"

    @app.get("/thread")
    def thread() -> str:
        with request(route="thread") as r, r.stage("work"):
            return "hello"

    @app.get("/model")
    async def model() -> str:
        await ask()
        return "hello"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def pieces() -> AsyncIterator[str]:
            with request(route="stream") as r:
                yield ""
                await asyncio.sleep(0.05)
                with r.stage("final"):
                    await ask()
                    for number in range(20):
                        yield f"{number}"
                        await asyncio.sleep(0.005)

        return StreamingResponse(pieces())

    @app.get("/threaded-stream")
    def threaded_stream() -> StreamingResponse:
        def pieces() -> Any:
            with request(route="threaded") as r, r.stage("final"):
                yield "a"
                yield "b"

        return StreamingResponse(pieces())

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        async def later() -> None:
            with request(route="later"):
                await ask()

        tasks.add_task(later)
        return "hello"

    @app.get("/error")
    async def error() -> str:
        with request(route="error"):
            raise HTTPException(418, "teapot")

    @app.websocket("/socket")
    async def socket(connection: WebSocket) -> None:
        await connection.accept()
        for route in ("one", "two"):
            with request(route=route):
                await connection.send_text("hello")
        await connection.close()

    return app


def get(url: str, path: str, **headers: str) -> httpx.Response:
    with httpx.Client() as client:
        return client.get(f"{url}{path}", headers={key.replace("_", "-"): value for key, value in headers.items()})


def test_the_client_is_the_sockets_peer_unless_a_trusted_proxy_says_otherwise(
    telemetry: Telemetry, app_url: str
) -> None:
    get(app_url, "/plain")
    assert telemetry.attributes("GET /plain")["client.address"] == "127.0.0.1"
    telemetry.exporter.clear()
    get(app_url, "/plain", forwarded="for=6.6.6.6, for=198.51.100.7")
    assert telemetry.attributes("GET /plain")["client.address"] == "198.51.100.7"


def test_nobody_is_believed_without_trusted_proxies(telemetry: Telemetry, serve: Serve, server: ModelServer) -> None:
    app = made(server.url)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=telemetry.tracers, **fastapi_hooks())
    try:
        get(serve(app), "/plain", forwarded="for=198.51.100.7")
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
    assert telemetry.attributes("GET /plain")["client.address"] == "127.0.0.1"


def test_a_request_annotates_the_server_span_and_makes_no_span_of_its_own(telemetry: Telemetry, app_url: str) -> None:
    assert get(app_url, "/direct").json() == "hello"
    span = telemetry.span()
    assert span.kind is SpanKind.SERVER
    assert span.attributes["request_log.route"] == "direct"
    assert span.attributes["request_log.ttfb_ms"] > 0


def test_a_plain_request_carries_nothing_of_ours_but_the_address(telemetry: Telemetry, app_url: str) -> None:
    get(app_url, "/plain")
    assert [key for key in telemetry.attributes("GET /plain") if key.startswith("request_log.")] == []


def test_an_endpoint_in_a_thread_annotates_the_server_span(telemetry: Telemetry, app_url: str) -> None:
    get(app_url, "/thread")
    attributes = telemetry.attributes("GET /thread")
    assert attributes["request_log.route"] == "thread"
    assert "request_log.stage_ms.work" in attributes


def test_a_model_call_alone_makes_the_server_span_a_request_with_its_first_byte(
    telemetry: Telemetry, app_url: str
) -> None:
    get(app_url, "/model")
    chat, served = telemetry.spans(2)
    assert chat.parent.span_id == served.context.span_id
    assert served.attributes["request_log.ttfb_ms"] >= (chat.end_time - chat.start_time) / 1e6


def test_a_streamed_answer_is_one_span_that_knows_when_its_first_piece_left(telemetry: Telemetry, app_url: str) -> None:
    assert get(app_url, "/stream").text == "".join(map(str, range(20)))
    chat, served = telemetry.spans(2)
    assert chat.attributes["request_log.stage"] == "final"
    assert served.attributes["request_log.route"] == "stream"
    assert served.attributes["request_log.stage_ms.final"] >= 95
    lasted = (served.end_time - served.start_time) / 1e6
    assert 50 <= served.attributes["request_log.ttfb_ms"] <= lasted - 90


def test_each_message_of_a_websocket_may_be_a_request(telemetry: Telemetry, app_url: str, server: ModelServer) -> None:
    app = made(server.url)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=telemetry.tracers, **fastapi_hooks())
    try:
        with TestClient(app) as client, client.websocket_connect("/socket") as socket:
            assert [socket.receive_text(), socket.receive_text()] == ["hello", "hello"]
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
    one, two, connection = telemetry.spans(3)
    assert (one.name, two.name, connection.name) == ("request one", "request two", "HTTP /socket")
    assert connection.attributes["client.address"] == "testclient"


def test_a_stream_made_in_threads_says_what_it_can(telemetry: Telemetry, app_url: str) -> None:
    assert get(app_url, "/threaded-stream").text == "ab"
    attributes = telemetry.attributes("GET /threaded-stream")
    assert attributes["request_log.route"] == "threaded"
    assert "request_log.stage_ms.final" in attributes


def test_what_runs_after_the_answer_is_a_request_of_its_own(telemetry: Telemetry, app_url: str) -> None:
    get(app_url, "/background")
    assert telemetry.span("request later").attributes["request_log.route"] == "later"
    assert "request_log.route" not in telemetry.span("GET /background").attributes


def test_an_exception_is_the_requests_error_and_the_apps_answer(telemetry: Telemetry, app_url: str) -> None:
    assert get(app_url, "/error").status_code == 418
    attributes = telemetry.attributes("GET /error")
    assert attributes["request_log.ok"] is False
    assert attributes["request_log.error"] == "HTTPException: 418: teapot"


async def test_an_app_called_in_process_belongs_to_the_outer_request(
    telemetry: Telemetry, app_url: str, server: ModelServer
) -> None:
    inner = made(server.url)
    FastAPIInstrumentor.instrument_app(inner, tracer_provider=telemetry.tracers, **fastapi_hooks())
    tracer = telemetry.tracers.get_tracer("outer")
    with tracer.start_as_current_span("GET /outer", kind=SpanKind.SERVER) as outer:
        active.root.set(active.Root(outer))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(inner), base_url="http://inner") as client:
            assert (await client.get("/direct")).json() == "hello"
    FastAPIInstrumentor.uninstrument_app(inner)
    assert telemetry.span("GET /outer").attributes["request_log.route"] == "direct"
    assert "request_log.route" not in telemetry.span("GET /direct").attributes


def test_the_wrapper_for_the_first_byte_comes_once_and_goes_again(
    telemetry: Telemetry, serve: Serve, server: ModelServer
) -> None:
    undo = time_first_byte()
    assert time_first_byte() is undo
    undo()
    undo()
    app = made(server.url)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=telemetry.tracers, **fastapi_hooks())
    try:
        get(serve(app), "/direct")
    finally:
        FastAPIInstrumentor.uninstrument_app(app)
    assert "request_log.ttfb_ms" not in telemetry.attributes("GET /direct")


def test_answers_are_byte_for_byte_the_same_with_and_without(
    telemetry: Telemetry, app_url: str, serve: Serve, server: ModelServer
) -> None:
    bare = serve(made(server.url))
    for path in ("/plain", "/direct", "/model", "/stream", "/error", "/missing", "/background", "/threaded-stream"):
        ours, theirs = get(app_url, path), get(bare, path)
        assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content), path
        assert set(ours.headers) == set(theirs.headers), path
