"""Model calls over requests, urllib3, aiohttp and google-genai's asyncio client are seen, and never in the way."""

import asyncio
import gc
import gzip
import json
import logging
import socket
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
import requests
import urllib3
from google import genai
from google.genai import types
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_telemetry.instrument.llm_http import LlmHttpInstrumentor, unseen
from tests.instrument.conftest import ModelServer, RawServer, Telemetry

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}
ANSWER = {
    "id": "c-1",
    "model": "m-1",
    "choices": [{"message": {"content": "hello"}, "finish_reason": "stop"}],
    "usage": USAGE,
}
EVENTS = (
    {"id": "c-2", "model": "m-1", "choices": [{"delta": {"content": "hel"}}]},
    {"choices": [{"delta": {"content": "lo"}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
)
ASKED = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAMED = {**ASKED, "stream": True}
CHAT = "/v1/chat/completions"


async def _over_aiohttp(url: str, body: dict[str, Any]) -> bytes:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        return await response.read()


async def _chunks_of_aiohttp(url: str, body: dict[str, Any]) -> bytes:
    async with aiohttp.ClientSession() as session, session.post(url, data=json.dumps(body)) as response:
        return b"".join([chunk async for chunk in response.content.iter_any()])


async def _lines_of_aiohttp(url: str, body: dict[str, Any]) -> bytes:
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        return b"".join([line async for line in response.content])


def _lines_of_requests(url: str, body: dict[str, Any]) -> bytes:
    with requests.post(url, json=body, stream=True, timeout=10) as response:
        return b"".join(response.iter_content(None))


def _stream_of_urllib3(url: str, body: dict[str, Any]) -> bytes:
    response = urllib3.request("POST", url, json=body, preload_content=False)
    return b"".join(response.stream(64))


Client = Callable[[str, dict[str, Any]], bytes]
WHOLE: dict[str, Client] = {
    "requests": lambda url, body: requests.post(url, json=body, timeout=10).content,
    "urllib3": lambda url, body: urllib3.request("POST", url, json=body).data,
    "aiohttp": lambda url, body: asyncio.run(_over_aiohttp(url, body)),
}
PIECES: dict[str, Client] = {
    "requests": _lines_of_requests,
    "urllib3": _stream_of_urllib3,
    "aiohttp, chunks": lambda url, body: asyncio.run(_chunks_of_aiohttp(url, body)),
    "aiohttp, lines": lambda url, body: asyncio.run(_lines_of_aiohttp(url, body)),
}


@pytest.mark.parametrize("name", WHOLE)
def test_an_answer_in_one_piece_is_seen_and_comes_as_it_was(
    telemetry: Telemetry, server: ModelServer, name: str
) -> None:
    server.answer(ANSWER)
    assert json.loads(WHOLE[name](server.url + CHAT, ASKED)) == ANSWER
    seen = telemetry.attributes("chat m")
    assert seen["gen_ai.response.id"] == "c-1"
    assert (seen["gen_ai.usage.input_tokens"], seen["gen_ai.usage.output_tokens"]) == (3, 2)
    assert (seen["http.response.status_code"], seen["server.address"]) == (200, "127.0.0.1")
    assert "error.type" not in seen
    assert telemetry.faults() == 0


@pytest.mark.parametrize("name", PIECES)
def test_a_stream_is_seen_as_it_passes(telemetry: Telemetry, server: ModelServer, name: str) -> None:
    server.stream(*EVENTS, pause=0.01)
    assert PIECES[name](server.url + CHAT, STREAMED).endswith(b"data: [DONE]\n\n")
    seen = telemetry.attributes()
    assert seen["gen_ai.usage.output_tokens"] == 2
    assert seen["gen_ai.response.finish_reasons"] == ("stop",)
    assert seen["gen_ai.response.time_to_first_chunk"] > 0
    assert "error.type" not in seen
    assert telemetry.faults() == 0


@pytest.mark.parametrize("name", WHOLE)
def test_a_refusal_has_its_code_and_status(telemetry: Telemetry, server: ModelServer, name: str) -> None:
    server.answer({"error": {"code": "rate_limit_exceeded", "message": "no"}}, 429, retry_after="1")
    WHOLE[name](server.url + CHAT, ASKED)
    seen = telemetry.attributes()
    assert (seen["error.type"], seen["http.response.status_code"]) == ("rate_limit_exceeded", 429)


@pytest.mark.parametrize("name", WHOLE)
def test_a_server_that_is_not_there_fails_the_call_and_the_app_as_ever(telemetry: Telemetry, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as measurement:
        port = measurement.getsockname()[1]
    with pytest.raises((OSError, urllib3.exceptions.HTTPError, aiohttp.ClientError)):
        WHOLE[name](f"http://127.0.0.1:{port}{CHAT}", ASKED)
    assert telemetry.attributes()["error.type"] in ("MaxRetryError", "ClientConnectorError", "NewConnectionError")


@pytest.mark.parametrize("name", PIECES)
def test_an_answer_that_breaks_off_raises_and_is_noted(telemetry: Telemetry, raw_server: RawServer, name: str) -> None:
    def cut(connection: socket.socket) -> None:
        first = b'data: {"id":"x","choices":[{"delta":{"content":"a"}}]}\n\n'
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        connection.sendall(head + b"%x\r\n%s\r\n" % (len(first), first))

    with pytest.raises((OSError, urllib3.exceptions.HTTPError, aiohttp.ClientError)):
        PIECES[name](raw_server(cut) + CHAT, STREAMED)
    assert "error.type" in telemetry.attributes()


def test_a_stream_that_is_closed_early_or_dropped_ends_its_call_once(telemetry: Telemetry, server: ModelServer) -> None:
    server.stream(*EVENTS, pause=0.02)
    response = requests.post(server.url + CHAT, json=STREAMED, stream=True, timeout=10)
    next(response.iter_lines())
    response.close()
    telemetry.spans(1)
    response = requests.post(server.url + CHAT, json=STREAMED, stream=True, timeout=10)
    next(response.iter_lines())
    del response
    gc.collect()
    for span in telemetry.spans(2):
        assert span.attributes["gen_ai.response.id"] == "c-2"
        assert "error.type" not in span.attributes

    async def leave() -> None:
        async with aiohttp.ClientSession() as session, session.post(server.url + CHAT, json=STREAMED) as response:
            await response.content.readline()

    asyncio.run(leave())
    assert telemetry.spans(3)[2].attributes["gen_ai.response.id"] == "c-2"
    assert telemetry.faults() == 0


def test_raise_for_status_of_a_session_is_a_refusal(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer({"error": {"code": "x"}}, 503)

    async def ask() -> None:
        async with aiohttp.ClientSession(raise_for_status=True) as session:
            await session.post(server.url + CHAT, json=ASKED)

    with pytest.raises(aiohttp.ClientResponseError):
        asyncio.run(ask())
    seen = telemetry.attributes()
    assert (seen["error.type"], seen["http.response.status_code"]) == ("503", 503)


def test_encoded_answers_are_understood(telemetry: Telemetry, server: ModelServer) -> None:
    for ask in WHOLE.values():
        server.raw(gzip.compress(json.dumps(ANSWER).encode()), content_encoding="gzip", content_type="application/json")
        assert json.loads(ask(server.url + CHAT, ASKED)) == ANSWER
    assert [span.attributes["gen_ai.usage.input_tokens"] for span in telemetry.spans(3)] == [3, 3, 3]


def test_connections_of_requests_go_back_to_their_pool(telemetry: Telemetry, server: ModelServer) -> None:
    server.answer(ANSWER)
    with requests.Session() as session:
        for _ in range(3):
            session.post(server.url + CHAT, json=ASKED, timeout=10).json()
        (pool,) = session.adapters["http://"].poolmanager.pools._container.values()  # type: ignore[attr-defined]
        assert pool.num_connections == 1
    telemetry.spans(3)


@pytest.mark.filterwarnings("ignore:Inheritance class")
def test_google_genai_over_aiohttp_is_seen_whole_and_streamed(telemetry: Telemetry, server: ModelServer) -> None:
    value = {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": 1, "totalTokenCount": 5},
        "modelVersion": "gemini-x-1",
        "responseId": "r-1",
    }
    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=server.url))

    async def ask() -> str:
        server.answer(value)
        whole = (await client.aio.models.generate_content(model="gemini-x", contents="hello")).text
        server.raw(*[f"data: {json.dumps(value)}\n\n".encode()] * 2, content_type="text/event-stream")
        stream = await client.aio.models.generate_content_stream(model="gemini-x", contents="hello")
        texts = f"{whole}{''.join([chunk.text or '' async for chunk in stream])}"
        await client.aio.aclose()
        return texts

    assert asyncio.run(ask()) == "hi" * 3
    for span in telemetry.spans(2, "generate_content gemini-x"):
        assert span.attributes["gen_ai.usage.input_tokens"] == 4
        assert span.attributes["gen_ai.response.model"] == "gemini-x-1"
    assert telemetry.faults() == 0


def test_after_uninstrument_nothing_is_seen_and_nothing_is_wrapped(
    uninstrumented: Telemetry, server: ModelServer
) -> None:
    before = urllib3.HTTPConnectionPool.__dict__["urlopen"], aiohttp.ClientSession.__dict__["_request"]
    uninstrumented.instrument()
    LlmHttpInstrumentor().uninstrument()
    assert (urllib3.HTTPConnectionPool.__dict__["urlopen"], aiohttp.ClientSession.__dict__["_request"]) == before
    server.answer(ANSWER)
    for ask in WHOLE.values():
        ask(server.url + CHAT, ASKED)
    uninstrumented.spans(0)


# --- what matched nothing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WHOLE)
def test_what_looks_like_a_model_call_and_is_none_that_we_know_is_told(
    telemetry: Telemetry,
    server: ModelServer,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(unseen, "_hosts", {})
    server.answer({"text": "hi"})
    tracer = telemetry.tracers.get_tracer("t")
    with caplog.at_level(logging.WARNING), tracer.start_as_current_span("GET /"):
        for body in (ASKED, ASKED, {"model": "T", "wheels": 4}, {"messages": ["x"]}):
            WHOLE[name](f"{server.url}/ask", body)
    assert json.loads(telemetry.attributes("GET /")["request_log.unseen_model_calls"]) == {"127.0.0.1": 2}
    assert [record.args for record in caplog.records if "looks like a model call" in record.message] == [("127.0.0.1",)]


@pytest.mark.parametrize("path", ["/v1/messages/count_tokens", "/v1/responses/input_tokens", "/tokenize"])
def test_to_count_tokens_is_no_model_call(
    telemetry: Telemetry, server: ModelServer, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(unseen, "_hosts", {})
    server.answer({"input_tokens": 14})
    requests.post(f"{server.url}{path}", json={**ASKED, "input": "hi"}, timeout=10)
    assert unseen._hosts == {}
    telemetry.spans(0)


def test_what_is_suppressed_is_not_told_as_unseen(
    telemetry: Telemetry, server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseen, "_hosts", {})
    server.answer({})
    with suppress_instrumentation():
        requests.post(f"{server.url}/ask", json=ASKED, timeout=10)
    assert unseen._hosts == {}
    telemetry.spans(0)
