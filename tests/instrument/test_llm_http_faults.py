"""Whatever goes wrong on the wire: the app sees what it would see without us, and each call ends exactly once."""

import asyncio
import contextlib
import gc
import gzip
import json
import socket
import struct
import threading
import time
import tracemalloc
from typing import Any

import httpx
import httpx2
import pytest
import wrapt
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode

from otel_telemetry.instrument.llm_http import LlmHttpInstrumentor
from tests.instrument.conftest import ModelServer, RawServer, Telemetry

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BODY = {"model": "gpt-4o", "stream": True}
MODULES = pytest.mark.parametrize("module", [httpx, httpx2])


def event(content: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    chunk = json.dumps({"id": "c", "model": "gpt-4o-1", "choices": [choice]}, separators=(",", ":"))
    return f"data: {chunk}\n\n".encode()


def chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def breaks_off(connection: socket.socket) -> None:
    connection.sendall(HEAD + chunked(event("Hel")) + chunked(event("lo")))


def is_reset(connection: socket.socket) -> None:
    connection.sendall(HEAD + chunked(event("Hel")))
    time.sleep(0.05)
    reset(connection)


def stalls(connection: socket.socket) -> None:
    connection.sendall(HEAD + chunked(event("Hel")))
    with contextlib.suppress(OSError):
        connection.settimeout(5)
        connection.recv(1)


def expect_partial(span: Any) -> None:
    assert span.attributes["gen_ai.response.model"] == "gpt-4o-1"
    assert "gen_ai.response.time_to_first_chunk" in span.attributes
    assert "gen_ai.response.finish_reasons" not in span.attributes
    assert "gen_ai.usage.output_tokens" not in span.attributes


@MODULES
def test_a_stream_that_breaks_off_raises_as_ever_and_its_span_has_what_was_seen(
    telemetry: Telemetry, raw_server: RawServer, module: Any
) -> None:
    url = raw_server(breaks_off)
    with module.Client() as client, pytest.raises(module.RemoteProtocolError):
        client.post(f"{url}/v1/chat/completions", json=BODY)
    span = telemetry.span()
    expect_partial(span)
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "RemoteProtocolError"


@MODULES
async def test_a_connection_reset_ends_an_asynchronous_call_with_its_error(
    telemetry: Telemetry, raw_server: RawServer, module: Any
) -> None:
    url = raw_server(is_reset)
    async with module.AsyncClient() as client:
        with pytest.raises(module.ReadError):
            await client.post(f"{url}/v1/chat/completions", json=BODY)
    span = telemetry.span()
    expect_partial(span)
    assert span.attributes["error.type"] == "ReadError"


@MODULES
def test_a_connection_refused_is_a_call_that_failed(telemetry: Telemetry, module: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with module.Client() as client, pytest.raises(module.ConnectError):
        client.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=BODY)
    span = telemetry.span()
    assert span.attributes["error.type"] == "ConnectError"
    assert span.status.description == "ConnectError"
    assert "http.response.status_code" not in span.attributes


@MODULES
def test_a_read_timeout_ends_the_call(telemetry: Telemetry, raw_server: RawServer, module: Any) -> None:
    url = raw_server(stalls)
    with module.Client(timeout=module.Timeout(30, read=1)) as client, pytest.raises(module.ReadTimeout):
        client.post(f"{url}/v1/chat/completions", json=BODY)
    expect_partial(telemetry.span())
    assert telemetry.attributes()["error.type"] == "ReadTimeout"


@MODULES
def test_an_early_close_ends_the_call_once_and_is_no_error(
    telemetry: Telemetry, raw_server: RawServer, module: Any
) -> None:
    url = raw_server(stalls)
    with module.Client() as client, client.stream("POST", f"{url}/v1/chat/completions", json=BODY) as answer:
        for line in answer.iter_lines():
            assert line.startswith("data:")
            break
    span = telemetry.span()
    expect_partial(span)
    assert span.status.status_code is StatusCode.UNSET


@MODULES
async def test_an_asynchronous_early_close_ends_the_call_once(
    telemetry: Telemetry, raw_server: RawServer, module: Any
) -> None:
    url = raw_server(stalls)
    async with (
        module.AsyncClient() as client,
        client.stream("POST", f"{url}/v1/chat/completions", json=BODY) as answer,
    ):
        async for line in answer.aiter_lines():
            assert line.startswith("data:")
            break
    span = telemetry.span()
    expect_partial(span)
    assert span.status.status_code is StatusCode.UNSET


@MODULES
def test_an_abandoned_stream_ends_when_it_is_collected_as_of_that_moment(
    telemetry: Telemetry, raw_server: RawServer, module: Any
) -> None:
    url = raw_server(stalls)
    client = module.Client()
    answer = client.send(client.build_request("POST", f"{url}/v1/chat/completions", json=BODY), stream=True)
    next(chunks := answer.iter_bytes())
    del answer, chunks
    client.close()
    del client
    gc.collect()
    expect_partial(telemetry.span())


def test_a_stream_never_read_ends_when_it_is_collected(telemetry: Telemetry, server: ModelServer) -> None:
    server.raw(event("a"), content_type="text/event-stream")
    with httpx.Client() as client:
        answer = client.send(client.build_request("POST", f"{server.url}/v1/chat/completions", json=BODY), stream=True)
        del answer
        gc.collect()
        span = telemetry.span()
    assert span.attributes["http.response.status_code"] == 200
    assert "gen_ai.response.model" not in span.attributes


@MODULES
async def test_a_cancelled_task_ends_its_call_and_stays_cancelled(
    telemetry: Telemetry, raw_server: RawServer, module: Any
) -> None:
    url = raw_server(stalls)
    begun = asyncio.Event()

    async def ask() -> None:
        async with (
            module.AsyncClient() as client,
            client.stream("POST", f"{url}/v1/chat/completions", json=BODY) as answer,
        ):
            async for _ in answer.aiter_lines():
                begun.set()

    task = asyncio.create_task(ask())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    span = telemetry.span()
    expect_partial(span)
    assert span.attributes["error.type"] == "CancelledError"


async def test_a_task_cancelled_before_the_headers_came_ends_its_call(
    telemetry: Telemetry, raw_server: RawServer
) -> None:
    asked, cancelled = threading.Event(), threading.Event()

    def answers_nothing(connection: socket.socket) -> None:
        asked.set()
        cancelled.wait(60)

    url = raw_server(answers_nothing)

    async def ask() -> None:
        async with httpx2.AsyncClient() as client:
            await client.post(f"{url}/v1/chat/completions", json=BODY)

    task = asyncio.create_task(ask())
    await asyncio.to_thread(asked.wait, 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    cancelled.set()
    assert telemetry.attributes()["error.type"] == "CancelledError"


GARBAGE = {
    "html error page": (b"<!doctype html><h1>It works</h1>", "text/html"),
    "json said to be html": (b'{"model": "m", "usage": {"prompt_tokens": 3}}', "text/html"),
    "truncated json": (
        b'{"id": "c", "model": "m", "usage": {"prompt_tokens": 3}, "choices": [{"mess',
        "application/json",
    ),
    "truncated event": (event("a") + b'data: {"id":"c","choices":[{"delta":{"content":"', "text/event-stream"),
    "invalid utf-8": (b'data: {"model":"m\xff\xfe","choices":[{"delta":{"content":"\xc3"}}]}\n\n', "text/event-stream"),
    "nulls": (
        b'data: null\n\ndata: []\n\ndata: {"choices":null}\n\ndata: {"choices":[null,3]}\n\n',
        "text/event-stream",
    ),
    "wrong types": (b'{"id":{},"model":[],"choices":"x","usage":[1],"error":false}', "application/json"),
    "deep nesting": (b"[" * 100_000, "application/json"),
    "huge number": (b'{"usage":{"prompt_tokens":' + b"9" * 5000 + b"}}", "application/json"),
    "giant line": (b"data: " + b"x" * 3_000_000 + b"\n\n" + event("a", "stop"), "text/event-stream"),
    "no newline ever": (b"data: " + b"{" * 2_000_000, "text/event-stream"),
    "empty": (b"", "application/json"),
    "blank": (b" \n \n", "application/json"),
    "scalar": (b"42", "application/json"),
    "nul bytes": (b"\x00" * 10_000, "application/octet-stream"),
    "bom": (b'\xef\xbb\xbfdata: {"model":"m"}\n\n', "text/event-stream"),
    "lone surrogate": (b'{"model":"\\ud800","id":"c"}', "application/json"),
}


#: Those in which an answer begins that does not end.
CUT = {"truncated json", "truncated event", "invalid utf-8", "bom"}


@MODULES
@pytest.mark.parametrize("case", GARBAGE)
def test_the_app_gets_the_very_bytes_whatever_they_are(
    telemetry: Telemetry, server: ModelServer, module: Any, case: str
) -> None:
    body, kind = GARBAGE[case]
    pieces = [body[at : at + 65_000] for at in range(0, len(body), 65_000)] or [b""]
    server.raw(*pieces, content_type=kind)
    with module.Client() as client:
        answer = client.post(f"{server.url}/v1/chat/completions", json=BODY)
    assert answer.content == body
    assert answer.headers["content-type"].startswith(kind)
    assert telemetry.span().attributes.get("error.type") == ("incomplete_response" if case in CUT else None)
    assert telemetry.faults() == 0


@MODULES
@pytest.mark.parametrize("last", [event("", "stop"), b"data: [DONE]\n\n"])
def test_a_stream_is_whole_with_a_finish_reason_or_a_mark_at_its_end(
    telemetry: Telemetry, server: ModelServer, module: Any, last: bytes
) -> None:
    server.raw(event("Hel"), event("lo"), content_type="text/event-stream")
    with module.Client() as client:
        client.post(f"{server.url}/v1/chat/completions", json=BODY)
        server.raw(event("Hel"), event("lo"), last, content_type="text/event-stream")
        client.post(f"{server.url}/v1/chat/completions", json=BODY)
    cut, whole = telemetry.spans(2)
    assert (cut.attributes["error.type"], cut.status.status_code) == ("incomplete_response", StatusCode.ERROR)
    assert ("error.type" in whole.attributes, whole.status.status_code) == (False, StatusCode.UNSET)


@MODULES
async def test_an_asynchronous_stream_that_ends_early_is_incomplete_too(
    telemetry: Telemetry, server: ModelServer, module: Any
) -> None:
    server.raw(event("Hel"), content_type="text/event-stream")
    async with module.AsyncClient() as client:
        await client.post(f"{server.url}/v1/chat/completions", json=BODY)
    assert telemetry.attributes()["error.type"] == "incomplete_response"


def test_what_is_left_of_bad_answers_is_known(telemetry: Telemetry, server: ModelServer) -> None:
    known = {
        "json said to be html": ("gen_ai.usage.input_tokens", 3),
        "truncated json": ("gen_ai.response.model", "m"),
        "truncated event": ("gen_ai.response.model", "gpt-4o-1"),
        "invalid utf-8": ("gen_ai.response.model", "m\ufffd\ufffd"),
        "giant line": ("gen_ai.response.finish_reasons", ("stop",)),
        "lone surrogate": ("gen_ai.response.model", "?"),
        "bom": ("gen_ai.response.model", "m"),
    }
    with httpx.Client() as client:
        for case, (attribute, value) in known.items():
            server.raw(GARBAGE[case][0], content_type=GARBAGE[case][1])
            client.post(f"{server.url}/v1/chat/completions", json=BODY)
            assert telemetry.attributes()[attribute] == value, case
            telemetry.exporter.clear()


@MODULES
def test_broken_compression_raises_as_ever(telemetry: Telemetry, server: ModelServer, module: Any) -> None:
    server.raw(b"\x1f\x8b\x08 this is no gzip", content_encoding="gzip")
    with module.Client() as client, pytest.raises(module.DecodingError):
        client.post(f"{server.url}/v1/chat/completions", json=BODY)
    telemetry.span()


@pytest.mark.parametrize("prefix", [b"data: ", b'{"a":"', b""])
def test_a_compression_bomb_costs_us_no_memory(telemetry: Telemetry, server: ModelServer, prefix: bytes) -> None:
    packed = gzip.compress(prefix + b"a" * (200 << 20), 1)
    server.raw(*(packed[at : at + 50_000] for at in range(0, len(packed), 50_000)), content_encoding="gzip")
    with httpx.Client() as client:
        request = client.build_request("POST", f"{server.url}/v1/chat/completions", json=BODY)
        tracemalloc.start()
        answer = client.send(request, stream=True)
        for _ in answer.iter_raw():
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8 << 20
    telemetry.span()


def test_an_endless_stream_costs_bounded_memory(telemetry: Telemetry, server: ModelServer) -> None:
    server.raw(*([event("x" * 1000) * 20] * 1000), event("", "stop"), content_type="text/event-stream")
    with httpx.Client() as client:
        request = client.build_request("POST", f"{server.url}/v1/chat/completions", json=BODY)
        answer = client.send(request, stream=True)
        tracemalloc.start()
        total = sum(len(part) for part in answer.iter_raw())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert total > 20 << 20
    assert peak < 8 << 20
    assert telemetry.attributes()["gen_ai.response.finish_reasons"] == ("stop",)


def test_a_fault_of_ours_leaves_the_answer_alone(
    telemetry: Telemetry, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.raw(event("a"), event("b", "stop"), content_type="text/event-stream")
    from otel_telemetry.instrument.llm_http.dialects.openai import Chat

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Chat, "event", broken)
    with httpx.Client() as client:
        assert client.post(f"{server.url}/v1/chat/completions", json=BODY).content == event("a") + event("b", "stop")
        monkeypatch.setattr(Chat, "request", broken)
        assert client.post(f"{server.url}/v1/chat/completions", json=BODY).status_code == 200
    assert telemetry.span().attributes["http.response.status_code"] == 200
    assert telemetry.faults() == 2


def test_a_span_processor_that_raises_does_not_reach_the_app(telemetry: Telemetry, server: ModelServer) -> None:
    class Broken(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            raise ZeroDivisionError

    telemetry.tracers.add_span_processor(Broken())
    server.raw(event("a", "stop"), content_type="text/event-stream")
    with httpx.Client() as client:
        assert client.post(f"{server.url}/v1/chat/completions", json=BODY).status_code == 200
    telemetry.span()


def test_calls_from_many_threads_end_once_each_while_others_are_collected(
    telemetry: Telemetry, server: ModelServer
) -> None:
    server.raw(event("a"), event("b", "stop"), content_type="text/event-stream")

    def work() -> None:
        with httpx.Client() as client:
            for number in range(10):
                request = client.build_request("POST", f"{server.url}/v1/chat/completions", json=BODY)
                answer = client.send(request, stream=True)
                if number % 2:
                    answer.read()
                del answer

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    spans = telemetry.spans(40)
    assert len({span.context.span_id for span in spans}) == 40


def test_uninstrumenting_restores_the_clients_and_ends_what_still_streams(
    telemetry: Telemetry, server: ModelServer
) -> None:
    server.raw(event("a"), event("b", "stop"), content_type="text/event-stream")
    with httpx.Client() as client:
        request = client.build_request("POST", f"{server.url}/v1/chat/completions", json=BODY)
        answer = client.send(request, stream=True)
        LlmHttpInstrumentor().uninstrument()
        answer.read()
        telemetry.span()
        client.post(f"{server.url}/v1/chat/completions", json=BODY)
        telemetry.span()
    for module in (httpx, httpx2):
        assert type(module.Client.__dict__["send"]).__name__ == "function"
        assert type(module.AsyncClient.__dict__["send"]).__name__ == "function"


def test_a_wrapper_that_came_after_ours_survives_our_leaving(telemetry: Telemetry, server: ModelServer) -> None:
    seen = []

    def theirs(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        seen.append(args)
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(httpx, "Client.send", theirs)
    try:
        LlmHttpInstrumentor().uninstrument()
        server.raw(event("a", "stop"), content_type="text/event-stream")
        with httpx.Client() as client:
            client.post(f"{server.url}/v1/chat/completions", json=BODY)
        assert len(seen) == 1
        telemetry.spans(0)
    finally:
        while wrapper := getattr(httpx.Client.__dict__["send"], "__wrapped__", None):
            setattr(httpx.Client, "send", wrapper)  # noqa: B010 - for a type checker it is a method
