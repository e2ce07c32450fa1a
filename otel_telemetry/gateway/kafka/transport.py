"""Topics as the transport between receiving and delivering: see gateway/spool/transport.py for what is promised."""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from otel_telemetry.base import metrics
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import BrokersAway, MalformedTelemetry, StoreUnavailable, TelemetryError
from otel_telemetry.gateway.kafka import client, letters, topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.consumer import Cursor, Opened
from otel_telemetry.gateway.kafka.letters import Letter
from otel_telemetry.gateway.kafka.producer import Producer
from otel_telemetry.gateway.kafka.reader import KafkaReader
from otel_telemetry.gateway.spool.reader import Batch, SpoolStatus
from otel_telemetry.gateway.spool.redacted import RedactedRequest, RequestRedactor

if TYPE_CHECKING:
    from confluent_kafka import Message

_log = logging.getLogger("otel_telemetry.gateway.kafka")
_LOOK_AGAIN_SECONDS: Final = 1.0


class KafkaTransport:
    """Everything that one process does with Kafka. Raises ConfigurationError where a topic is not as it should be.

    The `redactor` is for messages that others wrote, of `max_body_bytes` at most. If no broker answers at the
    start, the process starts all the same, and /health shows it.
    """

    max_bytes = 0
    max_dead_bytes = 0

    def __init__(
        self, config: KafkaSettings, redactor: RequestRedactor, max_body_bytes: int, max_pending_bytes: int
    ) -> None:
        client.check(config)
        self._config = config
        self._redactor = redactor
        self._max_body = max_body_bytes
        self._topics = client.Topics(config)
        try:
            topics.check(config)
        except StoreUnavailable as error:
            _log.error("%s; the gateway starts, and takes nothing until it does", error)
        self._producer = Producer(config, max_pending_bytes)
        self._cursors: dict[str, Cursor] = {}
        self._reader = KafkaReader(config)
        self._looking = threading.Lock()
        self._seen: tuple[float, SpoolStatus] | None = None
        self._closed = False

    def redact_with(self, redactor: RequestRedactor) -> None:
        """Redact with this one from now on."""
        self._redactor = redactor

    # --- receivers --------------------------------------------------------------------------------------------------
    def expect(self, size: int) -> None:
        """See Transport.expect."""
        self._producer.expect(size)

    def append(self, signal: Signal, body: bytes, items: int) -> Future[int]:
        """See Transport.append."""
        return self._producer.write_requests(signal, [(body, items)])

    def append_all(self, signal: Signal, batches: Sequence[tuple[bytes, int]]) -> Future[int]:
        """See Transport.append_all. Where some of it is acknowledged and the rest is not, a repetition brings all."""
        return self._producer.write_requests(signal, batches)

    def set_aside(self, sink: str, signal: Signal, reason: str) -> None:
        """See Transport.set_aside."""
        now = time.time_ns()
        self._keep([Letter(f"{sink}/{now}".encode(), sink, signal, now, 0, reason, b"")], [])

    # --- deliveries -------------------------------------------------------------------------------------------------
    def attach(self, sinks: Sequence[str]) -> None:
        """See Transport.attach. Groups of other destinations stay as they are."""
        for sink in sinks:
            self._cursors[sink] = Cursor(self._config, sink, self._open, self._keep)

    def due(self, sink: str, limit_bytes: int, limit_batches: int, wanted: Collection[Signal] = ()) -> list[Batch]:
        """See Transport.due. Batches of other signals are not read at all."""
        return self._cursors[sink].due(limit_bytes, limit_batches, wanted)

    def advance(self, sink: str, batches: Sequence[Batch], dead: Sequence[tuple[Batch, str]] = ()) -> None:
        """See Transport.advance."""
        self._cursors[sink].advance(batches, dead)

    def hold(self, sink: str) -> None:
        """See Transport.hold."""
        with contextlib.suppress(StoreUnavailable):  # the next `due` says so
            self._cursors[sink].hold()

    def wait(self, sink: str, timeout: float) -> None:
        """See Transport.wait."""
        self._cursors[sink].wait(timeout)

    def wake(self) -> None:
        """See Transport.wake."""
        for cursor in self._cursors.values():
            cursor.wake()

    def _keep(self, dead: Sequence[Letter], gone: Sequence[bytes]) -> None:
        records = [letter.record(self._topics) for letter in dead]
        self._producer.write([*records, *(letters.gone(self._topics, key) for key in gone)]).result()

    def _open(self, message: "Message", sink: str, signal: Signal, number: int) -> Opened:
        """Return what a message is for a destination: what no gateway wrote is redacted first, or set aside."""
        body = message.value()
        if body is None:
            return None
        received_ns = message.timestamp()[1] * 1_000_000
        items = client.own_items(self._config, message)
        if items >= 0:
            return Batch(number, signal, received_ns, items, body)
        source = (str(message.topic()), int(message.partition() or 0), int(message.offset() or 0))
        try:
            cleaned = self._redact(signal, body)
        except MalformedTelemetry as error:
            where = f"{source[0]}[{source[1]}] at {source[2]}, {len(body)} bytes, is not kept here: it is not redacted"
            return Letter(letters.key_of(sink, *source), sink, signal, received_ns, 0, f"{error}: {where}", b"")
        if cleaned.rejected:
            metrics.dropped.add(cleaned.rejected, {"signal": signal, "exporter": sink, "reason": "invalid"})
        return Batch(number, signal, received_ns, cleaned.items, cleaned.body) if cleaned.items else None

    def _redact(self, signal: Signal, body: bytes) -> RedactedRequest:
        if len(body) > self._max_body:
            raise MalformedTelemetry(f"more than the {self._max_body} bytes of gateway.max_body_bytes", "too_large")
        try:
            return self._redactor.redact(signal, body)
        except TelemetryError as error:
            raise MalformedTelemetry(str(error), "invalid") from None
        except Exception as error:  # noqa: BLE001 - whatever it is: fail closed; a message may quote what it worked on
            raise MalformedTelemetry(type(error).__name__, "redaction_failed") from None

    # --- looking ----------------------------------------------------------------------------------------------------
    def status(self) -> SpoolStatus:
        """Return it in numbers, a second old at most."""
        if self._producer.problem:
            raise BrokersAway(self._producer.problem)
        with self._looking:
            if self._seen is None or time.monotonic() - self._seen[0] > _LOOK_AGAIN_SECONDS:
                self._seen = (time.monotonic(), self._reader.status())
            now = self._seen[1]
        missed = {sink: {"expired": cursor.expired} for sink, cursor in self._cursors.items() if cursor.expired}
        return dataclasses.replace(now, missed=missed)

    def health(self, now: SpoolStatus) -> Mapping[str, Any]:
        """Return what /health shows of it."""
        problem = self._producer.problem
        numbers = {
            "brokers": self._config.brokers,
            "batches": now.batches,
            "oldest_seconds": round(now.oldest_seconds, 3),
            "dead_letters": now.dead_letters,
        }
        state = "failing" if problem else "ok"
        return {"status": state, "transport": "kafka", **numbers} | ({"problem": problem} if problem else {})

    def close(self) -> None:
        """Finish what is queued, leave the groups. Safe to repeat."""
        if not self._closed:
            self._closed = True
            for cursor in self._cursors.values():
                cursor.close()
            self._producer.close()
            self._reader.close()
