"""Topics of one test's own, and transports over them."""

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from otel_telemetry.gateway.kafka import topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.transport import KafkaTransport
from tests.backends.kafka_broker import KafkaBroker
from tests.gateway.kafka.topics import MIB, Open


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
