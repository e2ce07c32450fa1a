"""A chat app with two routes, written as if telemetry were somebody else's business.

    MODEL_BASE_URL=http://127.0.0.1:9000 opentelemetry-instrument uvicorn examples.chat_app.app:app

POST /chat/direct answers from one model call. POST /chat/agent lets a small model decide whether to look something up,
does so, and has a larger model answer. Both stream when asked to. All that this file says about telemetry is what only
the app can know: `otel_telemetry.request(...)` with the route, who asked, and why an answer is less than it should be.
"""

import json
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

import otel_telemetry
from otel_telemetry.request import Request

from .model_client import Messages, Model, ModelError

log = logging.getLogger("chat_app")

DIRECT_MODEL = "gpt-4o-mini"
ROUTER_MODEL = "gpt-4o-mini"
FINAL_MODEL = "gpt-4o"

SYSTEM = (
    "You are the assistant of a small shop for outdoor gear. Answer shortly, in the language of the question. "
    "Say so when you do not know. Never promise a delivery date, never quote a price that was not looked up, and never "
    "ask for a password. When somebody writes about an order, tell them where in their account they can see it."
)
SEARCH_TOOL = {
    "type": "function",
    "function": {
        "name": "web_search",
        "description": "Looks up what may have changed since yesterday.",
        "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    },
}


class Ask(BaseModel):
    """One question."""

    question: str = ""
    stream: bool = False
    model: str = DIRECT_MODEL
    user: str | None = None
    session: str | None = None
    conversation: str | None = None
    attachments: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the connections to the model server."""
    headers = {"authorization": f"Bearer {os.environ.get('MODEL_API_KEY', 'none')}"}
    timeout = float(os.environ.get("MODEL_TIMEOUT", "20"))
    async with httpx.AsyncClient(base_url=os.environ["MODEL_BASE_URL"], headers=headers, timeout=timeout) as client:
        app.state.http = client
        app.state.model = Model(client)
        yield


app = FastAPI(title="Chat", lifespan=lifespan)


@app.get("/health")
async def health() -> dict[str, str]:
    """Say that the app is up."""
    return {"status": "ok"}


@app.post("/chat/direct")
async def direct(ask: Ask) -> Response:
    """Answer from one model call."""
    return await respond(ask, answer_directly(ask))


@app.post("/chat/agent")
async def agent(ask: Ask) -> Response:
    """Answer after a router model has decided whether to look something up."""
    return await respond(ask, answer_as_agent(ask))


async def answer_directly(ask: Ask) -> AsyncIterator[str]:
    """Yield the answer of one model call."""
    with otel_telemetry.request(route="direct", **asked_by(ask)) as r:
        if declined(ask, r):
            yield "Please ask me something in words."
            return
        with r.stage("final"):
            async for piece in answer(r, ask, ask.model, conversation(ask)):
                yield piece


async def answer_as_agent(ask: Ask) -> AsyncIterator[str]:
    """Yield the final model's answer, after what the router model wanted to know."""
    with otel_telemetry.request(route="agent_direct", **asked_by(ask)) as r:
        if declined(ask, r):
            yield "Please ask me something in words."
            return
        messages = conversation(ask)
        with r.stage("router"):
            call = await route(r, messages)
        if call is not None:
            r.set(route="agent_web")
            with r.stage("web"):
                messages += await looked_up(r, call)
        with r.stage("final"):
            async for piece in answer(r, ask, FINAL_MODEL, messages):
                yield piece


def asked_by(ask: Ask) -> dict[str, str | None]:
    """Return who asks, and where."""
    return {"user_id": ask.user, "session_id": ask.session, "conversation_id": ask.conversation}


def declined(ask: Ask, r: Request) -> bool:
    """Return whether there is nothing here that a model could answer."""
    if ask.attachments:
        r.skip("media")
    elif not ask.question.strip():
        r.skip("empty_question")
    else:
        return False
    log.info("declined a question on %s", ask.conversation)
    return True


def conversation(ask: Ask) -> Messages:
    """Return the messages for the model."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": ask.question}]


async def route(r: Request, messages: Messages) -> dict[str, Any] | None:
    """Return the tool call that the router model asks for, if any; without a router, the final model answers."""
    try:
        message = await app.state.model.complete(ROUTER_MODEL, messages, tools=[SEARCH_TOOL])
    except ModelError as error:
        log.warning("no router: %s", error)
        r.degrade("router_failed")
        r.set(router_source="degraded")
        return None
    calls: list[dict[str, Any]] = message.get("tool_calls") or []
    r.set(router_source="classifier")
    return calls[0] if calls else None


async def looked_up(r: Request, call: dict[str, Any]) -> Messages:
    """Return the tool call and its result as messages."""
    query = json.loads(call["function"]["arguments"])["query"]
    try:
        response = await app.state.http.get("/search", params={"q": query})
        found = " ".join(response.raise_for_status().json()["results"])
    except httpx.HTTPError:
        log.warning("search failed for %r", query)
        r.degrade("web_failed")
        found = "The search did not work."
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": found},
    ]


async def answer(r: Request, ask: Ask, model: str, messages: Messages) -> AsyncIterator[str]:
    """Yield the model's answer, in pieces where the client wants a stream."""
    r.set(query_text=ask.question)
    answered = ""
    try:
        if ask.stream:
            async for piece in app.state.model.stream(model, messages):
                answered += piece
                yield piece
        else:
            answered = (await app.state.model.complete(model, messages)).get("content") or ""
            yield answered
    finally:
        r.set(answer_text=answered)
    if not answered:
        r.degrade("empty_completion")
        yield "I have no answer to that."
    log.info("answered %r with %d characters", ask.question, len(answered))


async def respond(ask: Ask, pieces: AsyncIterator[str]) -> Response:
    """Return the pieces as one JSON answer, or as server-sent events."""
    if ask.stream:
        return StreamingResponse(events(pieces), media_type="text/event-stream")
    try:
        return JSONResponse({"answer": "".join([piece async for piece in pieces])})
    except ModelError as error:
        log.error("no answer: %s", error)  # noqa: TRY400 - the reason is what matters, not where it was noticed
        return JSONResponse({"error": "no answer"}, 504 if error.timed_out else 502)


async def events(pieces: AsyncIterator[str]) -> AsyncIterator[str]:
    """Yield the pieces as server-sent events; a failure in the middle is one more event."""
    try:
        async for piece in pieces:
            yield f"data: {json.dumps({'text': piece})}\n\n"
        yield "event: done\ndata: {}\n\n"
    except ModelError as error:
        log.error("answer broke off: %s", error)  # noqa: TRY400 - as above
        yield 'event: error\ndata: {"error": "no answer"}\n\n'
