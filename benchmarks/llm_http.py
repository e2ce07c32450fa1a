"""What seeing model calls costs the app: a call, a streamed chunk, and a FastAPI endpoint, against the same without us.

Clients talk to a mock transport in the same process, so that nothing but the client, OpenTelemetry and we are measured.
"caller" is the CPU time of the thread that makes the call: what the app waits for. "process" is that of all threads:
an answer is read, its span ended and metrics recorded after the app has its answer, which costs the process no less. Of
the caller's instructions two thirds are the SDK's, which starts the span. Rounds with and without take turns; the
medians are shown. Budgets (issue "Instrumentation"): 60 us a call, 2 us a streamed chunk, 5 % of an endpoint's
throughput beyond OpenTelemetry's own instrumentation.
"""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import fastapi
import httpx
import httpx2
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind
from rich.console import Console
from rich.table import Table

from otel_telemetry.instrument import afterwards
from otel_telemetry.instrument.fastapi import fastapi_hooks, time_first_byte
from otel_telemetry.instrument.llm_http import LlmHttpInstrumentor

ROUNDS, CALLS, STREAMS, CHUNKS, REQUESTS = 15, 200, 4, 1000, 300
URL = "http://model/v1/chat/completions"
ASK = {"model": "gpt-4o", "temperature": 0.2, "messages": [{"role": "user", "content": "How far is it? " * 60}]}
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "gpt-4o-2024-08-06",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Not far. " * 60}, "finish_reason": "stop"}
        ],
        "usage": {"prompt_tokens": 300, "completion_tokens": 120, "prompt_tokens_details": {"cached_tokens": 100}},
    }
).encode()

Run = Callable[[], float]


def event(content: str, finish: str | None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "logprobs": None, "finish_reason": finish}
    chunk = {
        "id": "chatcmpl-943uCLXJ85N1BFjlodTrOrxwwdmpj",
        "object": "chat.completion.chunk",
        "created": 1710755352,
        "model": "gpt-4o-2024-08-06",
        "system_fingerprint": "fp_4f2ebda25a",
        "choices": [choice],
    }
    return f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode()


STREAM = [event(" word", None)] * CHUNKS + [event("", "stop"), b"data: [DONE]\n\n"]


def transport(module: Any) -> Any:
    """A transport that answers at once, streamed when asked to."""

    class Body(module.SyncByteStream, module.AsyncByteStream):  # type: ignore[misc]  # httpx's or httpx2's
        def __init__(self, chunks: Sequence[bytes]) -> None:
            self.chunks = chunks

        def __iter__(self) -> Iterator[bytes]:
            return iter(self.chunks)

        async def __aiter__(self) -> Any:
            for chunk in self.chunks:
                yield chunk

    def handle(request: Any) -> Any:
        if b'"stream":true' in request.content:
            return module.Response(200, headers={"content-type": "text/event-stream"}, stream=Body(STREAM))
        return module.Response(200, headers={"content-type": "application/json"}, stream=Body([ANSWER]))

    return module.MockTransport(handle)


class Nowhere(SpanExporter):
    """An exporter that keeps nothing."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Keep nothing."""
        del spans
        return SpanExportResult.SUCCESS


def calls(client: Any, clock: Callable[[], float]) -> Run:
    """Return a function that makes CALLS calls and tells the microseconds of each."""

    def run() -> float:
        begin = clock()
        for _ in range(CALLS):
            client.post(URL, json=ASK)
        afterwards.flush()
        return (clock() - begin) / CALLS * 1e6

    return run


def streams(client: Any, clock: Callable[[], float]) -> Run:
    """Return a function that reads STREAMS streams and tells the microseconds of each chunk."""

    def run() -> float:
        begin = clock()
        for _ in range(STREAMS):
            with client.stream("POST", URL, json=ASK | {"stream": True}) as answer:
                for _ in answer.iter_bytes():
                    pass
        afterwards.flush()
        return (clock() - begin) / STREAMS / CHUNKS * 1e6

    return run


def compare(run: Run, switch: Callable[[bool], None]) -> tuple[float, float]:
    """Return the medians without and with, measured in turns."""
    found: dict[bool, list[float]] = {False: [], True: []}
    for number in range(2 * ROUNDS + 2):
        switch(number % 2 == 1)
        value = run()
        if number > 1:  # the first of each warms up
            found[number % 2 == 1].append(value)
    switch(False)
    return statistics.median(found[False]), statistics.median(found[True])


def endpoint(client: httpx.AsyncClient) -> fastapi.FastAPI:
    app = fastapi.FastAPI()

    @app.get("/plain")
    async def plain() -> dict[str, str]:
        return {"answer": "hello"}

    @app.get("/model")
    async def model() -> dict[str, Any]:
        answer: dict[str, Any] = (await client.post(URL, json=ASK)).json()
        return answer

    return app


def requests(app: fastapi.FastAPI, path: str) -> Run:
    """Return a function that has an app answer REQUESTS requests and tells the microseconds of each."""
    headers = [(b"host", b"app"), (b"user-agent", b"bench"), (b"x-forwarded-for", b"198.51.100.7")]

    async def one() -> None:
        scope: dict[str, Any] = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
        }
        scope |= {
            "headers": headers,
            "scheme": "http",
            "http_version": "1.1",
            "client": ("10.0.0.1", 9),
            "root_path": "",
        }
        scope |= {"server": ("127.0.0.1", 80), "asgi": {"version": "3.0"}}
        await app(scope, receive, send)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        del message

    async def many() -> None:
        for _ in range(REQUESTS):
            await asyncio.create_task(one())

    def run() -> float:
        begin = time.process_time()
        asyncio.run(many())
        afterwards.flush()
        return (time.process_time() - begin) / REQUESTS * 1e6

    return run


def client_table(tracers: TracerProvider, meters: MeterProvider) -> Table:
    table = Table("client", "what", "clock", "without", "with", "difference", "budget", title="a model call: us of CPU")
    instrumentor = LlmHttpInstrumentor()

    def switch(on: bool) -> None:
        if on:
            instrumentor.instrument(tracer_provider=tracers, meter_provider=meters)
        elif instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()

    for module in (httpx, httpx2):
        with module.Client(transport=transport(module)) as client:
            for what, make, budget in (("call", calls, "60"), ("chunk", streams, "2")):
                for name, clock in (("caller", time.thread_time), ("process", time.process_time)):
                    one, other = compare(make(client, clock), switch)
                    shown = (f"{value:.2f}" for value in (one, other, other - one))
                    table.add_row(module.__name__, what, name, *shown, budget)
    return table


def bare_span(tracers: TracerProvider) -> Run:
    """Return what the SDK alone takes for a span with the attributes of a call, in microseconds."""
    tracer = tracers.get_tracer("bench")
    before = {f"gen_ai.before.{number}": "gpt-4o" for number in range(7)}
    after: dict[str, Any] = {f"gen_ai.after.{number}": number for number in range(7)} | {"gen_ai.why": ["stop"]}

    def run() -> float:
        begin = time.thread_time()
        for _ in range(CALLS):
            span = tracer.start_span("chat gpt-4o", kind=SpanKind.CLIENT, attributes=before)
            span.set_attributes(after)
            span.end()
        return (time.thread_time() - begin) / CALLS * 1e6

    return run


def endpoint_table(tracers: TracerProvider, meters: MeterProvider) -> Table:
    """Measure whole endpoints: OpenTelemetry's own FastAPI instrumentation, and all of ours beside it."""
    table = Table("endpoint", "OpenTelemetry's us", "and ours us", "throughput", "budget", title="a FastAPI request")
    client = httpx.AsyncClient(transport=transport(httpx))
    ours, plain, silent = endpoint(client), endpoint(client), endpoint(client)
    given: dict[str, Any] = {"tracer_provider": tracers, "meter_provider": meters}
    FastAPIInstrumentor.instrument_app(plain, **given)
    FastAPIInstrumentor.instrument_app(silent, **given, exclude_spans=["send", "receive"])
    FastAPIInstrumentor.instrument_app(ours, **given, **fastapi_hooks())
    for name, path, without, budget in (
        ("/plain, as it comes", "/plain", plain, "95 %"),
        ("/plain, send and receive spans off in both", "/plain", silent, "95 %"),
        ("/model, send and receive spans off in both", "/model", silent, ""),
    ):
        one, other = compare_endpoints(requests(without, path), requests(ours, path), given)
        table.add_row(name, f"{one:.1f}", f"{other:.1f}", f"{one / other:.1%}", budget)
    asyncio.run(client.aclose())
    return table


def compare_endpoints(without: Run, ours: Run, given: dict[str, Any]) -> tuple[float, float]:
    """Return the medians of both, ours with everything switched on."""
    instrumentor = LlmHttpInstrumentor()
    undo: list[Callable[[], None]] = []

    def switch(on: bool) -> None:
        if on:
            undo.append(time_first_byte())
            instrumentor.instrument(**given)
        elif undo:
            undo.pop()()
            instrumentor.uninstrument()

    return compare(lambda: ours() if undo else without(), switch)


def main() -> None:
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(Nowhere(), max_queue_size=100_000))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    console = Console(width=120)
    console.print(client_table(tracers, meters))
    bare = bare_span(tracers)
    console.print(
        f"of which the SDK alone, a bare span with as many attributes: {min(bare() for _ in range(9)):.1f} us"
    )
    console.print(endpoint_table(tracers, meters))
    tracers.shutdown()
    meters.shutdown()


if __name__ == "__main__":
    main()
