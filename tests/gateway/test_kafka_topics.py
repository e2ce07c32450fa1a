"""Topics between receiving and delivering: what others write to them, what is wrong with them, operators' changes."""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_telemetry.base.errors import BrokersAway, ConfigurationError, TooDense
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.kafka import client, topics
from otel_telemetry.gateway.kafka import split as splitting
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.operator import KafkaOperator
from otel_telemetry.gateway.kafka.reader import KafkaReader
from otel_telemetry.gateway.kafka.split import split
from otel_telemetry.gateway.kafka.transport import KafkaTransport
from otel_telemetry.gateway.spool.reader import Batch
from tests.backends.kafka_broker import KafkaBroker
from tests.waiting import eventually

MIB = 1 << 20
EVER = 1 << 62
Open = Callable[[], KafkaTransport]


@pytest.fixture
def config(kafka: KafkaBroker) -> KafkaSettings:
    """Topics of one test's own."""
    made = KafkaSettings(
        brokers=kafka.brokers,
        topic_prefix=f"t{secrets.token_hex(4)}_",
        partitions=3,
        max_message_bytes=100_000,
        acknowledge_seconds=3,
        options={"session.timeout.ms": "2000", "heartbeat.interval.ms": "200"},
    )
    topics.create(made, 1, 24)
    return made


@pytest.fixture
def opened(config: KafkaSettings, redactor: Any) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_one() -> KafkaTransport:
            transport = KafkaTransport(config, redactor, 200_000, 64 * MIB)
            stack.callback(transport.close)
            return transport

        yield open_one


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


def settled(transport: KafkaTransport, sink: str = "one") -> bool:
    """Tell whether all offsets are committed; the callbacks of commits come as messages are asked for."""
    assert not transport.due(sink, MIB, 256)
    return transport.status().lag[sink].batches == 0


def write(config: KafkaSettings, *values: bytes, topic: str = "spans", key: bytes = b"k") -> None:
    """Write messages as any other program would."""
    from confluent_kafka import Producer

    producer = Producer({"bootstrap.servers": config.brokers, "message.max.bytes": 10 * MIB, "log_level": 0})
    answers: list[Any] = []
    for value in values:
        producer.produce(config.topic_prefix + topic, value, key, on_delivery=lambda error, _: answers.append(error))
    producer.flush(30)
    assert answers == [None] * len(values)


# --- what others write ------------------------------------------------------------------------------------------------
def test_what_another_program_wrote_is_redacted_before_it_is_delivered(opened: Open, config: KafkaSettings) -> None:
    transport = opened()
    transport.attach(["one"])
    write(config, request("theirs", note="write to anna@example.com"))
    (body,) = take(transport, 1)
    assert b"anna@example.com" not in body
    assert b"[REDACTED_EMAIL]" in body


def test_messages_that_nobody_can_decode_are_dead_letters_without_a_body_and_the_rest_goes_on(
    opened: Open, config: KafkaSettings
) -> None:
    transport = opened()
    transport.attach(["one"])
    secret = b"anna@example.com"
    write(config, b"\xff\xfe" + secret, b"", b'{"resourceSpans":[]} ' + secret, os.urandom(64), request("good"))
    assert names(take(transport, 1)) == ["good"]
    eventually(lambda: settled(transport))
    found = KafkaReader(config).dead_letters()
    assert {(one.exporter, one.signal) for one in found} == {("one", "traces")}
    assert sum(one.batches for one in found) >= 2
    assert all(f"{config.topic_prefix}spans[" in one.reason for one in found)
    assert transport.status().dead_bytes == {"one": 0}
    heads = KafkaReader(config).heads()
    assert not any(secret in key or secret.decode() in head.reason for key, head in heads.items())


def test_a_message_larger_than_the_gateway_takes_is_a_dead_letter_that_says_so(
    kafka: KafkaBroker, redactor: Any, config: KafkaSettings
) -> None:
    transport = KafkaTransport(config, redactor, 50_000, 64 * MIB)
    try:
        transport.attach(["one"])
        write(config, request("large", note="x" * 60_000), request("good"))
        assert names(take(transport, 1)) == ["good"]
        eventually(lambda: settled(transport))
        (found,) = KafkaReader(config).dead_letters()
        assert "gateway.max_body_bytes" in found.reason
    finally:
        transport.close()


# --- the topics -------------------------------------------------------------------------------------------------------
def test_a_missing_topic_stops_the_start_and_is_named_with_what_makes_it(kafka: KafkaBroker, redactor: Any) -> None:
    config = KafkaSettings(brokers=kafka.brokers, topic_prefix=f"t{secrets.token_hex(4)}_")
    with pytest.raises(ConfigurationError, match=f"no topic {config.topic_prefix}spans") as raised:
        KafkaTransport(config, redactor, MIB, MIB)
    assert topics.MAKE in raised.value.hint


def test_a_topic_with_other_partitions_stops_the_start_and_is_named(config: KafkaSettings, redactor: Any) -> None:
    other = config.model_copy(update={"partitions": 4})
    with pytest.raises(ConfigurationError, match=f"{config.topic_prefix}spans has 3 partitions, and 4 are expected"):
        KafkaTransport(other, redactor, MIB, MIB)


def test_a_topic_deleted_under_way_is_named_and_all_goes_on_once_it_is_there_again(
    opened: Open, config: KafkaSettings, kafka: KafkaBroker
) -> None:
    transport = opened()
    transport.attach(["one"])
    transport.append("traces", request("before"), 1).result(30)
    assert names(take(transport, 1)) == ["before"]
    gone = f"{config.topic_prefix}spans"
    admin = kafka.admin()
    admin.delete_topics([gone])[gone].result(30)

    def refused() -> bool:
        try:
            transport.append("traces", request("lost"), 1).result(30)
        except BrokersAway as error:
            return gone in str(error)
        return False

    eventually(refused)
    topics.create(config, 1, 24)

    def taken() -> bool:
        try:
            transport.append("traces", request("after"), 1).result(30)
        except BrokersAway:
            return False
        return True

    eventually(taken)

    def delivered() -> Any:
        try:
            transport.wait("one", 0.2)
            return [span.name for span in spans_of([batch.body for batch in transport.due("one", MIB, 256)])]
        except BrokersAway:
            return []

    assert "after" in eventually(delivered)


def test_what_the_retention_took_before_it_was_delivered_is_counted(
    opened: Open, config: KafkaSettings, kafka: KafkaBroker
) -> None:
    from confluent_kafka import TopicPartition

    transport = opened()
    transport.attach(["one"])
    trace_id = os.urandom(16)
    transport.append("traces", request("first", trace_id=trace_id), 1).result(30)
    assert names(take(transport, 1)) == ["first"]
    eventually(lambda: settled(transport))
    transport.close()
    again = opened()
    for name in ("gone", "gone too", "there"):
        again.append("traces", request(name, trace_id=trace_id), 1).result(30)
    (place,) = [place for place, end in again._reader.ends()[1].items() if end == 4]
    admin = kafka.admin()
    deleted = admin.delete_records([TopicPartition(*place, 3)])
    next(iter(deleted.values())).result(30)
    again.attach(["one"])
    assert names(take(again, 1)) == ["there"]
    assert again.status().missed == {"one": {"expired": 2}}


# --- several that deliver ---------------------------------------------------------------------------------------------
def test_partitions_that_move_in_mid_delivery_lose_nothing(opened: Open) -> None:
    first, second = opened(), opened()
    sent = [f"span {number:03}" for number in range(120)]
    for name in sent:
        first.append("traces", request(name), 1).result(30)
    first.attach(["one"])
    got: list[bytes] = []
    batches = eventually(lambda: look(first, 20))
    second.attach(["one"])
    over = threading.Event()
    more: list[bytes] = []

    def deliver_too() -> None:
        while not over.is_set():
            found = second.due("one", 2_000, 256)
            more.extend(batch.body for batch in found)
            if found:
                second.advance("one", found)
            else:
                second.wait("one", 0.1)

    thread = threading.Thread(target=deliver_too)
    thread.start()
    try:

        def moved() -> bool:
            first.hold("one")
            return bool(more)

        eventually(moved)  # the other one has partitions that were the first one's
        got += [batch.body for batch in batches]
        first.advance("one", batches)

        def rest() -> bool:
            found = first.due("one", MIB, 256)
            got.extend(batch.body for batch in found)
            if found:
                first.advance("one", found)
            return len({span.name for span in spans_of([*got, *more])}) == len(sent)

        eventually(rest)
    finally:
        over.set()
        thread.join()
    assert set(names([*got, *more])) == set(sent)
    eventually(lambda: settled(first) if not second.due("one", 1, 1) else False)


# --- splitting --------------------------------------------------------------------------------------------------------
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
    told = [
        (group.schema_url, group.resource.attributes[0].value.int_value, scope.scope.name, span.span_id)
        for source in ([body], [piece for _, piece, _ in pieces])
        for part in source
        for group in ExportTraceServiceRequest.FromString(part).resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]
    assert sorted(told[:160]) == sorted(told[160:])


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


# --- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"brokers": ""}, "gateway.kafka.brokers"),
        ({"options": {"acks": "1"}}, "gateway.kafka.options.acks"),
        ({"options": {"no.such.option": "s3cret"}}, "gateway.kafka.options.no.such.option"),
        ({"options": {"security.protocol": "s3cret"}}, "gateway.kafka.options.security.protocol"),
    ],
)
def test_wrong_settings_name_their_key_and_no_secret(given: Any, key: str, redactor: Any) -> None:
    config = KafkaSettings(**{"brokers": "127.0.0.1:1", **given})
    with pytest.raises(ConfigurationError) as raised:
        KafkaTransport(config, redactor, MIB, MIB)
    assert raised.value.key == key
    assert "s3cret" not in f"{raised.value}{config!r}"


def test_the_library_is_asked_for_only_where_kafka_is_chosen() -> None:
    import subprocess
    import sys

    told = "import sys, otel_telemetry.assemble_gateway, otel_telemetry.cli; print('confluent_kafka' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
    assert GatewaySettings().transport == "disk"


def test_what_a_broker_calls_a_repetition_and_gives_no_offset_for_is_not_acknowledged(opened: Open) -> None:
    class WithoutOffset:
        def offset(self) -> None:
            return None

    told = opened()._producer._outcome(None, WithoutOffset())  # type: ignore[arg-type]
    assert isinstance(told, BrokersAway)


# --- operators' changes -----------------------------------------------------------------------------------------------
def dead_letter(transport: KafkaTransport, name: str) -> None:
    transport.append("traces", request(name), 1).result(30)
    batches = eventually(lambda: look(transport))
    transport.advance("one", batches, [(batch, "invalid: for a test") for batch in batches])


def test_a_dead_letter_is_kept_until_it_is_delivered_again(opened: Open, config: KafkaSettings) -> None:
    transport = opened()
    transport.attach(["one"])
    dead_letter(transport, "letter")
    with KafkaOperator(config, dry_run=True) as operator:
        assert operator.replay_dead("one", EVER).batches == 1
    assert transport.status().dead_letters == 1
    with KafkaOperator(config) as operator:
        assert operator.replay_dead("one", 0).batches == 0
        assert operator.replay_dead("one", EVER).items == 1
    batches = eventually(lambda: look(transport))
    assert names([batch.body for batch in batches]) == ["letter"]
    transport.advance("one", batches, [(batches[0], "invalid: still")])
    eventually(lambda: [one.reason for one in KafkaReader(config).dead_letters()] == ["invalid: still"])
    with KafkaOperator(config) as operator:
        operator.replay_dead("one", EVER)
    assert names(take(transport, 1)) == ["letter"]
    eventually(lambda: transport.status().dead_letters == 0)


def test_dead_letters_are_dropped_on_request_only_those_of_that_exporter(opened: Open, config: KafkaSettings) -> None:
    transport = opened()
    transport.attach(["one"])
    dead_letter(transport, "letter")
    transport.set_aside("receiver", "traces", "took a receiver down: 1 MB")
    with KafkaOperator(config) as operator:
        assert operator.drop_dead("one", EVER).batches == 1
        with pytest.raises(ConfigurationError, match="nothing for 'nobody'"):
            operator.drop_dead("nobody", EVER)
    assert {head.sink for head in KafkaReader(config).heads().values()} == {"receiver"}


def test_places_are_moved_while_nobody_delivers_and_only_then(opened: Open, config: KafkaSettings) -> None:
    transport = opened()
    transport.attach(["one"])
    transport.append("traces", request("a"), 1).result(30)
    between = time.time_ns() + 5_000_000
    assert names(take(transport, 1)) == ["a"]
    eventually(lambda: time.time_ns() > between + 5_000_000)
    transport.append("traces", request("b"), 1).result(30)
    assert names(take(transport, 1)) == ["b"]
    eventually(lambda: settled(transport))
    with KafkaOperator(config) as operator:
        for change in (operator.replay_since, operator.drop_undelivered):
            with pytest.raises(ConfigurationError, match="1 processes deliver to one") as raised:
                change("one", between)
            assert "stop the gateways" in raised.value.hint
        transport.close()
        assert operator.replay_since("one", between).items == 1
        again = opened()
        again.attach(["one"])
        assert names(take(again, 1)) == ["b"]
        eventually(lambda: settled(again))
        again.append("traces", request("c"), 1).result(30)
        again.close()
        assert operator.drop_undelivered("one", EVER).items == 1
        assert KafkaReader(config).status().lag["one"].batches == 0
        assert operator.forget("one").batches == 0
        assert "one" not in KafkaReader(config).positions()


def test_everything_that_gateways_wrote_can_be_printed_and_nothing_that_is_not_redacted(
    opened: Open, config: KafkaSettings
) -> None:
    opened().append("traces", request("ours"), 1).result(30)
    write(config, request("theirs", note="write to anna@example.com"))
    (line,) = KafkaReader(config).cat()
    assert '"ours"' in line


def test_topics_are_made_once(config: KafkaSettings) -> None:
    assert topics.create(config, 1, 24) == []
    topics.check(config)
    assert set(client.Topics(config).partitions.values()) == {1, 3}
