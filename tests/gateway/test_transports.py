"""What the spool on the disk and topics of Kafka have in common, held against both: the same tests, run on each."""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.destinations import Receipt, Rejected
from otel_telemetry.base.errors import StoreUnavailable
from otel_telemetry.gateway.deliver import circuit
from otel_telemetry.gateway.deliver.delivery import Delivery
from otel_telemetry.gateway.spool.transport import Transport
from otel_telemetry.gateway.spool.writer import Spool
from tests.waiting import eventually

MIB = 1 << 20
Open = Callable[[], Transport]


@pytest.fixture(params=["disk", "kafka"])
def opened(request: pytest.FixtureRequest, tmp_path: Path, redactor: Any) -> Iterator[Open]:
    """Return `opened()`, which opens the same transport once more, as another process would."""
    with ExitStack() as stack:

        def on_disk() -> Transport:
            spool = Spool(tmp_path / "spool", 64 * MIB, 24)
            stack.callback(spool.close)
            return spool

        def in_topics() -> Transport:
            transport = KafkaTransport(config, redactor, 8 * MIB, 64 * MIB)
            stack.callback(transport.close)
            return transport

        if request.param == "disk":
            yield on_disk
            return
        broker = request.getfixturevalue("kafka")
        from otel_telemetry.gateway.kafka import topics
        from otel_telemetry.gateway.kafka.config import KafkaSettings
        from otel_telemetry.gateway.kafka.transport import KafkaTransport

        config = KafkaSettings(
            brokers=broker.brokers,
            topic_prefix=f"t{secrets.token_hex(4)}_",
            partitions=3,
            options={"session.timeout.ms": "2000", "heartbeat.interval.ms": "200"},
        )
        topics.create(config, 1, 24)
        yield in_topics


def spans(*names: str, trace_id: bytes = b"") -> bytes:
    request = ExportTraceServiceRequest()
    of_scope = request.resource_spans.add().scope_spans.add().spans
    for name in names:
        of_scope.add(trace_id=trace_id or os.urandom(16), span_id=os.urandom(8), name=name)
    return request.SerializeToString()


def names(bodies: Sequence[bytes]) -> list[str]:
    return [
        span.name
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def take(transport: Transport, sink: str, items: int, wanted: Any = ()) -> list[Any]:
    """Return what is due once so many items are."""
    end = time.monotonic() + 30
    while True:
        found = transport.due(sink, MIB, 256, wanted)
        if sum(batch.items for batch in found if not batch.left_out) >= items:
            return found
        assert time.monotonic() < end, f"{len(found)} batches are due"
        transport.wait(sink, 0.2)


def test_what_is_acknowledged_is_due_to_each_destination_whole(opened: Open) -> None:
    transport = opened()
    transport.attach(["one", "two"])
    sent = [f"span {number}" for number in range(40)]
    transport.append("traces", spans(*sent), 40).result(30)
    for sink in ("one", "two"):
        batches = take(transport, sink, 40)
        assert sorted(names([batch.body for batch in batches])) == sorted(sent)
        assert sum(batch.items for batch in batches) == 40
        assert all(abs(batch.received_ns - time.time_ns()) < 60e9 for batch in batches)


def test_spans_of_one_trace_are_due_in_the_order_in_which_they_were_acknowledged(opened: Open) -> None:
    transport = opened()
    transport.attach(["one"])
    trace_id = os.urandom(16)
    for number in range(20):
        transport.append("traces", spans(f"{number}", trace_id=trace_id), 1).result(30)
    assert names([batch.body for batch in take(transport, "one", 20)]) == [str(number) for number in range(20)]


def test_what_was_not_advanced_comes_again_and_what_was_does_not(opened: Open) -> None:
    transport = opened()
    transport.attach(["one"])
    trace_id = os.urandom(16)
    for name in "abc":
        transport.append("traces", spans(name, trace_id=trace_id), 1).result(30)
    batches = take(transport, "one", 3)
    assert [batch.seq for batch in transport.due("one", MIB, 256)] == [batch.seq for batch in batches]
    transport.advance("one", batches[:1])
    assert names([batch.body for batch in take(transport, "one", 2)]) == ["b", "c"]
    eventually(lambda: not transport.due("one", 1, 1) or transport.status().lag["one"].batches == 2)
    transport.close()
    again = opened()
    again.attach(["one"])
    assert names([batch.body for batch in take(again, "one", 2)]) == ["b", "c"]


def test_a_second_process_appends_and_the_first_delivers(opened: Open) -> None:
    receiving, delivering = opened(), opened()
    delivering.attach(["one"])
    receiving.append_all("traces", [(spans("a"), 1), (spans("b"), 1)]).result(30)
    assert sorted(names([batch.body for batch in take(delivering, "one", 2)])) == ["a", "b"]


def test_many_threads_append_at_one_time_and_nothing_is_lost_or_doubled(opened: Open) -> None:
    transport = opened()
    transport.attach(["one"])

    def send(sender: int) -> None:
        for number in range(25):
            transport.append("traces", spans(f"{sender}.{number}"), 1).result(30)

    threads = [threading.Thread(target=send, args=(sender,)) for sender in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names([batch.body for batch in take(transport, "one", 200)])) == sorted(
        f"{sender}.{number}" for sender in range(8) for number in range(25)
    )


def test_a_destination_gets_no_bodies_of_signals_that_it_does_not_want(opened: Open) -> None:
    transport = opened()
    transport.attach(["one"])
    logs = ExportLogsServiceRequest()
    logs.resource_logs.add().scope_logs.add().log_records.add().body.string_value = "a line"
    transport.append("logs", logs.SerializeToString(), 1).result(30)
    transport.append("traces", spans("a"), 1).result(30)
    found = take(transport, "one", 1, {"traces"})
    assert [batch.signal for batch in found if batch.body] == ["traces"]


def test_a_dead_letter_has_its_reason_and_no_other_destination_misses_it(opened: Open) -> None:
    transport = opened()
    transport.attach(["one", "two"])
    transport.append("traces", spans("bad"), 1).result(30)
    batches = take(transport, "one", 1)
    transport.advance("one", batches, [(batches[0], "invalid: it is not wanted")])
    assert not transport.due("one", MIB, 256)
    eventually(lambda: not transport.due("one", MIB, 256) and transport.status().dead_letters == 1)
    assert transport.status().dead_items == {"one": 1}
    assert names([batch.body for batch in take(transport, "two", 1)]) == ["bad"]


def test_a_request_that_took_a_receiver_down_leaves_a_letter_without_its_body(opened: Open) -> None:
    transport = opened()
    transport.attach(["one"])
    transport.set_aside("receiver", "traces", "took a receiver down: 1 MB")
    eventually(lambda: transport.status().dead_letters == 1)
    assert transport.status().dead_bytes == {"receiver": 0}


def test_a_wait_ends_when_something_comes_or_when_it_is_told_to(opened: Open) -> None:
    transport = opened()
    transport.attach(["one"])
    assert not transport.due("one", MIB, 256)
    over = threading.Event()

    def wait() -> None:
        transport.wait("one", 600)
        over.set()

    def woken() -> bool:
        transport.wake()
        return over.is_set()

    threading.Thread(target=wait, daemon=True).start()
    eventually(woken)
    transport.append("traces", spans("a"), 1).result(30)
    transport.wait("one", 600)
    assert names([batch.body for batch in take(transport, "one", 1)]) == ["a"]


class Destination:
    """Takes what comes but for a few answers: away, halves, never."""

    def __init__(self, *answers: Any) -> None:
        self.name = "one"
        self.answers = list(answers)
        self.bodies: list[bytes] = []

    def deliver(self, signal: Any, bodies: Sequence[bytes]) -> Receipt | None:
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if any("poison" in names([body]) for body in bodies):
            raise ValueError("never")
        self.bodies += bodies
        return answer(bodies) if answer else None

    def close(self) -> None: ...


def test_a_destination_that_is_away_and_some_bad_batches_lose_nothing(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(circuit, "_FIRST_PAUSE", 0.05)
    transport = opened()
    sink = Destination(StoreUnavailable("away"), StoreUnavailable("away"))
    transport.attach(["one"])
    sent = [f"span {number}" for number in range(30)]
    for name in sent:
        transport.append("traces", spans(name), 1).result(30)
    transport.append("traces", spans("poison"), 1).result(30)
    delivery = Delivery(transport, sink)
    delivery.start()
    try:
        eventually(lambda: len(sink.bodies) == 30 and transport.status().dead_letters == 1)
        eventually(lambda: transport.status().lag["one"].batches == 0)
    finally:
        delivery.stop()
        eventually(delivery.finished)
    assert sorted(names(sink.bodies)) == sorted(sent)


def test_two_parts_of_one_batch_that_a_destination_rejects_are_two_letters(opened: Open) -> None:
    transport = opened()
    parts = [Rejected(1, "invalid", text, body=spans(text)) for text in "xy"]
    sink = Destination(lambda bodies: Receipt(rejected=parts))
    transport.attach(["one"])
    transport.append("traces", spans("a", "b", "c", trace_id=b"t" * 16), 3).result(30)
    delivery = Delivery(transport, sink)
    delivery.start()
    try:
        eventually(lambda: transport.status().dead_items == {"one": 2} and transport.status().dead_letters == 2)
    finally:
        delivery.stop()
        eventually(delivery.finished)
