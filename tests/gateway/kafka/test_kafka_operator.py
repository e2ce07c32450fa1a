"""What operators do with topics: dead letters, where deliveries are, what is printed."""

import time

import pytest

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.kafka import client, topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.operator import KafkaOperator
from otel_telemetry.gateway.kafka.reader import KafkaReader
from otel_telemetry.gateway.kafka.transport import KafkaTransport
from tests.gateway.kafka.topics import EVER, Open, all_committed, look, names, request, take, write
from tests.waiting import eventually


def write_dead_letter(transport: KafkaTransport, name: str) -> None:
    transport.append("traces", request(name), 1).result(30)
    batches = eventually(lambda: look(transport))
    transport.advance("one", batches, [(batch, "invalid: for a test") for batch in batches])


def test_a_dead_letter_is_kept_until_it_is_delivered_again(opened: Open, config: KafkaSettings) -> None:
    transport = opened()
    transport.attach(["one"])
    write_dead_letter(transport, "letter")
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
    write_dead_letter(transport, "letter")
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
    eventually(lambda: all_committed(transport))
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
        eventually(lambda: all_committed(again))
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
