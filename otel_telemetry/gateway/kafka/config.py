"""Settings of the gateway's topics."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints

#: What acknowledgement, redelivery and the figures of /health depend on; the gateway sets it itself.
OWN_OPTIONS: Final = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "group.id",
        "message.max.bytes",
        "message.timeout.ms",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "request.required.acks",
        "transactional.id",
    }
)

Prefix = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]*$", max_length=100)]


class KafkaSettings(BaseModel):
    """Where Kafka is and what its topics are like; used where gateway.transport is kafka."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    brokers: str = Field(
        "",
        description="Brokers for the first connection, as "
        "`host:port,host:port`; needed where gateway.transport is kafka.",
    )
    topic_prefix: Prefix = Field(
        "otlp_",
        description="Prefix of the topics' names (PREFIXspans, PREFIXlogs, PREFIXmetrics, PREFIXdead_letters and "
        "PREFIXreplay) and of the consumer groups' (PREFIX and the destination).",
    )
    partitions: int = Field(
        12,
        ge=1,
        le=10_000,
        description="Partitions of each of the topics spans, logs and metrics; a topic with another number stops "
        "start-up. At most this many processes deliver to one destination.",
    )
    max_message_bytes: int = Field(
        1_000_000,
        ge=1 << 10,
        description="Largest message, max.message.bytes of the topics or less; larger requests are split, and a single"
        " span, record or metric above it is refused.",
    )
    acknowledge_seconds: float = Field(
        5.0,
        gt=0,
        le=600,
        description="How long a sender waits for the brokers' acknowledgement before it is told to send again.",
    )
    secret: SecretStr = Field(
        SecretStr(""),
        description="Secret that all gateways of these topics share, 16 characters or more: each message carries a"
        " signature made with it, and one without is redacted before it is delivered, whatever its headers say.",
    )
    options: dict[str, SecretStr] = Field(
        {},
        description="Further options of librdkafka for all connections, such as `security.protocol`, `sasl.mechanism`,"
        " `sasl.username`, `sasl.password`, `ssl.ca.location`, `compression.type`.",
    )
