"""Gateways with topics between receiving and delivering, and what has to hold of them after every fault."""

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otel_telemetry.base.errors import BrokersAway
from otel_telemetry.gateway.kafka import topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.reader import KafkaReader
from tests.backends.kafka_broker import KafkaBroker
from tests.faults.checks import check_memory, check_rows
from tests.faults.gateway_process import GatewayProcess
from tests.faults.load import Load
from tests.waiting import eventually

_PREFIX = "OTEL_TELEMETRY_GATEWAY__"
PARTITIONS = 4
#: A process that was killed is out of its group soon: tests need not wait as long as people would.
OPTIONS = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "500"}


def new_topics(broker: KafkaBroker, **settings: Any) -> KafkaSettings:
    """Make topics of one test's own."""
    config = KafkaSettings(
        brokers=broker.brokers,
        topic_prefix=f"t{secrets.token_hex(4)}_",
        partitions=PARTITIONS,
        options=OPTIONS,
        **settings,
    )
    topics.create(config, 1, 24)
    return config


def environment(config: KafkaSettings) -> Mapping[str, str]:
    """Return the variables that say so."""
    kafka = f"{_PREFIX}KAFKA__"
    return {
        f"{_PREFIX}TRANSPORT": "kafka",
        f"{kafka}BROKERS": config.brokers,
        f"{kafka}TOPIC_PREFIX": config.topic_prefix,
        f"{kafka}PARTITIONS": str(config.partitions),
        f"{kafka}MAX_MESSAGE_BYTES": str(config.max_message_bytes),
        f"{kafka}OPTIONS": json.dumps({name: value.get_secret_value() for name, value in config.options.items()}),
    }


class KafkaGateway(GatewayProcess):
    """A gateway, or a part of one, that is healthy once it can take something."""

    def __init__(self, folder: Path, config: KafkaSettings, *options: str, url: str = "", **more: str) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder, *options, url=url, env={**environment(config), **more})
        self._config = config
        self._topics: KafkaReader | None = None

    def lag(self, exporter: str = "request_log") -> float:
        return self.total("otel_telemetry_spool_lag_batches", exporter=exporter)

    def has_all(self, exporter: str = "request_log") -> bool:
        """Tell whether all that the topics hold is delivered, as the broker says now; a metric is a second old."""
        try:
            self._topics = self._topics or KafkaReader(self._config)
            lag = self._topics.status().lag.get(exporter)
        except BrokersAway:
            return False
        return lag is not None and lag.batches == 0


def check(gateway: KafkaGateway, *loads: Load, seconds: float = 90) -> None:
    """Wait until all is delivered, so many seconds, then hold the rows against what was acknowledged."""
    with gateway.watched():
        try:
            eventually(gateway.has_all, "the topics are read to their ends", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}: {gateway.health()['parts']} {gateway.logged[-3000:]}") from None
    acknowledged = {trace_id for load in loads for trace_id in load.acknowledged}
    check_rows(gateway, acknowledged)
    check_memory(gateway)
    for load in loads:
        assert not load.failed, f"answers that no sender would retry: {set(load.failed)}"
