"""Requests become messages that topics take, those of one trace in one partition."""

import os
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.errors import TooDense
from otel_telemetry.gateway.kafka import split as splitting
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.split import split
from tests.gateway.kafka.topics import MIB, Open, request, spans_of


def test_spans_of_a_trace_are_in_one_message_and_nothing_is_lost_by_splitting() -> None:
    traces = [os.urandom(16) for _ in range(20)]
    made = ExportTraceServiceRequest()
    for number in range(4):
        group = made.resource_spans.add(schema_url=f"schema {number}")
        group.resource.attributes.add(key="number").value.int_value = number
        for scope_name in ("a", "b"):
            scope = group.scope_spans.add()
            scope.scope.name = scope_name
            for trace in traces:
                scope.spans.add(trace_id=trace, span_id=os.urandom(8), name=f"{number}{scope_name}")
    body = made.SerializeToString() + b"\xfa\x3e\x03abc"  # and a field that nobody knows
    pieces = split("traces", body, 160, buckets=5, spare=0, largest=MIB)
    assert sum(items for _, _, items in pieces) == 160
    assert len({bucket for bucket, _, _ in pieces}) == len(pieces) > 1
    of_trace: dict[bytes, set[int]] = {}
    for bucket, piece, _ in pieces:
        for span in spans_of([piece]):
            of_trace.setdefault(span.trace_id, set()).add(bucket)
    assert all(len(buckets) == 1 for buckets in of_trace.values())
    spans = [
        (group.schema_url, group.resource.attributes[0].value.int_value, scope.scope.name, span.span_id)
        for source in ([body], [piece for _, piece, _ in pieces])
        for part in source
        for group in ExportTraceServiceRequest.FromString(part).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]
    assert sorted(spans[:160]) == sorted(spans[160:])


@pytest.mark.parametrize(
    "how",
    ["as SDKs write it", "id not first", "unknown field first", "two of one resource", "no spans", "long varints"],
)
def test_cutting_bytes_and_parsing_them_give_the_same_messages(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [request(*"abcdefgh", note="x" * 300) for _ in range(3)]
    body = b"".join(parts)
    if how == "id not first":
        span = spans_of([request("late")])[0]
        late = span.SerializeToString()
        late = late[18:] + late[:18]
        scope = b"\x12" + bytes([len(late)]) + late
        body += b"\x0a" + bytes([len(scope) + 2]) + b"\x12" + bytes([len(scope)]) + scope
    elif how == "unknown field first":
        body = b"\xfa\x3e\x03abc" + body
    elif how == "two of one resource":
        made = ExportTraceServiceRequest.FromString(body)
        made.resource_spans[0].scope_spans.add().CopyFrom(made.resource_spans[1].scope_spans[0])
        body = made.SerializeToString()
    elif how == "no spans":
        body += b"\x0a\x02\x12\x00"
    elif how == "long varints":
        body += b"\x0a\x80\x80\x00"
    count = len(spans_of([body]))
    cut = split("traces", body, count, buckets=4, spare=0, largest=MIB)
    monkeypatch.setattr(splitting, "_cut", lambda *_: [])
    parsed = split("traces", body, count, buckets=4, spare=0, largest=MIB)

    def shown(pieces: list[Any]) -> Any:
        return sorted(
            (bucket, items, sorted(span.SerializeToString() for span in spans_of([piece])))
            for bucket, piece, items in pieces
        )

    assert shown(cut) == shown(parsed)
    assert sum(items for _, _, items in cut) == count


def test_a_request_for_one_bucket_goes_on_byte_for_byte() -> None:
    body = request("a", "b", trace_id=os.urandom(16))
    ((_, piece, items),) = split("traces", body, 2, buckets=12, spare=0, largest=MIB)
    assert piece is body
    assert items == 2


@pytest.mark.parametrize("signal", ["traces", "metrics"])
def test_a_large_request_becomes_messages_that_topics_take(signal: Any) -> None:
    if signal == "traces":
        body, items = request(*("n" * 900 for _ in range(300)), trace_id=b"t" * 16), 300
    else:
        made = ExportMetricsServiceRequest()
        metrics = made.resource_metrics.add().scope_metrics.add().metrics
        for number in range(300):
            points = metrics.add(name=f"{number}" * 200).gauge.data_points
            points.add(as_int=1)
            points.add(as_int=2)
        body, items = made.SerializeToString(), 600
    pieces = split(signal, body, items, buckets=3, spare=1, largest=50_000)
    assert len(pieces) > 1
    assert max(len(piece) for _, piece, _ in pieces) <= 50_000
    assert sum(count for _, _, count in pieces) == items
    assert len({bucket for bucket, _, _ in pieces}) == 1


def test_a_span_that_no_message_can_hold_is_refused_and_the_setting_named(opened: Open) -> None:
    with pytest.raises(TooDense, match=r"a span that takes \d+ bytes .* gateway.kafka.max_message_bytes is 100000"):
        opened().append("traces", request("huge", note="x" * 150_000), 1).result(30)


async def test_a_sender_of_such_a_span_is_told_so_for_good(
    serving: Any, config: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    import httpx

    async with serving(transport="kafka", kafka=config) as running, httpx.AsyncClient() as sender:
        for note, status in (("x" * 150_000, 413), ("x", 200)):
            answer = await sender.post(
                f"{running.http}/v1/traces",
                content=request("one", note=note),
                headers={"content-type": "application/x-protobuf"},
            )
            assert answer.status_code == status
            if status == 413:
                assert b"gateway.kafka.max_message_bytes" in answer.content
        health = (await sender.get(f"{running.http}/health")).json()
        assert health["parts"]["spool"]["transport"] == "kafka"
        assert health["parts"]["spool"]["brokers"] == config.brokers
