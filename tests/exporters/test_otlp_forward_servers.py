"""Forwarding to the real Jaeger and the real Collector, as they answer."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.errors import DeliveryRefused, StoreUnavailable
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from tests.backends.observability import Collector, Jaeger
from tests.waiting import eventually


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    with Jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture
def make() -> Iterator[Callable[..., ForwardSink]]:
    made: list[ForwardSink] = []

    def sink(endpoint: str, **settings: Any) -> ForwardSink:
        config = ForwardSettings.model_validate({"endpoint": endpoint, **settings})
        made.append(ForwardSink("forward.there", config, "forward.there"))
        return made[-1]

    yield sink
    for each in made:
        each.close()


def traces(trace: int, *names: str) -> bytes:
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "chat"
    now = time.time_ns()
    for number, name in enumerate(names):
        group.scope_spans.add().spans.add(
            trace_id=trace.to_bytes(16, "big"),
            span_id=(number + 1).to_bytes(8, "big"),
            name=name,
            start_time_unix_nano=now,
            end_time_unix_nano=now + 1000,
        )
    return bytes(request.SerializeToString())


def shown(jaeger: Jaeger, trace: int) -> list[str]:
    """Return the names of the trace's spans that Jaeger shows."""
    found = jaeger.trace(f"{trace:032x}")
    groups = json.loads(found)["result"]["resourceSpans"] if found else []
    return sorted(span["name"] for group in groups for scope in group["scopeSpans"] for span in scope["spans"])


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_merged_batches_are_found_in_jaeger(jaeger: Jaeger, make: Any, compression: str) -> None:
    trace = 10 if compression == "none" else 20
    sink = make(f"http://{jaeger.otlp}", compression=compression)
    assert sink.deliver("traces", [traces(trace, "one", "two"), traces(trace + 1, "three")]).rejected == ()
    eventually(lambda: shown(jaeger, trace) == ["one", "two"] and shown(jaeger, trace + 1) == ["three"])


def test_a_batch_that_goes_in_pieces_is_whole_in_jaeger(jaeger: Jaeger, make: Any) -> None:
    names = [f"{number:04}" + "x" * 1000 for number in range(5000)]
    make(f"http://{jaeger.otlp}").deliver("traces", [traces(3, *names)])
    eventually(lambda: shown(jaeger, 3) == names)


def test_signals_that_jaeger_does_not_take_are_waited_with_and_the_setting_named(jaeger: Jaeger, make: Any) -> None:
    with pytest.raises(StoreUnavailable, match="leave signals out"):
        make(f"http://{jaeger.otlp}").deliver("logs", [b""])


def test_jaeger_is_found_again_after_a_crash(jaeger: Jaeger, make: Any) -> None:
    sink = make(f"http://{jaeger.otlp}")
    sink.deliver("traces", [traces(4, "before")])
    jaeger.kill()
    with pytest.raises(StoreUnavailable):
        sink.deliver("traces", [traces(5, "after")])
    jaeger.start()
    sink.deliver("traces", [traces(5, "after")])
    eventually(lambda: shown(jaeger, 5) == ["after"])


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_collector_takes_what_is_right_and_refuses_what_is_none(
    make: Any, protocol: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    collector = Collector(tmp_path_factory.mktemp("collector"))
    collector.start()
    try:
        sink = make(collector.grpc if protocol == "grpc" else collector.http, protocol=protocol, compression="gzip")
        assert sink.deliver("traces", [traces(6, "one")]).rejected == ()
        assert sink.deliver("metrics", [b""]).rejected == ()
        with pytest.raises(DeliveryRefused):
            sink.deliver("traces", [b"\xff\xff\xff"])
    finally:
        collector.close()
