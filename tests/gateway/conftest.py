"""A running gateway for tests: real engine, real sockets on free loopback ports, a sink that keeps what it gets."""

import asyncio
import threading
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.serve.lifecycle import loop_factory
from otel_telemetry.gateway.serve.process import Gateway
from otel_telemetry.gateway.spool.reader import Batch, SpoolReader
from otel_telemetry.gateway.spool.writer import Spool
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.processors.otlp.redactor import OtlpRedactor
from otel_telemetry.processors.redact.redactor import Redactor
from tests.gateway.certificates import Certificates


class KeepingSink:
    """Keeps what is delivered.

    `away` makes it unavailable; a body that contains `poison` makes it raise; `first` is called before anything else.
    """

    def __init__(
        self, name: str = "kept", poison: bytes = b"", first: Callable[["KeepingSink", Signal], object] | None = None
    ) -> None:
        self.name = name
        self.poison = poison
        self.away = False
        self.calls: list[tuple[Signal, list[bytes]]] = []
        self.arrived = threading.Condition()
        self.closed = False
        self._first = first

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> Any:
        if self._first:
            self._first(self, signal)
        if self.away:
            raise StoreUnavailable("the sink is away")
        if self.poison and any(self.poison in body for body in bodies):
            raise ValueError("this one never")
        with self.arrived:
            self.calls.append((signal, list(bodies)))
            self.arrived.notify_all()

    def close(self) -> None:
        self.closed = True

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, bodies in self.calls for body in bodies]

    def wait_for(self, count: int, timeout: float = 60) -> Any:
        with self.arrived:
            return self.arrived.wait_for(lambda: len(self.bodies) >= count, timeout)


def trace_request(*names: str, ids: Sequence[bytes] = (), **attributes: str) -> Any:
    """Return an ExportTraceServiceRequest with one span per name."""
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number, name in enumerate(names):
        span_id = ids[number] if ids else (number + 1).to_bytes(8, "big")
        span = spans.add(trace_id=b"\x01" * 16, span_id=span_id, name=name, kind=Span.SPAN_KIND_SERVER)
        for key, value in attributes.items():
            span.attributes.add(key=key).value.string_value = value
    return request.SerializeToString()


class Running:
    """A gateway that runs, with what is around it."""

    def __init__(self, gateway: Gateway, sink: Any, spool_dir: Path) -> None:
        self.gateway = gateway
        self.sink = sink
        self.spool_dir = spool_dir
        self.http = f"http://127.0.0.1:{gateway.http_port}"
        self.grpc = f"127.0.0.1:{gateway.grpc_port}"

    def spooled(self) -> list[Batch]:
        with SpoolReader(self.spool_dir) as reader:
            return list(reader.batches())


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", 64 << 20, 24)
    yield made
    made.close()


@pytest.fixture(scope="session")
def redactor() -> Any:
    return OtlpRedactor(Redactor(RedactionSettings()))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def sink() -> Any:
    return KeepingSink()


@pytest.fixture
def serving(tmp_path: Path, redactor: OtlpRedactor, sink: Any) -> Any:
    """Return `serving(**settings)`, a context manager around a running gateway."""

    @asynccontextmanager
    async def run(
        engine: Any = None, sinks: Any = None, rest: Any = None, page: Any = None, **settings: Any
    ) -> AsyncIterator[Running]:
        folder = settings.pop("spool_dir", tmp_path / "spool")
        config = GatewaySettings(grpc_port=0, http_port=0, spool_dir=folder, **settings)
        gateway = Gateway(config, engine or redactor, [sink] if sinks is None else sinks, rest=rest, page=page)
        async with AsyncExitStack() as stack:
            await gateway.start()
            stack.push_async_callback(gateway.stop, 5)
            yield Running(gateway, sink, folder)

    return run


@pytest.fixture
async def running(serving: Any) -> AsyncIterator[Running]:
    async with serving() as gateway:
        yield gateway


@pytest.fixture
def make_request() -> Callable[..., bytes]:
    return trace_request


@pytest.fixture
def make_sink() -> type[KeepingSink]:
    return KeepingSink


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """Run tests on the event loop that a gateway runs on, and on Python's own too where a test asks for both."""
    own = {"uvloop": loop_factory() or asyncio.new_event_loop}
    asks = item.get_closest_marker("asyncio")
    return own | ({"asyncio": asyncio.new_event_loop} if asks and "loop_factories" in asks.kwargs else {})
