"""Destinations that are away, slow or refuse: senders do not notice, the rows do not wait, and all of it arrives."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from tests.exporters.otlp_receiver import Receiver, Say, http_receiver
from tests.faults.gateway_process import Load, check, check_truth, eventually, free_port

THERE = "forward.there"


class Destination:
    """An OTLP/HTTP server on a port of its own that may be there or not."""

    def __init__(self) -> None:
        self.port = free_port()
        self.receiver = Receiver()
        self._stack = ExitStack()

    def up(self) -> None:
        self._stack.enter_context(http_receiver(self.receiver, self.port))

    def down(self) -> None:
        self._stack.close()

    def spans(self) -> list[tuple[bytes, bytes]]:
        """Return the (trace id, span id) of everything it said yes to."""
        return [
            (span.trace_id, span.span_id)
            for body in self.receiver.bodies
            for group in ExportTraceServiceRequest.FromString(body).resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    def has(self, acknowledged: set[bytes]) -> bool:
        return acknowledged <= {trace_id for trace_id, _ in self.spans()}


@pytest.fixture
def destination() -> Iterator[Destination]:
    made = Destination()
    yield made
    made.down()


@pytest.fixture
def forwarding(gateway: Callable[..., Any], destination: Destination, tmp_path: Path) -> Any:
    """Return a gateway that also forwards to the destination."""
    (tmp_path / "otel-telemetry.toml").write_text(
        f'[forward.there]\nendpoint = "http://127.0.0.1:{destination.port}"\nprotocol = "http"\ntimeout = 2\n'
    )
    return gateway()


def test_a_destination_that_is_down_for_longer_than_an_sdk_waits_gets_everything_when_it_is_up(
    forwarding: Any, destination: Destination
) -> None:
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{forwarding.http}/v1/traces", timeout=1)
    provider = TracerProvider(shutdown_on_exit=False)
    kept: list[Any] = []
    provider.add_span_processor(SimpleSpanProcessor(_Keeping(kept)))
    with Load(forwarding, pause=0.02) as load:
        load.wait_for(60)
        eventually(lambda: forwarding.health()["parts"]["exporters"][THERE]["status"] == "waiting", "it is away")
        provider.get_tracer("t").start_span("from the SDK").end()
        assert exporter.export(kept) is SpanExportResult.SUCCESS
        time.sleep(1.5)  # longer than this SDK would wait
        load.wait_for(20)
    forwarding.delivered()  # the rows did not wait for it
    assert forwarding.lag(THERE) > 0
    assert forwarding.health()["status"] == "degraded"
    destination.up()
    forwarding.delivered(THERE)
    assert destination.has(load.acknowledged | {kept[0].context.trace_id.to_bytes(16, "big")})
    spans = destination.spans()
    assert len(spans) == len(set(spans)), "nothing was sent twice, as nothing was in doubt"
    check_truth(forwarding, len(spans), THERE)
    assert not load.refused
    provider.shutdown()


class _Keeping(SpanExporter):
    def __init__(self, kept: list[Any]) -> None:
        self._kept = kept

    def export(self, spans: Any) -> SpanExportResult:
        self._kept.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is open."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


def test_a_slow_destination_slows_neither_senders_nor_the_rows(forwarding: Any, destination: Destination) -> None:
    def slowly(got: Any) -> Say:
        time.sleep(0.4)
        return Say()

    destination.receiver.answer = slowly
    destination.up()
    with Load(forwarding) as load:
        load.wait_for(200)
        forwarding.memory()
    assert not load.refused
    destination.receiver.answer = lambda got: Say()
    forwarding.delivered(THERE)
    assert destination.has(load.acknowledged)
    check(forwarding, load)


def test_a_destination_that_refuses_for_a_while_is_asked_again_when_it_said(
    forwarding: Any, destination: Destination
) -> None:
    asked: list[float] = []
    accepted: list[int] = []

    def refuse_twice(got: Any) -> Say:
        asked.append(time.monotonic())
        if len(asked) > 2:
            accepted.append(len(asked))
            return Say()
        return Say(503, headers={"Retry-After": "1"})

    destination.receiver.answer = refuse_twice
    destination.up()
    with Load(forwarding, pause=0.02) as load:
        load.wait_for(60)
        eventually(lambda: accepted, "it takes what it is sent")
    assert asked[1] - asked[0] >= 1
    assert asked[2] - asked[1] >= 1
    forwarding.delivered(THERE)
    assert destination.has(load.acknowledged)
    assert not load.refused
    check(forwarding, load)


def test_a_destination_killed_in_the_middle_of_an_answer_gets_that_request_again(
    forwarding: Any, destination: Destination
) -> None:
    destination.up()
    with Load(forwarding, pause=0.01) as load:
        load.wait_for(40)
        destination.down()
        load.wait_for(40)
        destination.up()
        load.wait_for(20)
    forwarding.delivered(THERE)
    assert destination.has(load.acknowledged)
    check(forwarding, load)
