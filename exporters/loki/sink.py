"""Loki as one of the gateway's sinks: log requests from the spool, already redacted, become lines."""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from otel_telemetry.base.destinations import NeedsReceiveTime, Receipt, Rejected, Signal, Sink
from otel_telemetry.base.errors import ConfigurationError, DeliveryRefused
from otel_telemetry.exporters.http import answers
from otel_telemetry.exporters.loki import lines
from otel_telemetry.exporters.loki.client import LineClient, RejectedLine, passing
from otel_telemetry.exporters.loki.config import LokiSettings
from otel_telemetry.exporters.otlp.config import ForwardSettings
from otel_telemetry.exporters.otlp.sink import ForwardSink

NAME: Final = "loki"
_LOGS: Final[frozenset[Signal]] = frozenset({"logs"})


class LokiLike(Sink, NeedsReceiveTime, Protocol):
    """A sink of Loki. A record without a time gets the same one in each repetition."""


def make_sink(config: LokiSettings) -> LokiLike:
    """Return the sink of the protocol that is set. Raises ConfigurationError where there is no endpoint."""
    return LokiSink(config) if config.protocol == "push" else LokiOtlpSink(config)


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
        self._client = LineClient(config, NAME)
        self.max_bytes = config.max_request_bytes

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> Receipt:
        """Store the records of some log requests that came in now."""
        return self.deliver_received(signal, bodies, _now(bodies))

    def deliver_received(self, signal: Signal, bodies: Sequence[bytes], received_ns: Sequence[int]) -> Receipt:
        """Store the records of some log requests."""
        del signal
        return Receipt(list(_rejected(self._client.push(lines.read(bodies, received_ns)))))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


class LokiOtlpSink:
    """Sends requests to Loki's OTLP endpoint as they are; only where it refuses one are its lines looked at."""

    name = NAME
    signals = _LOGS

    def __init__(self, config: LokiSettings) -> None:
        self._whole = ForwardSink(NAME, as_forward(config), NAME)
        self._client = LineClient(config, NAME)
        self.max_bytes = config.max_request_bytes

    def deliver(self, signal: Signal, bodies: Sequence[bytes]) -> Receipt:
        """Store the records of some log requests that came in now."""
        return self.deliver_received(signal, bodies, _now(bodies))

    def deliver_received(self, signal: Signal, bodies: Sequence[bytes], received_ns: Sequence[int]) -> Receipt:
        """Store the records of some log requests."""
        bodies = [lines.timed(body, when) for body, when in zip(bodies, received_ns, strict=True)]
        try:
            if sum(map(len, bodies)) <= self.max_bytes:
                return self._whole.deliver(signal, bodies)
        except DeliveryRefused as refused:
            if refused.doubtful:
                raise passing(refused) from None
        return Receipt(list(_rejected(self._client.push(lines.read(bodies, received_ns)))))

    def close(self) -> None:
        """Close the connections."""
        self._whole.close()
        self._client.close()


def _now(bodies: Sequence[bytes]) -> list[int]:
    return [time.time_ns()] * len(bodies)


def _rejected(rejected: Iterable[RejectedLine]) -> Iterator[Rejected]:
    """Yield one dead letter for each request and reason, of just the records concerned."""
    found: dict[tuple[int, str], list[RejectedLine]] = {}
    for each in rejected:
        found.setdefault((each.line.origin.index, each.reason), []).append(each)
    for (index, reason), group in found.items():
        body = lines.request_of(each.line.origin for each in group)
        yield Rejected(len(group), reason, answers.one_line(group[0].detail), index, body)
