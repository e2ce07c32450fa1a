"""What tests of Kafka write to its topics, and read from them."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.transport import KafkaTransport
from otel_telemetry.gateway.spool.reader import Batch
from tests.waiting import eventually

MIB = 1 << 20
EVER = 1 << 62
Open = Callable[[], KafkaTransport]


def request(*names: str, trace_id: bytes = b"", note: str = "") -> bytes:
    made = ExportTraceServiceRequest()
    group = made.resource_spans.add()
    group.resource.attributes.add(key="service.name").value.string_value = "test"
    spans = group.scope_spans.add().spans
    for name in names:
        span = spans.add(trace_id=trace_id or os.urandom(16), span_id=os.urandom(8), name=name)
        span.attributes.add(key="note").value.string_value = note
    return made.SerializeToString()


def spans_of(bodies: Sequence[bytes]) -> list[Any]:
    return [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def names(bodies: Sequence[bytes]) -> list[str]:
    return sorted(span.name for span in spans_of(bodies))


def look(transport: KafkaTransport, most: int = 256) -> list[Batch]:
    """Return what is due now, or in a moment."""
    transport.wait("one", 0.2)
    return transport.due("one", MIB, most)


def take(transport: KafkaTransport, items: int) -> list[bytes]:
    """Return the bodies once so many items are due, and note that the sink has them."""

    def enough() -> list[Batch] | None:
        found = look(transport)
        return found if sum(batch.items for batch in found) >= items else None

    batches = eventually(enough)
    transport.advance("one", batches)
    return [batch.body for batch in batches]


def all_committed(transport: KafkaTransport, sink: str = "one") -> bool:
    """Tell whether all offsets are committed; the callbacks of commits come as messages are asked for."""
    assert not transport.due(sink, MIB, 256)
    return transport.status().lag[sink].batches == 0


def write(
    config: KafkaSettings,
    *values: bytes,
    topic: str = "spans",
    key: bytes = b"k",
    headers: dict[str, str | bytes | None] | None = None,
) -> None:
    """Write messages as any other program would."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": config.brokers, "message.max.bytes": 10 * MIB, "log_level": 0})
    answers: list[Any] = []
    for value in values:
        to = config.topic_prefix + topic
        producer.produce(to, value, key, headers=headers or {}, on_delivery=lambda error, _: answers.append(error))
    producer.flush(30)
    assert answers == [None] * len(values)
