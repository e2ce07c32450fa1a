"""Writes messages: an idempotent producer, whose future is done once all required replicas have the message.

Only an offset proves that. What a broker takes for a repetition has none, and the library reports it as delivered all
the same (seen on topics that had just been made, where a message that was reported as delivered was missing). Its
sender is told to send it again.

A thread splits and sends what is queued, another polls for the brokers' acknowledgements. While the brokers are away
new messages are refused at once, and the second thread asks once a second whether they are back.
"""

import itertools
import logging
import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import BrokersAway, Overloaded, StoreUnavailable, TelemetryError
from otel_telemetry.gateway.kafka import client
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.split import split

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message
    from confluent_kafka import Producer as KafkaProducer

_POLL_SECONDS: Final = 0.1
_ASK_SECONDS: Final = 1.0
_QUEUED_KBYTES: Final = 65_536
_LINGER_MS: Final = 2
_OVERHEAD: Final = 4096  # of a message: key and headers
_FLUSH_SECONDS: Final = 10.0
_LONGEST_WAIT: Final = 3.0

_log = logging.getLogger("otel_telemetry.gateway.kafka")

Headers = list[tuple[str, str | bytes | None]]


@dataclass(slots=True, frozen=True)
class Record:
    """One message to write; `value` None: a tombstone, which takes away what the key names in a compacted topic."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers
    partition: int = -1
    timestamp_ms: int = 0


class _Job:
    """Messages of which all must be acknowledged before the future has its result."""

    def __init__(self, make: Callable[[], Sequence[Record]], size: int) -> None:
        self.make = make
        self.size = size
        self.future: Future[int] = Future()
        self._left = 0
        self._error: TelemetryError | None = None
        self._counting = threading.Lock()

    def expect(self, count: int) -> None:
        """Set the number of its messages."""
        self._left = count

    def one_done(self, error: TelemetryError | None) -> bool:
        """Take note of one message's end; true if it was the last."""
        with self._counting:
            self._left -= 1
            self._error = self._error or error
            if self._left:
                return False
        if self._error:
            self.future.set_exception(self._error)
        else:
            self.future.set_result(0)
        return True


class Producer:
    """Writes to all topics. `problem` is why messages cannot be written right now, or ""."""

    def __init__(self, config: KafkaSettings, max_pending_bytes: int) -> None:
        self._config = config
        self._topics = client.Topics(config)
        self._spare = itertools.count(random.randrange(config.partitions))  # noqa: S311 - spreads what has no trace
        self._max_pending = max_pending_bytes
        self._pending = 0
        self._counting = threading.Lock()
        self.problem = ""
        self._broken = False
        self._swapping = threading.Lock()
        self._closed = False
        self._over = threading.Event()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._producer = self._make()
        names = {"write": self._write_loop, "poll": self._poll_loop}
        self._threads = [
            threading.Thread(target=run, name=f"otel-telemetry-kafka-{name}", daemon=True)
            for name, run in names.items()
        ]
        for thread in self._threads:
            thread.start()

    def _make(self) -> "KafkaProducer":
        import confluent_kafka  # noqa: PLC0415

        patience = int(self._config.acknowledge_seconds * 1000)
        given = client.options(
            self._config,
            enable_idempotence=True,
            acks="all",
            linger_ms=_LINGER_MS,
            delivery_timeout_ms=patience,
            message_max_bytes=self._config.max_message_bytes + _OVERHEAD,
            queue_buffering_max_kbytes=_QUEUED_KBYTES,
            error_cb=self._on_error,
        )
        given["linger.ms"] = min(_LINGER_MS, patience - 1)
        try:
            return confluent_kafka.Producer(given)
        except confluent_kafka.KafkaException as error:
            raise client.not_an_option(self._config, error.args[0]) from None

    # --- callers ----------------------------------------------------------------------------------------------------
    def write_requests(self, signal: Signal, batches: Sequence[tuple[bytes, int]]) -> Future[int]:
        """Queue redacted requests with their numbers of items, split by traces. See Transport.append_all."""
        topic, buckets = self._topics.of_signal[signal], self._config.partitions
        largest = self._config.max_message_bytes
        now_ms = time.time_ns() // 1_000_000

        def make() -> list[Record]:
            spare = next(self._spare) % buckets
            return [
                Record(topic, b"%d" % bucket, body, client.own_headers(self._config, body, items), bucket, now_ms)
                for whole, count in batches
                for bucket, body, items in split(signal, whole, count, buckets=buckets, spare=spare, largest=largest)
            ]

        return self._put(make, sum(len(body) for body, _ in batches))

    def write(self, records: Sequence[Record]) -> Future[int]:
        """Queue messages as they are."""
        return self._put(lambda: records, sum(len(record.value or b"") for record in records))

    def _put(self, make: Callable[[], Sequence[Record]], size: int) -> Future[int]:
        job = _Job(make, size)
        with self._counting:
            self._admit(size)
            self._pending += size
            self._queue.put(job)
        return job.future

    def expect(self, size: int) -> None:
        """See Transport.expect."""
        with self._counting:
            self._admit(size)

    def _admit(self, size: int) -> None:
        if self._closed:
            raise StoreUnavailable("the gateway is stopping")
        if self.problem:
            raise BrokersAway(self.problem)
        if self._pending and self._pending + size > self._max_pending:
            raise Overloaded("Kafka is slow to acknowledge", random.uniform(1, _LONGEST_WAIT))  # noqa: S311

    def _release(self, job: _Job) -> None:
        with self._counting:
            self._pending -= job.size

    # --- the thread that writes -------------------------------------------------------------------------------------
    def _write_loop(self) -> None:
        while (job := self._queue.get()) is not None:
            if job.future.set_running_or_notify_cancel():
                self._send(job)
            else:
                self._release(job)

    def _send(self, job: _Job) -> None:
        try:
            records = job.make()
        except Exception as error:  # noqa: BLE001 - of any fault the sender is told; the thread must live on
            job.future.set_exception(error)
            self._release(job)
            return
        if not records:
            job.future.set_result(0)
            self._release(job)
        job.expect(len(records))
        for record in records:
            refused = self._produce(job, record)
            if refused and job.one_done(refused):
                self._release(job)

    def _produce(self, job: _Job, record: Record) -> TelemetryError | None:
        """Hand one message to the library, which calls back; return the error where it does not take it."""
        import confluent_kafka  # noqa: PLC0415

        def done(error: "KafkaError | None", message: "Message") -> None:
            if job.one_done(self._outcome(error, message)):
                self._release(job)

        try:
            with self._swapping:
                self._producer.produce(
                    record.topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    timestamp=record.timestamp_ms,
                    on_delivery=done,
                    partition=record.partition,
                )
        except BufferError:
            return Overloaded("Kafka is slow to acknowledge", random.uniform(1, _LONGEST_WAIT))  # noqa: S311
        except confluent_kafka.KafkaException as error:
            return BrokersAway(self._away(error.args[0]))
        return None

    # --- the thread that polls --------------------------------------------------------------------------------------
    def _poll_loop(self) -> None:
        ask_at = time.monotonic()
        while not self._over.is_set():
            try:
                self._producer.poll(_POLL_SECONDS)
                if self._broken:
                    self._renew()
                if self.problem and time.monotonic() > ask_at:
                    self._ask()
                    ask_at = time.monotonic() + _ASK_SECONDS
            except Exception:  # noqa: BLE001 - the library has some of its own; senders wait for this thread
                _log.exception("polling for acknowledgements failed, it goes on")

    def _outcome(self, error: "KafkaError | None", message: "Message") -> TelemetryError | None:
        if error is not None:
            return BrokersAway(self._away(error))
        self.problem = ""
        if message.offset() is None:
            return BrokersAway(client.away(self._config, "it calls a message a repetition, and gives no offset for it"))
        return None

    def _away(self, reason: object) -> str:
        problem = client.away(self._config, reason)
        if not self.problem:
            _log.error("%s; senders are told to retry", problem)
        self.problem = problem
        return problem

    def _on_error(self, error: "KafkaError") -> None:
        if error.fatal():  # the order of what it sent is lost; another one begins anew
            self._broken = True
        elif client.all_down(error):
            self._away(error)

    def _renew(self) -> None:
        self._broken = False
        with self._swapping:
            broken, self._producer = self._producer, self._make()
        broken.purge()
        broken.poll(0)

    def _ask(self) -> None:
        """Find out whether the brokers are back, and have the topics; nobody may be sending meanwhile."""
        import confluent_kafka  # noqa: PLC0415

        try:
            known = self._producer.list_topics(timeout=_ASK_SECONDS).topics
        except confluent_kafka.KafkaException:
            return
        missing = [topic for topic in self._topics.partitions if topic not in known or known[topic].error]
        if missing:
            self._away(f"there is no topic {missing[0]}")
            return
        _log.warning("Kafka at %s is back", self._config.brokers)
        self.problem = ""

    def close(self) -> None:
        """Send what is queued, and end. Safe to repeat."""
        with self._counting:
            if self._closed:
                return
            self._closed = True
        self._queue.put(None)
        self._threads[0].join()
        self._producer.flush(min(_FLUSH_SECONDS, self._config.acknowledge_seconds))
        self._over.set()
        self._threads[1].join()
