"""Operators' changes to the topics, beside a running gateway where Kafka allows it: deliver again, or drop.

Letters come and go while a gateway runs. The place of a destination can only be moved while nobody delivers to it:
Kafka refuses to change the offsets of a group that has members.
"""

from collections.abc import Mapping
from typing import Any, Final, Self

from otel_telemetry.base.errors import BrokersAway, ConfigurationError
from otel_telemetry.gateway.kafka import client, letters, topics
from otel_telemetry.gateway.kafka.config import KafkaSettings
from otel_telemetry.gateway.kafka.consumer import Partition
from otel_telemetry.gateway.kafka.producer import Producer, Record
from otel_telemetry.gateway.kafka.reader import Head, KafkaReader
from otel_telemetry.gateway.spool.operator import Count

_ASK_SECONDS: Final = 5.0
_PENDING_BYTES: Final = 64 << 20
_AT_ONCE_BYTES: Final = 8 << 20


class KafkaOperator:
    """Changes the topics that the settings name. Raises ConfigurationError, and BrokersAway where nobody answers."""

    def __init__(self, config: KafkaSettings, *, dry_run: bool = False) -> None:
        topics.check(config)
        self._config = config
        self._dry_run = dry_run
        self._topics = client.Topics(config)
        self._reader = KafkaReader(config)
        self._admin = topics.admin(config)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._reader.close()

    def acknowledge(self) -> int:
        """Return 0: what brokers lose is known to nobody here."""
        return 0

    # --- dead letters -----------------------------------------------------------------------------------------------
    def replay_dead(self, exporter: str, before_ns: int) -> Count:
        """See Operator.replay_dead. Letters without a body, which were never redacted, stay as they are."""
        wanted = {key: head for key, head in self._dead(exporter, before_ns).items() if head.bytes}
        if not self._dry_run:
            self._write(letter.again(self._topics) for letter in self._reader.letters(wanted))
        return _count(wanted)

    def drop_dead(self, exporter: str, before_ns: int) -> Count:
        """Delete the exporter's dead letters that came before a time."""
        wanted = self._dead(exporter, before_ns)
        if not self._dry_run:
            self._write(letters.gone(self._topics, key) for key in wanted)
        return _count(wanted)

    def _dead(self, exporter: str, before_ns: int) -> dict[bytes, Head]:
        heads = self._reader.heads()
        if exporter not in {head.sink for head in heads.values()}:
            self._known(exporter)
        return {key: head for key, head in heads.items() if head.sink == exporter and head.received_ns < before_ns}

    def _write(self, records: Any) -> None:
        producer = Producer(self._config, _PENDING_BYTES)
        try:
            waiting: list[Record] = []
            size = 0
            for record in records:
                waiting.append(record)
                size += len(record.value or b"")
                if size > _AT_ONCE_BYTES:
                    producer.write(waiting).result()
                    waiting, size = [], 0
            producer.write(waiting).result()
        finally:
            producer.close()

    # --- offsets -----------------------------------------------------------------------------------------------------
    def replay_since(self, exporter: str, since_ns: int) -> Count:
        """Set the exporter's offsets back to the first messages left that came at or after a time."""
        done = self._committed(exporter, "--since")
        first, last = self._reader.ends()
        ours = {partition for partition in done if partition in last}
        back = {
            partition: (max(offset, first[partition]), done[partition])
            for partition, offset in self._reader.since(since_ns, ours).items()
            if 0 <= offset < done[partition]
        }
        return self._move(exporter, {partition: start for partition, (start, _) in back.items()}, back)

    def drop_undelivered(self, exporter: str, before_ns: int) -> Count:
        """Move the exporter's offsets behind undelivered messages that came before a time."""
        done = self._committed(exporter, "--undelivered")
        first, last = self._reader.ends()
        left = self._reader.undelivered(done, first, last)
        until = self._reader.since(min(before_ns, _LATEST_NS), left)
        over = {}
        for partition, (start, end) in left.items():
            stop = until[partition] if until[partition] >= 0 else end
            if stop > start:
                over[partition] = (start, stop)
        return self._move(exporter, {partition: stop for partition, (_, stop) in over.items()}, over)

    def forget(self, exporter: str) -> Count:
        """Drop all that an exporter has not got, and its group. Refused while it is delivered to."""
        done = self._committed(exporter, "--forget")
        first, last = self._reader.ends()
        count = self._count_messages(self._reader.undelivered(done, first, last))
        if not self._dry_run:
            group = self._topics.group(exporter)
            answers = self._admin.delete_consumer_groups([group], request_timeout=_ASK_SECONDS)
            self._result(answers[group])
        return count

    def _move(self, exporter: str, to: Mapping[Partition, int], ranges: Mapping[Partition, tuple[int, int]]) -> Count:
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition  # noqa: PLC0415

        count = self._count_messages(ranges)
        if to and not self._dry_run:
            group = self._topics.group(exporter)
            offsets = [TopicPartition(*partition, offset) for partition, offset in to.items()]
            asked = self._admin.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, offsets)], request_timeout=_ASK_SECONDS
            )
            self._result(asked[group])
        return count

    def _count_messages(self, ranges: Mapping[Partition, tuple[int, int]]) -> Count:
        """Count the messages and their items; those of others count as one item each."""
        batches = items = 0
        for message in self._reader.between(ranges):
            batches += 1
            items += max(1, client.number(client.header(message, client.ITEMS)))
        return Count(batches, items)

    def _known(self, exporter: str) -> dict[Partition, int]:
        known = self._reader.positions()
        if exporter not in known:
            hint = f"Kafka knows {', '.join(sorted(known)) or 'none yet'}"
            raise ConfigurationError("--exporter", f"there is nothing for {exporter!r} in the topics", hint)
        return known[exporter]

    def _committed(self, exporter: str, option: str) -> dict[Partition, int]:
        """Return what an exporter has committed; refused while somebody delivers to it."""
        done = self._known(exporter)
        if members := self._reader.members(exporter):
            raise ConfigurationError(
                option,
                f"{members} processes deliver to {exporter}, and Kafka changes no offsets meanwhile",
                "stop the gateways with the role deliver or all, do this again, and start them; receivers may go on",
            )
        return done

    def _result(self, answer: Any) -> None:
        import confluent_kafka  # noqa: PLC0415

        try:
            answer.result(_ASK_SECONDS * 2)
        except confluent_kafka.KafkaException as error:
            raise BrokersAway(client.away(self._config, error.args[0])) from None


#: The last moment that Kafka's times in ms can be asked for here.
_LATEST_NS: Final = 4_102_444_800_000_000_000


def _count(heads: Mapping[bytes, Head]) -> Count:
    return Count(len(heads), sum(head.items for head in heads.values()))
