"""Topics between receiving and delivering: what others write to them, what is wrong with them, operators' changes."""

import os
import secrets
import threading
from typing import Any

import pytest
from pydantic import SecretStr

from otel_telemetry.base.errors import BrokersAway, ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.kafka import client, topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.reader import KafkaReader
from otel_telemetry.gateway.kafka.transport import KafkaTransport
from tests.backends.kafka_broker import KafkaBroker
from tests.gateway.kafka.topics import MIB, Open, all_committed, look, names, request, spans_of, take, write
from tests.waiting import eventually


# --- what others write ------------------------------------------------------------------------------------------------
def test_what_another_program_wrote_is_redacted_before_it_is_delivered(opened: Open, config: KafkaSettings) -> None:
    transport = opened()
    transport.attach(["one"])
    write(config, request("theirs", note="write to anna@example.com"))
    (body,) = take(transport, 1)
    assert b"anna@example.com" not in body
    assert b"[REDACTED_EMAIL]" in body


def test_with_a_secret_only_what_a_gateway_signed_passes_as_redacted(redactor: Any, config: KafkaSettings) -> None:
    signing = config.model_copy(update={"secret": SecretStr("0123456789abcdef")})
    transport = KafkaTransport(signing, redactor, 200_000, 64 * MIB)
    try:
        transport.attach(["one"])
        foreign = request("theirs", note="write to anna@example.com")
        ours = request("ours", note="signed, so nobody looks for bert@example.com")
        transport.append("traces", ours, 1).result(30)
        (made,) = take(transport, 1)
        assert made == ours
        signed = dict(client.own_headers(signing, ours, 1))
        wrong: list[dict[str, str | bytes | None]] = [{client.ITEMS: b"1"}, {"otel-telemetry-signature": b"\xff" * 64}]
        for headers in (wrong[0], signed, signed | wrong[1]):
            write(signing, foreign, headers=headers)
            (body,) = take(transport, 1)
            assert b"anna@example.com" not in body
        write(signing, foreign, headers=signed)
        assert not any("anna@" in line for line in KafkaReader(signing).cat())
    finally:
        transport.close()


def test_messages_that_nobody_can_decode_are_dead_letters_without_a_body_and_the_rest_goes_on(
    opened: Open, config: KafkaSettings
) -> None:
    transport = opened()
    transport.attach(["one"])
    secret = b"anna@example.com"
    write(config, b"\xff\xfe" + secret, b"", b'{"resourceSpans":[]} ' + secret, os.urandom(64), request("good"))
    assert names(take(transport, 1)) == ["good"]
    eventually(lambda: all_committed(transport))
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
        eventually(lambda: all_committed(transport))
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


SAME = b"same" * 4


def test_a_topic_deleted_under_way_is_named_and_all_goes_on_once_it_is_there_again(
    opened: Open, config: KafkaSettings, kafka: KafkaBroker
) -> None:
    transport = opened()
    transport.attach(["one"])
    transport.append("traces", request("before", trace_id=SAME), 1).result(30)
    assert names(take(transport, 1)) == ["before"]
    gone = f"{config.topic_prefix}spans"
    admin = kafka.admin()
    admin.delete_topics([gone])[gone].result(30)

    def refused() -> bool:
        try:
            transport.append("traces", request("lost", trace_id=SAME), 1).result(30)
        except BrokersAway as error:
            return gone in str(error)
        return False

    eventually(refused)
    topics.create(config, 1, 24)

    def taken() -> bool:
        try:
            transport.append("traces", request("after", trace_id=SAME), 1).result(30)
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
    eventually(lambda: all_committed(transport))
    transport.close()
    again = opened()
    for name in ("gone", "gone too", "there"):
        again.append("traces", request(name, trace_id=trace_id), 1).result(30)
    (partition,) = [partition for partition, end in again._reader.ends()[1].items() if end == 4]
    admin = kafka.admin()
    deleted = admin.delete_records([TopicPartition(*partition, 3)])
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
    eventually(lambda: all_committed(first) if not second.due("one", 1, 1) else False)


# --- settings ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"brokers": ""}, "gateway.kafka.brokers"),
        ({"secret": SecretStr("s3cret")}, "gateway.kafka.secret"),
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

    modules = "sys, otel_telemetry.assemble_gateway, otel_telemetry.commands.spool"
    code = f"import {modules}; print('confluent_kafka' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
    assert GatewaySettings().transport == "disk"


def test_what_a_broker_calls_a_repetition_and_gives_no_offset_for_is_not_acknowledged(opened: Open) -> None:
    class WithoutOffset:
        def offset(self) -> None:
            return None

    outcome = opened()._producer._outcome(None, WithoutOffset())  # type: ignore[arg-type]
    assert isinstance(outcome, BrokersAway)
