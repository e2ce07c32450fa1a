"""Kafka between receiving and delivering: broker, receiver and deliverer die, and every row is there, once."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_telemetry.gateway.kafka.config import KafkaSettings
from tests.backends.kafka_broker import KafkaBroker
from tests.faults.kafka_gateway import KafkaGateway, check, new_topics
from tests.faults.load import Load, make_request
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def kafka_gateway(tmp_path: Path, nothing_left: None) -> Iterator[Callable[..., KafkaGateway]]:
    """Return `kafka_gateway(config, *options)`, which starts one in this test's folder."""
    with ExitStack() as stack:

        def start(config: KafkaSettings, *options: str, name: str = "gateway", **more: Any) -> KafkaGateway:
            return stack.enter_context(KafkaGateway(tmp_path / name, config, *options, **more))

        yield start


def send(gateway: KafkaGateway, trace_id: bytes) -> httpx.Response:
    return httpx.post(
        f"http://127.0.0.1:{gateway.http}/v1/traces",
        content=make_request(trace_id),
        headers={"content-type": "application/x-protobuf"},
        timeout=30,
    )


def test_a_broker_killed_under_load_loses_nothing_that_was_acknowledged(
    own_kafka: KafkaBroker, kafka_gateway: Any
) -> None:
    running = kafka_gateway(new_topics(own_kafka))
    with Load(running) as load:
        load.wait_for(60)
        own_kafka.kill()
        refused = eventually(
            lambda: (answer := send(running, os.urandom(16))).status_code == 503 and answer, "it is away"
        )
        assert b"Kafka takes no messages right now" in refused.content
        assert 1 <= int(refused.headers["retry-after"]) <= 3
        health = running.health()
        assert health["status"] == "unhealthy"
        assert own_kafka.brokers in health["parts"]["spool"]["problem"]
        own_kafka.start()
        load.wait_for(60)
    check(running, load)


@pytest.mark.parametrize("who", ["receivers", "deliverer", "gateway"])
def test_a_process_killed_under_load_leaves_every_row_once(kafka: KafkaBroker, kafka_gateway: Any, who: str) -> None:
    running = kafka_gateway(new_topics(kafka), "--workers", "2")
    with Load(running) as load:
        load.wait_for(60)
        if who == "gateway":
            running.kill()
            running.restart()
        else:
            os.kill(running.deliverer() if who == "deliverer" else running.receivers()[0], signal.SIGKILL)
        load.wait_for(100)
    check(running, load)
