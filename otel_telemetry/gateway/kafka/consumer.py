"""The position of one destination in the topics: its own consumer group, whose offsets say what it has got.

An offset is committed only after everything before it is delivered or set aside. What was read and is not delivered yet
is kept here and returned again. Partitions that another process gets meanwhile are dropped here, and delivered there:
what was under way then comes twice.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_telemetry.base import metrics
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import BrokersAway
from otel_telemetry.gateway.kafka import client, letters, topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.letters import Letter
from otel_telemetry.gateway.spool.reader import Batch

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
    from confluent_kafka.admin import AdminClient

_QUEUED_KBYTES: Final = 16_384
_SESSION_MS: Final = 10_000  # after which the partitions of a process that was killed go to others
_POLL_MS: Final = 600_000  # a call of a destination may last so long
_SLICE_SECONDS: Final = 0.1
_ASK_SECONDS: Final = 5.0
_COMMIT_ALL_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 10.0  # between two looks at the ids of the topics

_log = logging.getLogger("otel_telemetry.gateway.kafka")

Partition = tuple[str, int]
"""Topic and partition."""

#: What a message of the topics is: a batch to deliver, or a dead letter at once; None: nothing for this destination.
Opened = Batch | Letter | None


@dataclass(slots=True)
class _Taken:
    """A batch that `due` returned; `letter` is the key of the dead letter that it is, b"" where it is none."""

    batch: Batch
    partition: Partition
    offset: int
    letter: bytes = b""


class Cursor:
    """The position of one `sink`. Used by the thread that delivers to it; `wake` may be called by any.

    `opened` makes a batch or a letter of a message and its number; `keep` writes letters, and returns once they are
    safe.
    """

    def __init__(
        self,
        config: KafkaSettings,
        sink: str,
        opened: Callable[["Message", str, Signal, int], Opened],
        keep: Callable[[Sequence[Letter], Sequence[bytes]], None],
    ) -> None:
        self._config = config
        self._sink = sink
        self._topics = client.Topics(config)
        self._opened = opened
        self._keep = keep
        self._consumer: Consumer | None = None
        self._read: deque[Message] = deque()  # what was read while nothing was wanted
        self._open: dict[int, _Taken] = {}
        self._position: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._ids: dict[str, str] = {}  # of topics
        self._admin: AdminClient | None = None
        self._look_at = 0.0
        self._commit_all_at = time.monotonic() + _COMMIT_ALL_SECONDS
        self._number = 0
        self._woken = threading.Event()
        self.expired = 0

    # --- reading ----------------------------------------------------------------------------------------------------
    def due(self, limit_bytes: int, limit_batches: int, wanted: Collection[Signal]) -> list[Batch]:
        """See Transport.due."""
        if self._consumer and self._is_of_old_topics():
            self.close()  # what was made again is read from its first message, not on from the old place
            self._ids.clear()
        consumer = self._consumer or self._subscribe(wanted)
        self._commit(consumer)
        size = sum(len(taken.batch.body) for taken in self._open.values())
        while not self._open or (size < limit_bytes and len(self._open) < limit_batches):
            if not self._read and not self._poll(consumer, 0):
                break
            taken = self._take(consumer, self._read[0])
            self._read.popleft()
            if taken:
                self._open[taken.batch.seq] = taken
                size += len(taken.batch.body)
        return [taken.batch for taken in self._open.values()]

    def _is_of_old_topics(self) -> bool:
        """Return, every few seconds, whether a topic was made again: librdkafka reads on as if it was the old one."""
        import confluent_kafka  # noqa: PLC0415

        if time.monotonic() < self._look_at:
            return False
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._admin = self._admin or topics.admin(self._config)
        try:
            now = topics.ids(self._admin, set(self._ids))
        except confluent_kafka.KafkaException:  # reading says so, too
            return False
        return any(self._ids[name] != found for name, found in now.items())

    def _subscribe(self, wanted: Collection[Signal]) -> "Consumer":
        import confluent_kafka  # noqa: PLC0415

        given = client.options(
            self._config,
            group_id=self._topics.group(self._sink),
            enable_auto_commit=False,
            enable_auto_offset_store=False,
            auto_offset_reset="earliest",
            partition_assignment_strategy="range",  # each process gets a share of every topic
            queued_max_messages_kbytes=_QUEUED_KBYTES,
            on_commit=self._on_commit,
        )
        given.setdefault("session.timeout.ms", _SESSION_MS)
        given.setdefault("max.poll.interval.ms", _POLL_MS)
        names = [self._topics.of_signal[signal] for signal in wanted or client.SIGNALS]
        try:
            consumer = confluent_kafka.Consumer(given)
        except confluent_kafka.KafkaException as error:
            raise client.not_an_option(self._config, error.args[0]) from None
        consumer.subscribe(
            [*names, self._topics.replay], on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )
        self._consumer = consumer
        return consumer

    def _poll(self, consumer: "Consumer", seconds: float) -> bool:
        """Read a message, if there is one. Raises StoreUnavailable where a topic is not there."""
        message = consumer.poll(seconds)
        if message is None:
            return False
        error = message.error()
        if error is None:
            self._read.append(message)
            return True
        self._failed(message, error)
        return False

    def _failed(self, message: "Message", error: "KafkaError") -> None:
        from confluent_kafka import KafkaError  # noqa: PLC0415

        problem = client.away(self._config, error)
        if error.code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.UNKNOWN_TOPIC_ID, KafkaError._UNKNOWN_TOPIC}:  # noqa: SLF001 - its names
            problem = client.away(self._config, f"there is no topic {message.topic()}")
            self.close()  # where there is one again, its offsets begin anew
        raise BrokersAway(problem)

    def _take(self, consumer: "Consumer", message: "Message") -> _Taken | None:
        topic, partition, offset = str(message.topic()), int(message.partition() or 0), int(message.offset() or 0)
        source = (topic, partition)
        self._look_for_gap(consumer, source, offset)
        self._number += 1
        again = topic == self._topics.replay
        if again:
            letter = letters.read(message)
            mine = letter is not None and letter.sink == self._sink
            opened: Opened = _as_batch(letter, self._number) if letter and mine else None
        else:
            letter = None
            opened = self._opened(message, self._sink, self._topics.signal_of[topic], self._number)
        if isinstance(opened, Letter):
            self._keep([opened], [])
            metrics.dead_lettered.add(
                max(1, opened.items), {"exporter": self._sink, "reason": opened.reason.partition(":")[0]}
            )
            _log.error("%s cannot have message %d of %s[%d]: %s", self._sink, offset, topic, partition, opened.reason)
        self._position[source] = offset + 1
        if not isinstance(opened, Batch):
            return None
        return _Taken(opened, source, offset, letter.key if letter else b"")

    def _look_for_gap(self, consumer: "Consumer", partition: Partition, offset: int) -> None:
        """Count what the topic's retention took away before it was delivered."""
        expected = self._position.get(partition, -1)
        if 0 <= expected < offset:
            low, _ = consumer.get_watermark_offsets(_partition(partition), timeout=_ASK_SECONDS)
            lost = min(low, offset) - expected
            if lost > 0:
                self.expired += lost
                signal = self._topics.signal_of.get(partition[0], "logs")
                metrics.dropped.add(lost, {"signal": signal, "exporter": self._sink, "reason": "expired"})
                _log.error(
                    "%d messages of %s[%d] were gone before %s had them: the topic's retention is too short for it",
                    lost, *partition, self._sink,
                )  # fmt: skip

    # --- what is delivered ------------------------------------------------------------------------------------------
    def advance(self, batches: Sequence[Batch], dead: Sequence[tuple[Batch, str]]) -> None:
        """See Transport.advance."""
        mine = [self._open[batch.seq] for batch in batches if batch.seq in self._open]
        dead_letters = list(self._letters([(batch, reason) for batch, reason in dead if batch.seq in self._open]))
        dead_again = {letter.key for letter in dead_letters}
        replayed = [taken.letter for taken in mine if taken.letter and taken.letter not in dead_again]
        if dead_letters or replayed:
            self._keep(dead_letters, replayed)
        for taken in mine:
            del self._open[taken.batch.seq]
        if self._consumer:
            self._commit(self._consumer)

    def _letters(self, dead: Sequence[tuple[Batch, str]]) -> Iterator[Letter]:
        """Yield a letter for each part of a batch that the destination cannot take."""
        parts: Counter[int] = Counter()
        for batch, reason in dead:
            taken = self._open[batch.seq]
            key = taken.letter or letters.key_of(self._sink, *taken.partition, taken.offset)
            number = parts[batch.seq]
            parts[batch.seq] += 1
            key += b"/%d" % number if number else b""
            yield Letter(key, self._sink, batch.signal, batch.received_ns, batch.items, reason, batch.body)

    def _commit(self, consumer: "Consumer", *, wait: bool = False) -> None:
        """Commit what is delivered; where that fails it is tried again with the next."""
        done = dict(self._position)
        for taken in self._open.values():
            done[taken.partition] = min(done[taken.partition], taken.offset)
        if time.monotonic() > self._commit_all_at:  # whether a broker that died had taken a commit is not always told
            self._commit_all_at = time.monotonic() + _COMMIT_ALL_SECONDS
            self._committed.clear()
        fresh = {partition: offset for partition, offset in done.items() if self._committed.get(partition) != offset}
        if fresh:
            self._committed.update(fresh)
            offsets = [
                _partition(partition, offset, self._ids.get(partition[0])) for partition, offset in fresh.items()
            ]
            if wait:
                consumer.commit(offsets=offsets, asynchronous=False)
            else:
                consumer.commit(offsets=offsets, asynchronous=True)

    def _on_commit(self, error: "KafkaError | None", partitions: "list[TopicPartition]") -> None:
        if error or any(one.error for one in partitions):
            self._committed.clear()  # all of it once more

    # --- whose partitions they are ----------------------------------------------------------------------------------
    def _on_assign(self, consumer: "Consumer", partitions: "list[TopicPartition]") -> None:
        """Start where the group stands; in a topic that was made again since, at its first message.

        What is committed carries the topic's id: what was committed in a topic that is gone says nothing of a new one.
        """
        import confluent_kafka  # noqa: PLC0415

        starts = []
        try:
            self._ids |= topics.ids(topics.admin(self._config), {one.topic for one in partitions})
            for one in consumer.committed(partitions, timeout=_ASK_SECONDS):
                partition = (one.topic, one.partition)
                if one.offset >= 0 and one.metadata in {None, "", self._ids.get(one.topic)}:
                    self._position[partition] = self._committed[partition] = one.offset
                else:  # new: it is committed soon, so that its lag is known
                    first, _ = consumer.get_watermark_offsets(_partition(partition), timeout=_ASK_SECONDS)
                    self._position[partition] = first
                    starts.append(_partition(partition, first))
        except confluent_kafka.KafkaException as error:  # a gap is not seen then
            _log.info("%s: where it stands is not known yet: %s", self._sink, error.args[0].str())
        if starts:
            begun = {(one.topic, one.partition) for one in starts}
            consumer.assign([*(one for one in partitions if (one.topic, one.partition) not in begun), *starts])

    def _on_revoke(self, consumer: "Consumer", partitions: "list[TopicPartition]") -> None:
        import confluent_kafka  # noqa: PLC0415

        try:
            self._commit(consumer, wait=True)
        except confluent_kafka.KafkaException as error:
            _log.info("%s: what was delivered last comes again, elsewhere: %s", self._sink, error.args[0].str())
        self._on_lost(consumer, partitions)

    def _on_lost(self, _: "Consumer", partitions: "list[TopicPartition]") -> None:
        gone = {(one.topic, one.partition) for one in partitions}
        self._open = {seq: taken for seq, taken in self._open.items() if taken.partition not in gone}
        self._read = deque(message for message in self._read if (message.topic(), message.partition()) not in gone)
        for partition in gone:
            self._position.pop(partition, None)
            self._committed.pop(partition, None)

    # --- while nothing is wanted ------------------------------------------------------------------------------------
    def hold(self) -> None:
        """Stay a member of the group though nothing more is read."""
        if self._consumer is None:
            return
        assigned = self._consumer.assignment()
        self._consumer.pause(assigned)
        try:
            self._poll(self._consumer, 0)
        finally:
            self._consumer.resume(self._consumer.assignment())

    def wait(self, timeout: float) -> None:
        """See Transport.wait."""
        end = time.monotonic() + timeout
        while not self._open and not self._read and not self._woken.is_set():
            left = end - time.monotonic()
            if left <= 0 or self._consumer is None or self._poll(self._consumer, min(left, _SLICE_SECONDS)):
                break
        self._woken.clear()

    def wake(self) -> None:
        """End `wait`."""
        self._woken.set()

    def close(self) -> None:
        """Leave the group. Safe to repeat."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.close()  # calls _on_revoke
            self._open.clear()
            self._read.clear()
            self._position.clear()
            self._committed.clear()


def _as_batch(letter: Letter, number: int) -> Batch:
    return Batch(number, letter.signal, letter.received_ns, letter.items, letter.body)


def _partition(partition: Partition, offset: int = -1001, note: str | None = None) -> "TopicPartition":
    from confluent_kafka import TopicPartition  # noqa: PLC0415

    return TopicPartition(*partition, offset, note) if note else TopicPartition(*partition, offset)
