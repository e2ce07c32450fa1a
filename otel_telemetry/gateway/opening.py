"""Opens the spool or the topics that the settings name, to read or to change them."""

from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.kafka.operator import KafkaOperator
from otel_telemetry.gateway.kafka.reader import KafkaReader
from otel_telemetry.gateway.spool.operator import Operator as DiskOperator
from otel_telemetry.gateway.spool.reader import SpoolReader
from otel_telemetry.gateway.spool.transport import Operator, Reader


def open_reader(config: GatewaySettings) -> Reader:
    """Return what looks at it. Raises ConfigurationError where there is nothing."""
    return KafkaReader(config.kafka) if config.transport == "kafka" else SpoolReader(config.spool_dir)


def open_operator(config: GatewaySettings, *, dry_run: bool = False) -> Operator:
    """Return what changes it, or with `dry_run` only counts. Raises ConfigurationError where there is nothing."""
    if config.transport == "kafka":
        return KafkaOperator(config.kafka, dry_run=dry_run)
    return DiskOperator(config.spool_dir, dry_run=dry_run)
