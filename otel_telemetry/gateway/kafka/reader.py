"""Reads the topics: the position of each destination, the messages, the dead letters. Changes nothing."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from otel_telemetry.base import otlp_json
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import BrokersAway
from otel_telemetry.gateway.kafka import client, letters, topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.consumer import Partition
from otel_telemetry.gateway.kafka.letters import Letter
from otel_telemetry.gateway.spool.reader import DeadLetters, Lag, SpoolStatus

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message

_ASK_SECONDS: Final = 1.5  # /health does not wait for longer
_POLL_SECONDS: Final = 0.2


@dataclass(slots=True, frozen=True)
class Head:
    """A dead letter without its body. `offset` is where it is in its topic."""

    offset: int
    sink: str
    signal: Signal
    received_ns: int
    items: int
    reason: str
    bytes: int


class KafkaReader:
    """Reads without being in a group. Thread-safe. Raises ConfigurationError, and BrokersAway where nobody answers."""

    def __init__(self, config: KafkaSettings) -> None:
        self._config = config
        self._topics = client.Topics(config)
        self._admin = topics.admin(config)
        self._lock = threading.Lock()
        self._letters: dict[bytes, Head] = {}
        self._letters_until = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: clients end with their last reference."""

    # --- in numbers -------------------------------------------------------------------------------------------------
    def status(self) -> SpoolStatus:
        """Return the topics in numbers. Bytes, and items of what is not delivered, are not known."""
        with self._lock:
            first, last = self.ends()
            self._read_letters(last)
            lag = {sink: self._lag(done, first, last) for sink, done in self.positions().items()}
            dead_items: Counter[str] = Counter()
            dead_bytes: Counter[str] = Counter()
            for head in self._letters.values():
                dead_items[head.sink] += head.items
                dead_bytes[head.sink] += head.bytes
            of_signals = [partition for partition in last if partition[0] in self._topics.signal_of]
            return SpoolStatus(
                bytes=None,
                batches=sum(last[partition] - first[partition] for partition in of_signals),
                oldest_seconds=max((one.seconds for one in lag.values()), default=0.0),
                dead_letters=len(self._letters),
                lag=lag,
                appended=None,
                dead_items=dead_items,
                missed={},
                detached=[],
                dead_bytes=dead_bytes,
            )

    def ends(self) -> tuple[dict[Partition, int], dict[Partition, int]]:
        """Return the first offset, and the next one, of each partition of our topics."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415
        from confluent_kafka.admin import OffsetSpec  # noqa: PLC0415

        there = topics.partitions(self._config, self._admin, _ASK_SECONDS)
        every = [TopicPartition(name, number) for name, count in there.items() for number in range(count)]
        first, last = (
            self._admin.list_offsets(dict.fromkeys(every, spec), request_timeout=_ASK_SECONDS)
            for spec in (OffsetSpec.earliest(), OffsetSpec.latest())
        )
        return self._offsets(first), self._offsets(last)

    def since(self, received_ns: int, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the first offset of each partition whose message came at or after a time, -1 where none did."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415
        from confluent_kafka.admin import OffsetSpec  # noqa: PLC0415

        spec = OffsetSpec.for_timestamp(received_ns // 1_000_000)
        asked = {TopicPartition(*partition): spec for partition in partitions}
        return self._offsets(self._admin.list_offsets(asked, request_timeout=_ASK_SECONDS)) if asked else {}

    def _offsets(self, answers: Mapping[Any, Any]) -> dict[Partition, int]:
        return {(asked.topic, asked.partition): self._of(answer).offset for asked, answer in answers.items()}

    def _of(self, answer: Any) -> Any:
        """Return what the brokers answer, or raise BrokersAway."""
        import confluent_kafka  # noqa: PLC0415

        try:
            return answer.result(_ASK_SECONDS + 0.2)
        except (confluent_kafka.KafkaException, TimeoutError) as error:
            reason = error.args[0] if error.args else "no answer in time"
            raise BrokersAway(client.away(self._config, reason)) from None

    def positions(self) -> dict[str, dict[Partition, int]]:
        """Return what each destination has committed: the offset of the next message, by partition."""
        from confluent_kafka import ConsumerGroupTopicPartitions  # noqa: PLC0415

        groups = self._of(self._admin.list_consumer_groups(request_timeout=_ASK_SECONDS)).valid
        names = sorted(group.group_id for group in groups if self._topics.sink(group.group_id))
        asked = [
            self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)], request_timeout=_ASK_SECONDS)[
                name
            ]
            for name in names
        ]
        found = {}
        for name, answer in zip(names, asked, strict=True):
            known = self._of(answer).topic_partitions
            done = {(one.topic, one.partition): one.offset for one in known if one.topic in self._topics.partitions}
            if done:
                found[self._topics.sink(name)] = done
        return found

    def members(self, sink: str) -> int:
        """Return how many processes deliver to a destination now."""
        group = self._topics.group(sink)
        return len(self._of(self._admin.describe_consumer_groups([group], request_timeout=_ASK_SECONDS)[group]).members)

    def _lag(self, done: Mapping[Partition, int], first: Mapping[Partition, int], last: Mapping[Partition, int]) -> Lag:
        left = self.undelivered(done, first, last)
        batches = sum(end - start for start, end in left.values())
        return Lag(batches, None, None, self._age({partition: start for partition, (start, _) in left.items()}))

    def undelivered(
        self, done: Mapping[Partition, int], first: Mapping[Partition, int], last: Mapping[Partition, int]
    ) -> dict[Partition, tuple[int, int]]:
        """Return what a destination has not got: the first offset and the next, of partitions where there is any."""
        taken = {topic for topic, _ in done if topic in self._topics.signal_of}
        found = {}
        for partition, end in last.items():
            start = max(done.get(partition, 0), first[partition])
            if partition[0] in taken and start < end:
                found[partition] = (start, end)
        return found

    def _age(self, starts: Mapping[Partition, int]) -> float:
        """Return the age in seconds of the oldest of the messages at these places."""
        if not starts:
            return 0.0
        oldest = time.time()
        missing = set(starts)
        for message in self._messages(starts, stop=lambda: not missing, seconds=_ASK_SECONDS):
            missing.discard((str(message.topic()), int(message.partition() or 0)))
            oldest = min(oldest, message.timestamp()[1] / 1000)
        return max(0.0, time.time() - oldest)

    # --- messages ---------------------------------------------------------------------------------------------------
    def _messages(self, starts: Mapping[Partition, int], stop: Any, seconds: float) -> "Iterator[Message]":
        """Yield messages from these places on until `stop`, or until none comes for some seconds."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415

        consumer = self._looker()
        try:
            consumer.assign([TopicPartition(*partition, offset) for partition, offset in starts.items()])
            silent_until = time.monotonic() + seconds
            while not stop() and time.monotonic() < silent_until:
                message = consumer.poll(_POLL_SECONDS)
                if message is None:
                    continue
                if (error := message.error()) is not None:
                    raise BrokersAway(client.away(self._config, error))
                silent_until = time.monotonic() + seconds
                yield message
        finally:
            consumer.close()

    def between(self, ranges: Mapping[Partition, tuple[int, int]]) -> "Iterator[Message]":
        """Yield the messages of each partition from an offset to before another."""
        left = {partition: end for partition, (start, end) in ranges.items() if start < end}
        starts = {partition: start for partition, (start, end) in ranges.items() if start < end}
        for message in self._messages(starts, stop=lambda: not left, seconds=_ASK_SECONDS * 2):
            partition, offset = (str(message.topic()), int(message.partition() or 0)), int(message.offset() or 0)
            if partition in left and offset < left[partition]:
                yield message
            if partition in left and offset + 1 >= left[partition]:
                del left[partition]

    def _looker(self) -> "Consumer":
        import confluent_kafka  # noqa: PLC0415

        given = client.options(
            self._config,
            group_id=self._topics.group("(looking)"),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_wait_max_ms=50,
            queued_max_messages_kbytes=4096,
        )
        return confluent_kafka.Consumer(given)

    # --- dead letters -----------------------------------------------------------------------------------------------
    def _read_letters(self, last: Mapping[Partition, int]) -> None:
        """Take note of letters that came or went since the last time."""
        partition = (self._topics.dead_letters, 0)
        end = last.get(partition, 0)
        if end < self._letters_until:  # another topic of that name
            self._letters, self._letters_until = {}, 0
        for message in self.between({partition: (self._letters_until, end)}):
            key = message.key() or b""
            letter = letters.read(message)
            if letter is None:
                self._letters.pop(key, None)
                continue
            self._letters[key] = Head(
                int(message.offset() or 0), letter.sink, letter.signal, letter.received_ns, letter.items,
                letter.reason, len(letter.body),
            )  # fmt: skip
        self._letters_until = end

    def heads(self) -> Mapping[bytes, Head]:
        """Return the dead letters by their keys."""
        with self._lock:
            self._read_letters(self.ends()[1])
            return dict(self._letters)

    def letters(self, heads: Mapping[bytes, Head]) -> Iterator[Letter]:
        """Yield those letters whole, oldest first."""
        if not heads:
            return
        wanted = {head.offset for head in heads.values()}
        partition = (self._topics.dead_letters, 0)
        for message in self.between({partition: (min(wanted), max(wanted) + 1)}):
            if message.offset() in wanted and (letter := letters.read(message)):
                yield letter

    def dead_letters(self) -> list[DeadLetters]:
        """See Reader.dead_letters."""
        groups: dict[tuple[str, Signal, str], list[Head]] = {}
        for head in self.heads().values():
            groups.setdefault((head.sink, head.signal, head.reason.partition(":")[0]), []).append(head)
        found = [
            DeadLetters(
                sink, signal, max(head.reason for head in heads), len(heads), sum(head.items for head in heads),
                min(head.received_ns for head in heads),
            )
            for (sink, signal, _), heads in groups.items()
        ]  # fmt: skip
        return sorted(found, key=lambda one: (one.exporter, one.signal, one.since_ns))

    def cat_dead_letters(self) -> Iterator[str]:
        """See Reader.cat_dead_letters; letters that were never redacted have no body."""
        for letter in self.letters(self.heads()):
            if letter.body:
                yield otlp_json.encode(letter.signal, letter.body)

    def cat(self) -> Iterator[str]:
        """Yield what gateways wrote to the topics, oldest first in each partition; others' is not redacted."""
        first, last = self.ends()
        ranges = {
            partition: (first[partition], end)
            for partition, end in last.items()
            if partition[0] in self._topics.signal_of
        }
        for message in self.between(ranges):
            if client.own_items(self._config, message) >= 0 and (body := message.value()):
                yield otlp_json.encode(self._topics.signal_of[str(message.topic())], body)
