"""The topics themselves: compares them with the settings, and creates them."""

import contextlib
import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from otel_telemetry.base.errors import BrokersAway, ConfigurationError
from otel_telemetry.gateway.kafka import client
from otel_telemetry.gateway.kafka.config import KafkaSettings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

ASK_SECONDS: Final = 5.0
MAKE: Final = "otel-telemetry spool topics --create"
_OVERHEAD: Final = 8192  # of a message in a topic: key, headers, the batch that it comes in
_ONE_REPLICA: Final = 1
_LEADERS_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.1


def admin(config: KafkaSettings) -> "AdminClient":
    """Return a client that looks at topics and groups and changes them. Raises ConfigurationError."""
    import confluent_kafka  # noqa: PLC0415
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    client.check(config)
    try:
        return AdminClient(client.options(config))
    except confluent_kafka.KafkaException as error:
        raise client.not_an_option(config, error.args[0]) from None


def partitions(config: KafkaSettings, asked: "AdminClient", seconds: float = ASK_SECONDS) -> Mapping[str, int]:
    """Return the partitions of those of our topics that are there. Raises BrokersAway."""
    import confluent_kafka  # noqa: PLC0415

    try:
        found = asked.list_topics(timeout=seconds).topics
    except confluent_kafka.KafkaException as error:
        raise BrokersAway(client.away(config, error.args[0])) from None
    wanted = client.Topics(config).partitions
    return {name: len(found[name].partitions) for name in wanted if name in found and not found[name].error}


def ids(asked: "AdminClient", names: Collection[str]) -> dict[str, str]:
    """Return the id of each topic that is there and may be seen; one that is deleted and made again has another."""
    from confluent_kafka import KafkaException, TopicCollection  # noqa: PLC0415

    found: dict[str, str] = {}
    if not names:
        return found
    for name, answer in asked.describe_topics(TopicCollection(list(names)), request_timeout=ASK_SECONDS).items():
        with contextlib.suppress(KafkaException):
            found[name] = str(answer.result().topic_id)
    return found


def check(config: KafkaSettings) -> None:
    """Raise ConfigurationError where a topic is missing or has other partitions, BrokersAway if no broker answers."""
    there = partitions(config, admin(config))
    wanted = client.Topics(config).partitions
    if missing := [name for name in wanted if name not in there]:
        raise ConfigurationError(
            "gateway.kafka.topic_prefix",
            f"Kafka at {config.brokers} has no topic {', '.join(missing)}",
            f"make them (`{MAKE}`), or set the prefix of those that are there",
        )
    for name, count in wanted.items():
        if there[name] != count:
            what = "gateway.kafka.partitions" if count == config.partitions else "gateway.kafka.topic_prefix"
            raise ConfigurationError(
                what,
                f"the topic {name} has {there[name]} partitions, and {count} are expected",
                f"set gateway.kafka.partitions to {there[name]} in all gateways, or make the topic anew",
            )


def create(config: KafkaSettings, replicas: int, retention_hours: float) -> list[str]:
    """Make the topics that are missing; return their names. Raises ConfigurationError."""
    import confluent_kafka  # noqa: PLC0415
    from confluent_kafka.admin import NewTopic  # noqa: PLC0415

    client.check(config)
    asked = admin(config)
    there = partitions(config, asked)
    topics = client.Topics(config)
    common: dict[str, Any] = {
        "max.message.bytes": str(config.max_message_bytes + _OVERHEAD),
        "min.insync.replicas": str(max(_ONE_REPLICA, replicas - 1)),
    }
    retention = {"retention.ms": str(int(retention_hours * 3_600_000))}
    made = [
        NewTopic(name, count, replicas, config={**common, **(_LETTERS if name == topics.dead_letters else retention)})
        for name, count in topics.partitions.items()
        if name not in there
    ]
    for name, done in asked.create_topics(made, operation_timeout=ASK_SECONDS).items() if made else ():
        try:
            done.result()
        except confluent_kafka.KafkaException as error:
            hint = "see whether the brokers allow it: their number, and the rights of this client"
            raise ConfigurationError(
                "gateway.kafka.topic_prefix", f"{name} cannot be made: {error.args[0].str()}", hint
            ) from None
    _wait_for_leaders(config, {topic.topic: topics.partitions[topic.topic] for topic in made})
    return [topic.topic for topic in made]


def _wait_for_leaders(config: KafkaSettings, made: Mapping[str, int]) -> None:
    """Return once each new partition can be read: the brokers learn of it a little after the answer."""
    import confluent_kafka  # noqa: PLC0415
    from confluent_kafka import TopicPartition  # noqa: PLC0415
    from confluent_kafka.admin import OffsetSpec  # noqa: PLC0415

    every = [TopicPartition(name, number) for name, count in made.items() for number in range(count)]
    end = time.monotonic() + _LEADERS_SECONDS
    while every:
        asked = admin(config)  # one that knows of topics without leaders asks no more
        answers = asked.list_offsets(dict.fromkeys(every, OffsetSpec.latest()), request_timeout=ASK_SECONDS)
        try:
            for answer in answers.values():
                answer.result()
        except confluent_kafka.KafkaException as error:
            if time.monotonic() > end:
                raise BrokersAway(client.away(config, error.args[0])) from None
            time.sleep(_LOOK_SECONDS)
        else:
            return


#: A letter is kept until a message with its key and no value takes it away.
_LETTERS: Final = {"cleanup.policy": "compact", "retention.ms": "-1", "segment.ms": "86400000"}
