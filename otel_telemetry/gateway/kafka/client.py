"""The client library of Kafka with our settings: names of topics and groups, options, headers, errors in words.

confluent-kafka (librdkafka) is imported here, and only where gateway.transport is kafka.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.kafka.config import OWN_OPTIONS, KafkaSettings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

_TOPICS: Final[Mapping[Signal, str]] = {"traces": "spans", "logs": "logs", "metrics": "metrics"}
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "logs", "metrics")
#: Header of a message that a gateway wrote: its number of items. Its body is redacted; one without it may not be.
ITEMS: Final = "otel-telemetry-items"
_SIGNATURE: Final = "otel-telemetry-signature"
_SHORTEST_SECRET: Final = 16
_BROKERS: Final = "gateway.kafka.brokers"
_OPTIONS: Final = "gateway.kafka.options"


class Topics:
    """The names that the prefix gives."""

    def __init__(self, config: KafkaSettings) -> None:
        self._prefix = config.topic_prefix
        self.of_signal: Mapping[Signal, str] = {signal: self._prefix + name for signal, name in _TOPICS.items()}
        self.signal_of: Mapping[str, Signal] = {name: signal for signal, name in self.of_signal.items()}
        self.dead_letters = f"{self._prefix}dead_letters"
        self.replay = f"{self._prefix}replay"
        #: Partitions of each.
        self.partitions = {
            **dict.fromkeys(self.of_signal.values(), config.partitions),
            self.dead_letters: 1,
            self.replay: 1,
        }

    def group(self, sink: str) -> str:
        """Return the name of a destination's consumer group."""
        return self._prefix + sink

    def sink(self, group: str) -> str:
        """Return the destination of a consumer group, "" where it is none of ours."""
        return group.removeprefix(self._prefix) if group.startswith(self._prefix) else ""


def check(config: KafkaSettings) -> None:
    """Raise ConfigurationError where the library is not there, or a setting cannot be used."""
    try:
        import confluent_kafka  # noqa: F401, PLC0415 - only who uses Kafka needs it
    except ImportError:
        hint = "pip install 'otel-telemetry[kafka]'"
        raise ConfigurationError("gateway.transport", "kafka needs confluent-kafka, which is not here", hint) from None
    if not config.brokers:
        hint = "name one broker or more, such as kafka-1:9092,kafka-2:9092"
        raise ConfigurationError(_BROKERS, "nothing is set, and gateway.transport is kafka", hint)
    if 0 < len(config.secret.get_secret_value()) < _SHORTEST_SECRET:
        raise ConfigurationError("gateway.kafka.secret", "is too short", "make one with `openssl rand -hex 32`")
    for name in config.options:
        if name in OWN_OPTIONS:
            hint = "leave it out: what is acknowledged would not be safe, or be read twice, with another value"
            raise ConfigurationError(f"{_OPTIONS}.{name}", "is set by the gateway itself", hint)


def options(config: KafkaSettings, **own: object) -> dict[str, Any]:
    """Return what a client of the library is made with; names of `own` have `_` for `.`, but for callbacks."""
    given = {name: value.get_secret_value() for name, value in config.options.items()}
    basis: dict[str, Any] = {
        "bootstrap.servers": config.brokers,
        "client.id": "otel-telemetry",
        "reconnect.backoff.max.ms": 1000,
        "topic.metadata.refresh.interval.ms": 30_000,
        "allow.auto.create.topics": False,
        "log_level": 0,  # what it would write on standard error comes to our callbacks as well
    }
    named = {name if callable(value) else name.replace("_", "."): value for name, value in own.items()}
    return {**basis, **given, **named}


def not_an_option(config: KafkaSettings, error: "KafkaError") -> ConfigurationError:
    """Return the error for options that the library does not take. Its own text may quote values: it is not shown."""
    named = [name for name in config.options if f'"{name}"' in error.str()]
    problem = "librdkafka does not take it" if named else "librdkafka does not take them together"
    hint = "see https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md for names and values"
    return ConfigurationError(f"{_OPTIONS}.{named[0]}" if named else _OPTIONS, problem, hint)


def own_headers(config: KafkaSettings, body: bytes, items: int) -> list[tuple[str, str | bytes | None]]:
    """Return the headers of a message of ours, whose body is redacted."""
    headers: list[tuple[str, str | bytes | None]] = [(ITEMS, b"%d" % items)]
    if config.secret.get_secret_value():
        headers.append((_SIGNATURE, _signature(config, body, items)))
    return headers


def own_items(config: KafkaSettings, message: "Message") -> int:
    """Return the number of items of a message that a gateway wrote, -1 where somebody else did.

    Anybody who may write to a topic can write its headers too, and a Collector puts there what its senders say.
    """
    items = number(header(message, ITEMS))
    if items < 0 or not config.secret.get_secret_value():
        return items
    expected = _signature(config, message.value() or b"", items)
    given = header(message, _SIGNATURE).encode("utf-8", "replace")
    return items if hmac.compare_digest(expected, given) else -1


def _signature(config: KafkaSettings, body: bytes, items: int) -> bytes:
    made = hmac.new(config.secret.get_secret_value().encode(), b"%d:" % items, hashlib.sha256)
    made.update(body)
    return made.hexdigest().encode()


def header(message: "Message", name: str) -> str:
    """Return a header's text, "" where there is none."""
    headers = message.headers() or []
    for key, value in headers.items() if isinstance(headers, dict) else headers:
        if key == name and value is not None:
            return value if isinstance(value, str) else value.decode("utf-8", "replace")
    return ""


def number(text: str) -> int:
    """Return a header's number, -1 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1  # noqa: PLR2004 - of 64 bits


def all_down(error: "KafkaError") -> bool:
    """Return whether no broker can be reached."""
    from confluent_kafka import KafkaError as Codes  # noqa: PLC0415

    return error.code() == Codes._ALL_BROKERS_DOWN  # noqa: SLF001 - its name


def away(config: KafkaSettings, what: object) -> str:
    """Return the error for brokers that do not do what was requested, with the reason."""
    reason = what.str() if hasattr(what, "str") else str(what)
    return f"Kafka at {config.brokers} does not take or give messages: {reason}"
