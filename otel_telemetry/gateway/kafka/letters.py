"""Dead letters in their topic: compacted, one key each, so that a tombstone takes one away; and what is to be replayed.

The key says where a letter came from, so that a letter that is written twice is one. A letter of ours has the redacted
body; one that was never redacted has none, as whatever reads the topic could read it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from otel_telemetry.base.destinations import Signal
from otel_telemetry.gateway.kafka import client
from otel_telemetry.gateway.kafka.producer import Headers, Record

if TYPE_CHECKING:
    from confluent_kafka import Message

_EXPORTER: Final = "exporter"
_SIGNAL: Final = "signal"
_REASON: Final = "reason"
_RECEIVED: Final = "received-ns"
_LETTER: Final = "dead-letter"


@dataclass(slots=True, frozen=True)
class Letter:
    """A dead letter: the sink that refused it, and why. `key` is its key in the topic."""

    key: bytes
    sink: str
    signal: Signal
    received_ns: int
    items: int
    reason: str
    body: bytes

    def record(self, topics: client.Topics) -> Record:
        """Return the message that stores it."""
        return Record(topics.dead_letters, self.key, self.body, self._headers())

    def again(self, topics: client.Topics) -> Record:
        """Return the message by which it is delivered again."""
        headers = [*self._headers(), (_LETTER, self.key)]
        return Record(topics.replay, self.sink.encode(), self.body, headers)

    def _headers(self) -> Headers:
        return [
            (_EXPORTER, self.sink.encode()),
            (_SIGNAL, self.signal.encode()),
            (_REASON, self.reason.encode()),
            (_RECEIVED, b"%d" % self.received_ns),
            (client.ITEMS, b"%d" % self.items),
        ]


def gone(topics: client.Topics, key: bytes) -> Record:
    """Return the tombstone that deletes a letter."""
    return Record(topics.dead_letters, key, None, [])


def key_of(sink: str, topic: str, partition: int, offset: int) -> bytes:
    """Return the key of the dead letter that a message becomes if a destination refuses it."""
    return f"{sink}/{topic}/{partition}/{offset}".encode()


def read(message: "Message") -> Letter | None:
    """Return the letter that a message is, of either topic; None where somebody else wrote it."""
    signal = client.header(message, _SIGNAL)
    sink = client.header(message, _EXPORTER)
    if signal not in client.SIGNALS or not sink:
        return None
    return Letter(
        client.header(message, _LETTER).encode() or message.key() or b"",
        sink,
        signal,
        max(0, client.number(client.header(message, _RECEIVED))),
        max(0, client.number(client.header(message, client.ITEMS))),
        client.header(message, _REASON),
        message.value() or b"",
    )
