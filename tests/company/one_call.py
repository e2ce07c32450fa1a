"""Makes calls to a model server of its own, beside a neighbour, and prints how many were served and what the rows say.

    python one_call.py NEIGHBOUR LIBRARY before|after     (the neighbour starts before us, or after)

It runs where only the package and that neighbour are installed.
"""
# ruff: noqa: T201 - what is imported depends on what is asked for; this prints

import asyncio
import itertools
import json
import os
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from typing import Any

TOKENS = {"prompt": 11, "completion": 3}
served: list[str] = []
_number = itertools.count()


def _openai(body: dict[str, Any]) -> list[dict[str, Any]]:
    base = {"id": f"chatcmpl-{next(_number):08}", "created": 1, "model": "gpt-4o-mini-2024-07-18"}
    usage = {"prompt_tokens": TOKENS["prompt"], "completion_tokens": TOKENS["completion"], "total_tokens": 14}
    if not body.get("stream"):
        message = {"role": "assistant", "content": "hello there"}
        choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
        return [{**base, "object": "chat.completion", "choices": [choice], "usage": usage}]
    base["object"] = "chat.completion.chunk"
    words = [{"role": "assistant", "content": "hello "}, {"content": "there"}]
    events = [{**base, "choices": [{"index": 0, "delta": word, "finish_reason": None}]} for word in words]
    events.append({**base, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return [*events, {**base, "choices": [], "usage": usage}]


def _responses(body: dict[str, Any]) -> list[dict[str, Any]]:
    del body
    text = {"type": "output_text", "text": "hello there", "annotations": []}
    output = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    usage: dict[str, Any] = {
        "input_tokens": TOKENS["prompt"],
        "output_tokens": TOKENS["completion"],
        "total_tokens": 14,
    }
    usage |= {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    usage["total_tokens"] = sum(TOKENS.values())
    known = {"object": "response", "created_at": 1, "status": "completed", "model": "gpt-4o-mini-2024-07-18"}
    free = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "output": [output], "usage": usage}
    return [{"id": f"resp_{next(_number):08}", **known, **free}]


def _anthropic(body: dict[str, Any]) -> list[dict[str, Any]]:
    usage = {"input_tokens": TOKENS["prompt"], "output_tokens": TOKENS["completion"]}
    message = {"id": f"msg_{next(_number):08}", "type": "message", "role": "assistant", "model": "claude-haiku-4-5"}
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    text = {"type": "text", "text": "hello there"}
    if not body.get("stream"):
        return [{**message, **ended, "content": [text], "usage": usage}]
    begun = {
        **message,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {**usage, "output_tokens": 1},
    }
    return [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {**text, "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello there"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ended, "usage": {"output_tokens": TOKENS["completion"]}},
        {"type": "message_stop"},
    ]


ANSWERS = {"/v1/chat/completions": _openai, "/v1/responses": _responses, "/v1/messages": _anthropic}


class Handler(BaseHTTPRequestHandler):
    """Answers model calls, and counts them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer one call."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])) or b"{}")
        answer = ANSWERS.get(self.path.partition("?")[0])
        if answer is None:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()
            return
        served.append(self.path)
        events = answer(body)
        if body.get("stream"):
            named = "".join(
                f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
                if "type" in event
                else f"data: {json.dumps(event)}\n\n"
                for event in events
            )
            raw = (named if "type" in events[0] else f"{named}data: [DONE]\n\n").encode()
        else:
            raw = json.dumps(events[0]).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if body.get("stream") else "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""


# --- neighbours -----------------------------------------------------------------------------------------------------


def start_nobody(library: str) -> None:
    """Start nothing."""
    del library


def start_openinference(library: str) -> None:
    """Start OpenInference's instrumentation of a library."""
    if library == "openai":
        from openinference.instrumentation.openai import OpenAIInstrumentor as Instrumentor
    elif library == "anthropic":
        from openinference.instrumentation.anthropic import AnthropicInstrumentor as Instrumentor
    elif library == "langchain":
        from openinference.instrumentation.langchain import LangChainInstrumentor as Instrumentor
    else:
        from openinference.instrumentation.llama_index import LlamaIndexInstrumentor as Instrumentor
    Instrumentor().instrument()


def start_openllmetry(library: str) -> None:
    """Start OpenLLMetry's instrumentation of a library, and of the client below it."""
    from opentelemetry.instrumentation.openai import OpenAIInstrumentor

    if library == "anthropic":
        from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor as Instrumentor
    elif library == "langchain":
        from opentelemetry.instrumentation.langchain import LangchainInstrumentor as Instrumentor
    else:
        from opentelemetry.instrumentation.llamaindex import LlamaIndexInstrumentor as Instrumentor
    OpenAIInstrumentor().instrument()
    if library != "openai":
        Instrumentor().instrument()


def start_traceloop(library: str) -> None:
    """Start Traceloop's SDK with all of its instrumentations."""
    del library
    from traceloop.sdk import Traceloop

    os.environ["TRACELOOP_TELEMETRY"] = "false"
    Traceloop.init(app_name="x", api_endpoint="http://127.0.0.1:9", disable_batch=False)


def start_openlit(library: str) -> None:
    """Start OpenLIT with all of its instrumentations."""
    del library
    import openlit

    openlit.init(otlp_endpoint="http://127.0.0.1:9")


def start_langfuse(library: str) -> None:
    """Start Langfuse."""
    del library
    os.environ.update(LANGFUSE_PUBLIC_KEY="pk", LANGFUSE_SECRET_KEY="sk", LANGFUSE_BASE_URL="http://127.0.0.1:9")
    from langfuse import Langfuse

    Langfuse()


def start_langsmith(library: str) -> None:
    """Start LangSmith's tracing, as spans of OpenTelemetry alone."""
    del library
    os.environ.update(
        LANGSMITH_TRACING="true", LANGSMITH_OTEL_ENABLED="true", LANGSMITH_OTEL_ONLY="true",
        LANGSMITH_ENDPOINT="http://127.0.0.1:9", LANGSMITH_API_KEY="k",
    )  # fmt: skip


def start_logfire(library: str) -> None:
    """Start Logfire's instrumentation of a library."""
    import logfire

    (logfire.instrument_openai if library == "openai" else logfire.instrument_anthropic)()


def start_mlflow(library: str) -> None:
    """Start MLflow's automatic tracing of a library, exported through the app's provider."""
    os.environ.update(MLFLOW_USE_DEFAULT_TRACER_PROVIDER="false", MLFLOW_ENABLE_OTLP_EXPORTER="true")
    import mlflow

    getattr(mlflow, library).autolog()


def start_phoenix(library: str) -> None:
    """Start Phoenix with all instrumentations that it finds."""
    del library
    from phoenix.otel import register

    register(endpoint="http://127.0.0.1:9/v1/traces", auto_instrument=True, batch=True, verbose=False)


def start_genai(library: str) -> None:
    """Start OpenTelemetry's instrumentation of a library."""
    if library == "openai":
        from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as Instrumentor
    else:
        from opentelemetry.instrumentation.genai.anthropic import AnthropicInstrumentor as Instrumentor
    Instrumentor().instrument()


# --- libraries ------------------------------------------------------------------------------------------------------

ASKED: list[Any] = [{"role": "user", "content": "hello"}]


def use_openai(neighbour: str, url: str) -> None:
    """Make calls with OpenAI's client: whole, streamed, by asyncio, and by the Responses API."""
    if neighbour == "langfuse":
        from langfuse.openai import AsyncOpenAI, OpenAI
    else:
        from openai import AsyncOpenAI, OpenAI
    client, other = OpenAI(base_url=f"{url}/v1", api_key="k"), AsyncOpenAI(base_url=f"{url}/v1", api_key="k")
    if neighbour == "langsmith":
        from langsmith.wrappers import wrap_openai

        client, other = wrap_openai(client), wrap_openai(other)
    client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=ASKED, **options):
        pass
    client.responses.create(model="gpt-4o-mini", input="hello")

    async def twice() -> None:
        ask = other.chat.completions.create
        await asyncio.gather(*(ask(model="gpt-4o-mini", messages=ASKED) for _ in range(2)))

    asyncio.run(twice())


def use_anthropic(neighbour: str, url: str) -> None:
    """Make calls with Anthropic's client: whole and streamed."""
    del neighbour
    from anthropic import Anthropic

    client = Anthropic(base_url=url, api_key="k")
    client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=ASKED)
    for _ in client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=ASKED, stream=True):
        pass
    with client.messages.stream(model="claude-haiku-4-5", max_tokens=9, messages=ASKED) as stream:
        stream.get_final_message()


def use_langchain(neighbour: str, url: str) -> None:
    """Make calls with LangChain: whole, streamed, in a chain, and twice the same one with its cache on."""
    from langchain_core.caches import InMemoryCache
    from langchain_core.globals import set_llm_cache
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_openai import ChatOpenAI

    config: Any = {}
    if neighbour == "langfuse":
        from langfuse.langchain import CallbackHandler

        config = {"callbacks": [CallbackHandler()]}
    model = ChatOpenAI(model="gpt-4o-mini", base_url=f"{url}/v1", api_key="k", stream_usage=True)  # type: ignore[arg-type]
    model.invoke("hello", config)
    for _ in model.stream("hello", config):
        pass
    (ChatPromptTemplate.from_template("say {word}") | model).invoke({"word": "hello"}, config)
    set_llm_cache(InMemoryCache())
    for _ in range(3):  # the second and third are answered from the cache
        model.invoke("hello again", config)
    set_llm_cache(None)


def use_llama_index(neighbour: str, url: str) -> None:
    """Make calls with LlamaIndex: a chat, and a stream."""
    del neighbour
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    model = OpenAI(model="gpt-4o-mini", api_base=f"{url}/v1", api_key="k")
    model.chat([ChatMessage(role="user", content="hello")])
    for _ in model.stream_chat([ChatMessage(role="user", content="hello")], stream_options={"include_usage": True}):
        pass
    model.complete("hello")


# --- all together ---------------------------------------------------------------------------------------------------


def _start_within_logfire() -> None:
    import logfire
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    from otel_telemetry.exporters.request_log import RequestLogSpanExporter

    rows: Any = BatchSpanProcessor(RequestLogSpanExporter(url="sqlite:///rows.db"))
    logfire.configure(send_to_logfire=False, console=False, additional_span_processors=[rows])


def _start(neighbour: str, library: str, order: str) -> None:
    import otel_telemetry

    if neighbour == "logfire":  # has a provider of its own, which takes our exporter
        _start_within_logfire()
    steps = [
        lambda: otel_telemetry.configure(
            service_name="x", exporter="request_log", request_log={"url": "sqlite:///rows.db"}
        ),
        lambda: globals()[f"start_{neighbour}"](library),
    ]
    for step in steps if order == "after" else reversed(steps):
        step()


def _versions(neighbour: str, library: str) -> dict[str, str]:
    openinference = f"openinference-instrumentation-{library.replace('_', '-')}"
    named: dict[str, tuple[str, ...]] = {
        "langchain": ("langchain", "langchain-openai"),
        "llama_index": ("llama-index-core",),
        "openinference": (openinference,),
        "openllmetry": (f"opentelemetry-instrumentation-{library.replace('_', '')}",),
        "traceloop": ("traceloop-sdk",),
        "phoenix": ("arize-phoenix-otel", openinference),
        "genai": (f"opentelemetry-instrumentation-genai-{library}",),
        "nobody": (),
    }
    packages = (*named.get(neighbour, (neighbour,)), *named.get(library, (library,)))
    return {package: metadata.version(package) for package in packages}


def main(neighbour: str, library: str, order: str) -> None:
    """Run one combination."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _start(neighbour, library, order)
    import otel_telemetry

    with otel_telemetry.request(route="matrix"):
        globals()[f"use_{library}"](neighbour, f"http://127.0.0.1:{server.server_port}")
    is_flushed = otel_telemetry.flush(120)  # on a machine with much else to do the first write alone may take 20 s
    connection = sqlite3.connect("rows.db")
    calls = connection.execute("SELECT prompt_tokens, completion_tokens FROM llm_call").fetchall()
    (requests,) = connection.execute("SELECT count(*) FROM request_log").fetchone()
    found = {"served": len(served), "rows": len(calls), "requests": requests}
    found["flushed"] = is_flushed
    found["tokens"] = all(call == (TOKENS["prompt"], TOKENS["completion"]) for call in calls)
    print(json.dumps({**found, "versions": _versions(neighbour, library)}), flush=True)
    os._exit(0)  # neighbours wait for addresses at which nobody listens


if __name__ == "__main__":
    main(*sys.argv[1:])
