"""Destinations that are away, slow or refuse: senders do not notice, the rows do not wait, and all of it arrives."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from tests.backends.process import free_port
from tests.exporters.otlp_receiver import Answer, Received, Receiver, grpc_receiver, http_receiver
from tests.faults.checks import MEMORY_LIMIT, check, check_truth
from tests.faults.load import CALLS, SPANS, Load, long_text, span_ids
from tests.waiting import eventually

THERE = "forward.there"
LONG = long_text(100)  # for each call


class Destination:
    """An OTLP server on a port of its own that may be there or not. `answer` makes its answers, success by default."""

    def __init__(self, protocol: str = "http") -> None:
        self.port = free_port()
        self.protocol = protocol
        self.answer: Callable[[Received], Answer] = lambda got: Answer()
        self._taken: list[tuple[bytes, bytes]] = []
        self._receiver = Receiver()
        self._receiver.answer = self._answer
        self._stack = ExitStack()

    def up(self) -> None:
        serve = http_receiver if self.protocol == "http" else grpc_receiver
        self._stack.enter_context(serve(self._receiver, self.port))

    def down(self) -> None:
        self._stack.close()

    def _answer(self, got: Received) -> Answer:
        self._receiver.got.clear()  # it may be more than memory should hold
        answer = self.answer(got)
        if answer.status == 200 and answer.code is grpc.StatusCode.OK:
            self._taken += spans_of(got.body)
        return answer

    def spans(self) -> list[tuple[bytes, bytes]]:
        """Return the (trace id, span id) of everything it said yes to."""
        return list(self._taken)

    def has(self, *loads: Load) -> bool:
        """Say whether it has every span of every acknowledged request."""
        there = set(self.spans())
        return all({(one, span) for span in span_ids(one)} <= there for load in loads for one in load.acknowledged)


def spans_of(body: bytes) -> list[tuple[bytes, bytes]]:
    return [
        (span.trace_id, span.span_id)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


@pytest.fixture
def destination(request: pytest.FixtureRequest) -> Iterator[Destination]:
    made = Destination(getattr(request, "param", "http"))
    yield made
    made.down()


BOTH = pytest.mark.parametrize("destination", ["http", "grpc"], indirect=True)


@pytest.fixture
def forwarding(gateway: Callable[..., Any], destination: Destination, tmp_path: Path) -> Any:
    """Return a gateway that also forwards to the destination."""
    (tmp_path / "otel-telemetry.toml").write_text(
        f'[forward.there]\nendpoint = "http://127.0.0.1:{destination.port}"\n'
        f'protocol = "{destination.protocol}"\ntimeout = 2\n'
    )
    return gateway()


def test_a_destination_that_is_down_for_longer_than_an_sdk_waits_gets_everything_when_it_is_up(
    forwarding: Any, destination: Destination
) -> None:
    exporter = OTLPSpanExporter(f"http://127.0.0.1:{forwarding.http}/v1/traces", timeout=1)
    provider = TracerProvider(shutdown_on_exit=False)
    ended: list[Any] = []
    provider.add_span_processor(SimpleSpanProcessor(_Collecting(ended)))
    with Load(forwarding, pause=0.02) as load:
        load.wait_for(60)
        eventually(lambda: forwarding.health()["parts"]["exporters"][THERE]["status"] == "waiting", "it is away")
        provider.get_tracer("t").start_span("from the SDK").end()
        assert exporter.export(ended) is SpanExportResult.SUCCESS
        time.sleep(1.5)  # longer than this SDK would wait
        load.wait_for(20)
    forwarding.delivered()  # the rows did not wait for it
    assert forwarding.lag(THERE) > 0
    assert forwarding.health()["status"] == "degraded"
    destination.up()
    forwarding.delivered(THERE)
    assert destination.has(load)
    spans = destination.spans()
    assert ended[0].context.trace_id.to_bytes(16, "big") in {trace_id for trace_id, _ in spans}
    assert len(spans) == len(set(spans)), "nothing was sent twice, as nothing was in doubt"
    check_truth(forwarding, len(spans), THERE)
    assert not load.refused
    provider.shutdown()


class _Collecting(SpanExporter):
    def __init__(self, spans: list[Any]) -> None:
        self._spans = spans

    def export(self, spans: Any) -> SpanExportResult:
        self._spans.extend(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is open."""

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


def test_a_slow_destination_slows_neither_senders_nor_the_rows(forwarding: Any, destination: Destination) -> None:
    def slowly(got: Any) -> Answer:
        time.sleep(0.4)
        return Answer()

    destination.answer = slowly
    destination.up()
    with Load(forwarding) as load:
        load.wait_for(200)
    assert not load.refused
    destination.answer = lambda got: Answer()
    forwarding.delivered(THERE)
    assert destination.has(load)
    check(forwarding, load)


def test_a_destination_that_refuses_for_a_while_is_asked_again_when_it_said(
    forwarding: Any, destination: Destination
) -> None:
    asked: list[float] = []
    accepted: list[int] = []

    def refuse_twice(got: Any) -> Answer:
        asked.append(time.monotonic())
        if len(asked) > 2:
            accepted.append(len(asked))
            return Answer()
        return Answer(503, headers={"Retry-After": "1"})

    destination.answer = refuse_twice
    destination.up()
    with Load(forwarding, pause=0.02) as load:
        load.wait_for(60)
        eventually(lambda: accepted, "it takes what it is sent")
    assert asked[1] - asked[0] >= 1
    assert asked[2] - asked[1] >= 1
    forwarding.delivered(THERE)
    assert destination.has(load)
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
    assert destination.has(load)
    check(forwarding, load)


def test_what_waits_for_a_destination_may_be_more_than_all_the_memory_that_is_allowed(
    forwarding: Any, destination: Destination
) -> None:
    with Load(forwarding, text=LONG) as load:
        load.wait_for(MEMORY_LIMIT // (CALLS * len(LONG)) + 1)
    assert forwarding.total("otel_telemetry_spool_lag_bytes", exporter=THERE) > MEMORY_LIMIT
    destination.up()
    with forwarding.watched():
        forwarding.delivered(THERE)
    assert destination.has(load)
    check(forwarding, load)


@BOTH
def test_a_destination_that_keeps_a_part_only_is_counted_by_its_word_and_nothing_is_sent_twice(
    forwarding: Any, destination: Destination
) -> None:
    rejected: list[int] = []

    def reject_two(got: Received) -> Answer:
        rejected.append(min(2, len(spans_of(got.body))))
        answer = ExportTraceServiceResponse()
        answer.partial_success.rejected_spans = rejected[-1]
        answer.partial_success.error_message = "too many of them"
        return Answer(body=answer.SerializeToString(), headers={"content-type": "application/x-protobuf"})

    destination.answer = reject_two
    destination.up()
    with Load(forwarding, pause=0.02) as load:
        load.wait_for(60)
    forwarding.delivered(THERE)
    assert destination.has(load)
    spans = destination.spans()
    assert len(spans) == len(set(spans))
    labels = {"exporter": THERE, "signal": "traces", "reason": "partial_success"}
    assert forwarding.total("otel_telemetry_rejected_total", **labels) == sum(rejected)
    assert forwarding.total("otel_telemetry_delivered_total", exporter=THERE) == len(spans) - sum(rejected)
    assert forwarding.health()["parts"]["exporters"][THERE]["rejected"] == {"partial_success": sum(rejected)}
    check_truth(forwarding, len(spans), THERE)
    check(forwarding, load)
    assert not load.refused


@BOTH
def test_what_a_destination_refuses_for_good_is_kept_counted_and_sent_again_when_somebody_says_so(
    forwarding: Any, destination: Destination
) -> None:
    def refuse_some(got: Received) -> Answer:
        bad = any(span_id[-1] % 16 == 0 for _, span_id in spans_of(got.body))
        if not bad:
            return Answer()
        return Answer(400, b"never", code=grpc.StatusCode.INVALID_ARGUMENT, details="never")

    destination.answer = refuse_some
    destination.up()
    with Load(forwarding, pause=0.02) as load:
        load.wait_for(60)
    forwarding.delivered(THERE)
    spans, all_of_them = destination.spans(), {(one, span) for one in load.acknowledged for span in span_ids(one)}
    dead = {one for one, span in all_of_them if span[-1] % 16 == 0}
    assert dead, "nothing was refused: the test shows nothing"
    assert {one for one, _ in all_of_them - set(spans)} == dead
    assert forwarding.total("otel_telemetry_spool_dead_letter_items", exporter=THERE) == SPANS * len(dead)
    assert forwarding.total("otel_telemetry_dead_lettered_total", exporter=THERE) == SPANS * len(dead)
    check_truth(forwarding, len(spans), THERE)
    check(forwarding, load)
    destination.answer = lambda got: Answer()
    forwarding.spool_command("replay", "--dead-letters", "--yes", "--exporter", THERE)
    eventually(lambda: not forwarding.total("otel_telemetry_spool_dead_letter_items"), "they are sent again")
    assert destination.has(load)
    check_truth(forwarding, len(set(destination.spans())), THERE)


@BOTH
def test_a_destination_that_never_answers_gets_everything_when_it_does(
    forwarding: Any, destination: Destination
) -> None:
    silent = threading.Event()
    asked: list[int] = []

    def wait(got: Received) -> Answer:
        asked.append(len(got.body))
        silent.wait(20)
        return Answer()

    destination.answer = wait
    destination.up()
    with Load(forwarding, pause=0.02) as load:
        eventually(lambda: len(asked) > 1, "it was asked again")
        load.wait_for(20)
        forwarding.delivered()  # the rows did not wait for it
        silent.set()
    forwarding.delivered(THERE)
    assert destination.has(load)
    assert not load.refused
    check(forwarding, load)
