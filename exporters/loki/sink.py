"""Loki as one of the gateway's sinks: log requests from the spool, already redacted, become lines."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from otel_telemetry.errors import ConfigurationError
from otel_telemetry.exporters import answers
from otel_telemetry.exporters.loki import lines
from otel_telemetry.exporters.loki.client import PushClient, Unkept
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink
from otel_telemetry.sinks import Receipt, Rejected, Signal, Sink

NAME: Final = "loki"
_LOGS: Final[frozenset[Signal]] = frozenset({"logs"})


def make_sink(config: LokiSettings) -> Sink:
    """Return the sink of the protocol that is set. Raises ConfigurationError where there is no endpoint."""
    return LokiSink(config) if config.protocol == "push" else ForwardSink(NAME, as_forward(config), NAME)


def as_forward(config: LokiSettings) -> ForwardSettings:
    """Return the settings as those of an OTLP destination: Loki's own endpoint for it."""
    if config.endpoint is None:
        raise ConfigurationError("loki.endpoint", "is not set", "set it to the URL of Loki, http://127.0.0.1:3100")
    shared = {name: getattr(config, name) for name in ("timeout", "ca_file", "certificate_file", "key_file")}
    return ForwardSettings(
        endpoint=f"{config.endpoint}/otlp",
        protocol="http",
        signals=("logs",),
        compression=config.compression,
        headers=config.header_values(),
        max_request_bytes=config.max_request_bytes,
        **shared,
    )


class LokiSink:
    """Pushes lines. Those that Loki never keeps are handed back, line by line; the others of their batch are stored."""

    name = NAME
    signals = _LOGS

    def __init__(self, config: LokiSettings) -> None:
        self._client = PushClient(config, NAME)
        self.max_bytes = config.max_request_bytes

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> Receipt:
        """Store the records of some log requests."""
        del signal
        return Receipt(list(_rejected(self._client.push(lines.read(bodies)))))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def _rejected(unkept: Iterable[Unkept]) -> Iterator[Rejected]:
    """Yield one dead letter for each request and reason, of just the records concerned."""
    found: dict[tuple[int, str], list[Unkept]] = {}
    for each in unkept:
        found.setdefault((each.line.origin.index, each.reason), []).append(each)
    for (index, reason), group in found.items():
        body = _request(each.line.origin for each in group)
        yield Rejected(len(group), reason, answers.one_line(group[0].detail), index, body)


def _request(origins: Iterable[lines.Origin]) -> bytes:
    request = ExportLogsServiceRequest()
    groups: dict[int, Any] = {}
    scopes: dict[int, Any] = {}
    for origin in origins:
        if id(origin.resource) not in groups:
            group = groups[id(origin.resource)] = request.resource_logs.add(schema_url=origin.resource.schema_url)
            group.resource.CopyFrom(origin.resource.resource)
        if id(origin.scope) not in scopes:
            scope = groups[id(origin.resource)].scope_logs.add(schema_url=origin.scope.schema_url)
            scope.scope.CopyFrom(origin.scope.scope)
            scopes[id(origin.scope)] = scope
        scopes[id(origin.scope)].log_records.append(origin.record)
    return request.SerializeToString()
