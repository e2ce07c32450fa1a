"""A real model server on loopback, a raw socket server for what no server should do, and what spans and metrics say."""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from otel_telemetry.base import metrics
from otel_telemetry.instrument import afterwards
from otel_telemetry.instrument.config import InstrumentSettings
from otel_telemetry.instrument.llm_http import LlmHttpInstrumentor

FAULTS = "otel_telemetry.instrumentation_errors"


class Telemetry:
    """A tracer and a meter provider of our own, and what they were given."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider(metric_readers=[self.reader])

    def instrument(self, **settings: Any) -> None:
        LlmHttpInstrumentor().instrument(
            config=InstrumentSettings(**settings), tracer_provider=self.tracers, meter_provider=self.meters
        )

    def spans(self, count: int = 1, name: str = "") -> list[Any]:
        """Return the finished spans by their ends, once there are so many and not more."""
        assert self.tracers.force_flush()
        until = time.monotonic() + 30
        while True:
            found = [span for span in self.exporter.get_finished_spans() if span.name.startswith(name)]
            if len(found) >= count or time.monotonic() > until:
                assert len(found) == count, [span.name for span in self.exporter.get_finished_spans()]
                found.sort(key=lambda span: span.end_time or 0)
                return found
            time.sleep(0.005)

    def span(self, name: str = "") -> Any:
        return self.spans(1, name)[0]

    def attributes(self, name: str = "") -> dict[str, Any]:
        return dict(self.span(name).attributes or {})

    def points(self) -> dict[str, list[Any]]:
        assert afterwards.flush()
        data = self.reader.get_metrics_data()
        resource = data.resource_metrics if data else []
        return {
            metric.name: list(metric.data.data_points)
            for found in resource
            for scope in found.scope_metrics
            for metric in scope.metrics
        }

    def faults(self) -> int:
        """Return how often something of ours failed."""
        return sum(point.value for point in self.points().get(FAULTS, ()))

    def shutdown(self) -> None:
        self.tracers.shutdown()
        self.meters.shutdown()


@pytest.fixture
def uninstrumented(monkeypatch: pytest.MonkeyPatch) -> Iterator[Telemetry]:
    """Providers without any instrumentation yet; our own faults are counted there too."""
    found = Telemetry()
    counter = found.meters.get_meter("ours").create_counter(FAULTS)
    monkeypatch.setattr(metrics, "instrumentation_errors", counter)
    yield found
    LlmHttpInstrumentor().uninstrument()
    found.shutdown()


@pytest.fixture
def telemetry(uninstrumented: Telemetry) -> Telemetry:
    uninstrumented.instrument()
    return uninstrumented


@dataclass
class Reply:
    """What the server answers: chunks, sent one by one with a pause before each."""

    chunks: list[bytes]
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pause: float = 0.0


class ModelServer:
    """Answers every POST with the next of its replies; the last one stays."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.url = ""

    def answer(self, value: Any, status: int = 200, **headers: str) -> None:
        headers = {"content-type": "application/json"} | {key.replace("_", "-"): text for key, text in headers.items()}
        self.replies = [Reply([json.dumps(value).encode()], status, headers)]

    def stream(self, *events: Any, pause: float = 0.0, ending: str = "\n") -> None:
        chunks = [f"data: {json.dumps(event, separators=(',', ':'))}{ending * 2}".encode() for event in events]
        chunks.append(f"data: [DONE]{ending * 2}".encode())
        self.replies = [Reply(chunks, headers={"content-type": "text/event-stream"}, pause=pause)]

    def raw(self, *chunks: bytes, status: int = 200, pause: float = 0.0, **headers: str) -> None:
        self.replies = [Reply(list(chunks), status, {k.replace("_", "-"): v for k, v in headers.items()}, pause)]

    async def __call__(self, request: Request) -> Response:
        self.requests.append((request.url.path, dict(request.headers), await request.body()))
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return StreamingResponse(_paused(reply), reply.status, reply.headers)


async def _paused(reply: Reply) -> AsyncIterator[bytes]:
    for chunk in reply.chunks:
        await asyncio.sleep(reply.pause)
        yield chunk


@contextlib.contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an ASGI app on a free port of loopback and give its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started and time.monotonic() < until:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


Serve = Callable[[Any], str]
RawServer = Callable[[Callable[[socket.socket], None]], str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    with contextlib.ExitStack() as stack:
        yield lambda app: stack.enter_context(served(app))


@pytest.fixture(scope="session")
def running_server() -> Iterator[ModelServer]:
    server = ModelServer()
    with served(Starlette(routes=[Route("/{path:path}", server.__call__, methods=["POST"])])) as url:
        server.url = url
        yield server


@pytest.fixture
def server(running_server: ModelServer) -> ModelServer:
    running_server.replies = []
    running_server.requests.clear()
    return running_server


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """Give a function that serves each connection with a script, after reading the request; returns the URL."""
    listeners: list[tuple[socket.socket, threading.Thread]] = []

    def start(script: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=_accept, args=(listener, script), daemon=True)
        thread.start()
        listeners.append((listener, thread))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener, thread in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _accept(listener: socket.socket, script: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            _read_request(connection)
            with contextlib.suppress(OSError):
                script(connection)


def _read_request(connection: socket.socket) -> None:
    """Read all of a request: closing a socket with unread bytes would reset the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
