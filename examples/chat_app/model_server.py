"""A small OpenAI-compatible model server: real HTTP, real streams and real delays, no model.

    uvicorn --factory examples.chat_app.model_server:create_app

It offers /v1/chat/completions (JSON and SSE, tools, usage with cached and reasoning tokens), /v1/embeddings,
/v1/models, and /search, which the app's tool looks things up in. Chat fails on request, by the header
`x-model-fault: KIND` or by `[[fault:KIND]]` or `[[fault:KIND@MODEL]]` in the last user message:

    500, 429    an error answer; 429 with Retry-After
    429-once    a 429 the first time that this prompt comes, then an answer
    stall       nothing (for a stream: nothing after its first chunks) until the client goes away
    drop        the connection breaks in the middle of the answer
    truncate    the answer ends early, without usage, as if all were well
    empty       an answer without text
    search      /search fails; the models are well

Every call is written to the file that MODEL_SERVER_JOURNAL names, as one JSON line of what really went over the wire.
"""

import asyncio
import json
import os
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from . import model_text
from .model_text import PrefixCache, Reply, Usage

#: The last one is in no price list.
MODELS: Final = ("gpt-4o-mini", "gpt-4o", "o4-mini", "house-model-7b")
EMBEDDING_MODELS: Final = ("text-embedding-3-small",)
FAULTS: Final = ("500", "429", "429-once", "stall", "drop", "truncate", "empty")

#: Seconds before the first token, between chunks, and per token of an answer in one piece.
FIRST_TOKEN: Final = 0.06
BETWEEN_CHUNKS: Final = 0.012
PER_TOKEN: Final = 0.001
#: No stall is longer, so that a client without a timeout does not keep the server alive for ever.
LONGEST_STALL: Final = 30.0

_MARKER = re.compile(r"\[\[fault:([\w-]+)(?:@([\w.-]+))?\]\]")
_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-")


@dataclass(slots=True)
class Call:
    """One call as the journal keeps it. Milliseconds are counted from the arrival of the request."""

    model: str
    stream: bool
    fault: str
    trace_id: str
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")
    outcome: str = "left"  # answered, refused, stalled, dropped, truncated, or left: the client went away
    status: int = 200
    first_chunk_ms: float | None = None
    total_ms: float | None = None
    usage: Usage | None = None  # only what was sent
    _began: float = field(default_factory=time.perf_counter)

    def elapsed_ms(self) -> float:
        """Return the milliseconds since the request came."""
        return (time.perf_counter() - self._began) * 1000

    def line(self) -> str:
        """Return the journal's line."""
        shown = {name: value for name, value in asdict(self).items() if not name.startswith("_")}
        return json.dumps(shown) + "\n"


class _Broken(Response):
    """A response whose connection breaks after `body`: it promises more than it sends, which makes uvicorn hang up."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body) + 100).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(self.body), "more_body": True})


class _BreakableStream(StreamingResponse):
    """An event stream whose connection is cut instead of ended, where the call asks for that."""

    def __init__(self, call: Call, body: AsyncIterator[bytes]) -> None:
        super().__init__(body, media_type="text/event-stream", headers={"x-request-id": call.id})
        self._call = call

    async def stream_response(self, send: Send) -> None:
        async def send_unless_broken(message: Any) -> None:
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if not (last and self._call.outcome == "dropped"):
                await send(message)

        await super().stream_response(send_unless_broken)


class ModelServer:
    """The server's state and its endpoints."""

    def __init__(self, journal: Path | None) -> None:
        self._journal = journal
        self._prefixes = PrefixCache()
        self._refused_once: set[str] = set()

    async def models(self, request: Request) -> Response:
        """List the models."""
        del request
        rows = [{"id": name, "object": "model", "created": 0, "owned_by": "examples"} for name in MODELS]
        return JSONResponse({"object": "list", "data": rows})

    async def search(self, request: Request) -> Response:
        """Answer a look-up of the app's tool."""
        query = request.query_params.get("q", "")
        await asyncio.sleep(FIRST_TOKEN / 2)
        if "[[fault:search]]" in query:
            return _error(503, "told to fail", "server_error")
        return JSONResponse({"results": [f"Three sources agree on what was asked in {len(query.split())} words."]})

    async def chat(self, request: Request) -> Response:
        """Answer a chat completion."""
        try:
            body = await request.json()
            messages, model = body["messages"], body["model"]
            model_text.question_of(messages)
            messages[-1].get("role")
        except (ValueError, LookupError, TypeError, AttributeError):
            return _error(400, "the body is no chat completion request", "invalid_request_error")
        if model not in MODELS:
            return _error(404, f"The model `{model}` does not exist", "model_not_found")
        call = Call(model, bool(body.get("stream")), self._fault(request, body), _trace_id(request.headers))
        refusal = await self._refuse(request, call)
        if refusal is not None:
            self._write(call)
            return refusal
        reply, usage = self._reply(body, call)
        if call.stream:
            wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            return _BreakableStream(call, self._stream(request, call, reply, usage if wants_usage else None))
        return await self._whole(call, reply, usage)

    async def embeddings(self, request: Request) -> Response:
        """Answer a request for embeddings: one short vector for each text."""
        try:
            body = await request.json()
            model, given = body["model"], body["input"]
            texts = [given] if isinstance(given, str) else [str(text) for text in given]
        except (ValueError, LookupError, TypeError):
            return _error(400, "the body is no embeddings request", "invalid_request_error")
        if model not in EMBEDDING_MODELS:
            return _error(404, f"The model `{model}` does not exist", "model_not_found")
        call = Call(model, stream=False, fault="", trace_id=_trace_id(request.headers))
        call.outcome, call.usage = "answered", Usage(model_text.text_tokens(texts), 0, 0, 0)
        wants_base64 = body.get("encoding_format") == "base64"
        data = [
            {"object": "embedding", "index": index, "embedding": model_text.embedding(text, as_base64=wants_base64)}
            for index, text in enumerate(texts)
        ]
        used = {"prompt_tokens": call.usage.prompt, "total_tokens": call.usage.prompt}
        call.total_ms = call.elapsed_ms()
        self._write(call)
        return JSONResponse({"object": "list", "model": model, "data": data, "usage": used})

    def _fault(self, request: Request, body: Mapping[str, Any]) -> str:
        marker = _MARKER.search(model_text.question_of(body["messages"]))
        fault = request.headers.get("x-model-fault", "")
        if marker and marker[2] in (None, body["model"]):
            fault = marker[1]
        if fault == "429-once":
            prompt = json.dumps([body["model"], body["messages"]])
            fault = "" if prompt in self._refused_once else "429"
            self._refused_once.add(prompt)
        return fault if fault in FAULTS else ""

    async def _refuse(self, request: Request, call: Call) -> Response | None:
        if call.fault in {"500", "429"}:
            call.outcome, call.status, call.total_ms = "refused", int(call.fault), call.elapsed_ms()
            return _error(call.status, "told to fail", "server_error" if call.fault == "500" else "rate_limit_exceeded")
        if call.fault == "stall" and not call.stream:
            await _stall(request)
            call.outcome, call.total_ms = "stalled", call.elapsed_ms()
            return _error(504, "stalled", "timeout")
        return None

    def _reply(self, body: Mapping[str, Any], call: Call) -> tuple[Reply, Usage]:
        tools = body.get("tools") or []
        tokens = model_text.prompt_tokens(body["messages"], tools)
        reply = Reply("") if call.fault == "empty" else model_text.reply_to(body["messages"], tools)
        reply = reply.cut(body.get("max_completion_tokens") or body.get("max_tokens"))
        reasoning = model_text.reasoning_tokens(call.model, len(tokens))
        cached = self._prefixes.cached(call.model, tokens)
        return reply, Usage(len(tokens), cached, reply.tokens() + reasoning, reasoning)

    async def _whole(self, call: Call, reply: Reply, usage: Usage) -> Response:
        await asyncio.sleep(FIRST_TOKEN + PER_TOKEN * usage.completion)
        message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
        if reply.tool_name:
            message["tool_calls"] = [_tool_call(reply)]
        choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason, "logprobs": None}
        body = _head(call, "chat.completion") | {"choices": [choice], "usage": usage.as_openai()}
        call.total_ms = call.elapsed_ms()
        text = json.dumps(body)
        if call.fault in {"drop", "truncate"}:
            call.outcome = "dropped" if call.fault == "drop" else "truncated"
            self._write(call)
            kind = _Broken if call.fault == "drop" else Response
            return kind(text[: len(text) // 2], media_type="application/json")
        call.outcome, call.usage = "answered", usage
        self._write(call)
        return Response(text, media_type="application/json", headers={"x-request-id": call.id})

    async def _stream(self, request: Request, call: Call, reply: Reply, usage: Usage | None) -> AsyncIterator[bytes]:
        try:
            await asyncio.sleep(FIRST_TOKEN)
            call.first_chunk_ms = call.elapsed_ms()
            deltas = _deltas(reply)
            for number, delta in enumerate(deltas):
                if call.fault in {"drop", "truncate", "stall"} and number > len(deltas) // 2:
                    call.outcome = {"drop": "dropped", "truncate": "truncated", "stall": "stalled"}[call.fault]
                    if call.fault == "stall":
                        await _stall(request)
                    return
                yield _chunk(call, [{"index": 0, "delta": delta, "finish_reason": None}])
                await asyncio.sleep(BETWEEN_CHUNKS if number else 0)
            yield _chunk(call, [{"index": 0, "delta": {}, "finish_reason": reply.finish_reason}])
            if usage is not None:
                yield _chunk(call, [], usage)
            yield b"data: [DONE]\n\n"
            call.outcome, call.usage = "answered", usage
        finally:
            call.total_ms = call.elapsed_ms()
            self._write(call)

    def _write(self, call: Call) -> None:
        if self._journal is not None:
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(call.line())


async def _stall(request: Request) -> None:
    until = time.monotonic() + LONGEST_STALL
    while time.monotonic() < until and not await request.is_disconnected():  # noqa: ASYNC110 - ASGI has no such event
        await asyncio.sleep(0.05)


def _deltas(reply: Reply) -> list[dict[str, Any]]:
    first: dict[str, Any] = {"role": "assistant", "content": ""}
    if reply.tool_name:
        return [first, {"tool_calls": [_tool_call(reply) | {"index": 0}]}]
    return [first, *({"content": text} for text in model_text.chunks_of(reply))]


def _tool_call(reply: Reply) -> dict[str, Any]:
    return {
        "id": f"call_{uuid.uuid4().hex[:24]}",
        "type": "function",
        "function": {"name": reply.tool_name, "arguments": reply.tool_arguments},
    }


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {"id": call.id, "object": kind, "created": int(time.time()), "model": call.model}


def _chunk(call: Call, choices: list[dict[str, Any]], usage: Usage | None = None) -> bytes:
    body = _head(call, "chat.completion.chunk") | {"choices": choices}
    if usage is not None:
        body["usage"] = usage.as_openai()
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _error(status: int, message: str, code: str) -> Response:
    headers = {"retry-after": "1", "retry-after-ms": "200"} if status == 429 else {}  # noqa: PLR2004 - its own name
    return JSONResponse({"error": {"message": message, "type": code, "code": code}}, status, headers)


def _trace_id(headers: Mapping[str, str]) -> str:
    match = _TRACEPARENT.match(headers.get("traceparent", ""))
    return match[1] if match else ""


def create_app(journal: Path | None = None) -> Starlette:
    """Return the server; without `journal`, MODEL_SERVER_JOURNAL names the file, if any."""
    named = os.environ.get("MODEL_SERVER_JOURNAL")
    server = ModelServer(journal or (Path(named) if named else None))
    return Starlette(
        routes=[
            Route("/v1/chat/completions", server.chat, methods=["POST"]),
            Route("/v1/embeddings", server.embeddings, methods=["POST"]),
            Route("/v1/models", server.models),
            Route("/search", server.search),
        ]
    )
