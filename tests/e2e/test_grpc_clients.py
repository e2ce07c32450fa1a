"""gRPC by the SDKs of four languages and the Collector: what is acknowledged is stored, once, whatever is going on."""

import asyncio
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.backends.observability import Collector
from tests.e2e import sending
from tests.e2e.one_gateway import OneGateway, serving
from tests.e2e.scenario import scenario
from tests.waiting import eventually

CONFIG = Path(__file__).parent / "collector-to-gateway.yaml"
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
CALLS = 4000
AT_ONCE = 16


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[OneGateway]:
    with serving(tmp_path) as made:
        yield made


@pytest.mark.parametrize("more", [{}, {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}], ids=["plain", "gzip"])
@pytest.mark.parametrize("language", ["python", "go", "node-grpc", "java-grpc"])
def test_all_that_an_sdk_sends_over_grpc_is_stored(
    gateway: OneGateway, tmp_path: Path, language: str, more: dict[str, str]
) -> None:
    made = scenario(language)
    sending.send(made, tmp_path, {"grpc": gateway.grpc}, **more)
    gateway.has_all_of(made)


def test_all_that_the_collector_passes_on_over_grpc_is_stored(gateway: OneGateway, tmp_path: Path) -> None:
    made = scenario("python")
    with collecting(tmp_path, gateway) as collector:
        sending.send(made, tmp_path, {"grpc": collector.grpc})
        eventually(lambda: len(gateway.span_names()) == 5)
        eventually(lambda: gateway.requests("metrics", ExportMetricsServiceRequest) != [])
    gateway.has_all_of(made)


@pytest.mark.parametrize("what", ["all is well", "it is told to connect anew", "the settings are read anew"])
def test_hundreds_of_calls_a_second_of_one_collector_are_stored_once(tmp_path: Path, what: str) -> None:
    """grpc-go pings between its calls to measure the line; and it reads GOAWAY while calls are under way."""
    options = ("--workers", "2") if what == "the settings are read anew" else ()
    if what == "it is told to connect anew":
        (tmp_path / "otel-telemetry.toml").write_text("[gateway]\ngrpc_connection_seconds = 0.5\n")
    with serving(tmp_path, *options) as gateway, collecting(tmp_path, gateway) as collector:
        asyncio.run(flood(collector.grpc.removeprefix("http://")))
        if options:
            gateway.process.send_signal(signal.SIGHUP)
            asyncio.run(flood(collector.grpc.removeprefix("http://"), CALLS))
            eventually(lambda: gateway.log.read_text().count("is replaced") == 3)
        expected = CALLS * (2 if options else 1)
        eventually(lambda: len(set(gateway.span_names())) == expected)
        counts = Counter(gateway.span_names())
        assert set(counts.values()) == {1}
        logged = collector.logged()
        assert "ENHANCE_YOUR_CALM" not in logged
        assert "too_many_pings" not in logged
        assert "Exporting failed. Dropping" not in logged


def collecting(folder: Path, gateway: OneGateway) -> Collector:
    return Collector(folder / "collector", CONFIG, GATEWAY_ENDPOINT=gateway.grpc.removeprefix("http://"))


async def flood(endpoint: str, first: int = 0) -> None:
    """Send one span a call, as fast as the Collector takes them."""
    numbers = iter(range(first, first + CALLS))
    async with grpc.aio.insecure_channel(endpoint) as channel:
        call = channel.unary_unary(EXPORT, bytes, bytes)

        async def send() -> None:
            for number in numbers:
                await call(one_span(number), timeout=20)

        await asyncio.gather(*(send() for _ in range(AT_ONCE)))


def one_span(number: int) -> bytes:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    spans.add(trace_id=b"t" * 16, span_id=(number + 1).to_bytes(8, "big"), name=f"step {number}")
    return bytes(request.SerializeToString())
