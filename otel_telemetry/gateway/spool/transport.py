"""What is between receiving and delivering, as the two see it: the spool on the disk, or topics of Kafka.

Both keep every acknowledged batch, redacted, until each destination has it; both know how far each destination has
come, and set aside with its reason what one can never take.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, Self

from otel_telemetry.base.destinations import Signal
from otel_telemetry.gateway.spool.operator import Count
from otel_telemetry.gateway.spool.reader import Batch, DeadLetters, SpoolStatus


class Transport(Protocol):
    """Takes batches from receivers, and hands them to deliveries. Safe to use from several threads."""

    @property
    def max_bytes(self) -> int:
        """The bytes at which it refuses more; 0: it has no limit of its own."""

    @property
    def max_dead_bytes(self) -> int:
        """The bytes of dead letters from which a sink's oldest are dropped; 0: none are."""

    def expect(self, size: int) -> None:
        """Raise what `append` would for so many bytes now: asked before the work of redacting them."""

    def append(self, signal: Signal, body: bytes, items: int) -> Future[int]:
        """Queue a redacted batch; the future has a result once it is safe, or StoreUnavailable. See `append_all`."""

    def append_all(self, signal: Signal, batches: Sequence[tuple[bytes, int]]) -> Future[int]:
        """Queue bodies with their numbers of items.

        Raises Overloaded or StoreUnavailable where they cannot be taken now, TooDense where they never can.
        """

    def set_aside(self, sink: str, signal: Signal, reason: str) -> None:
        """Keep a dead letter without a body, of a request that was never acknowledged. Raises StoreUnavailable."""

    def attach(self, sinks: Sequence[str]) -> None:
        """Give each named sink a place of its own; a new one starts at the oldest batch."""

    def due(self, sink: str, limit_bytes: int, limit_batches: int, wanted: Collection[Signal] = ()) -> list[Batch]:
        """Return what the sink gets next, in order; none where there is nothing. Raises StoreUnavailable.

        Batches of signals other than those `wanted` (none named: all are) come without their bodies, or not at all.
        """

    def advance(self, sink: str, batches: Sequence[Batch], dead: Sequence[tuple[Batch, str]] = ()) -> None:
        """Note that the sink has `batches`, which `due` returned, except the `dead` ones, set aside with a reason."""

    def hold(self, sink: str) -> None:
        """Keep what `due` returned and the sink has not got yet: to be called every second or so while it is away."""

    def wait(self, sink: str, timeout: float) -> None:
        """Wait until `due` may return something, or `wake` is called, or the seconds are over."""

    def wake(self) -> None:
        """End every `wait`."""

    def status(self) -> SpoolStatus:
        """Return it in numbers. Raises StoreUnavailable."""

    def health(self, now: SpoolStatus) -> Mapping[str, Any]:
        """Return what /health shows of it. Its `status` is `ok` where a batch would be taken now."""

    def close(self) -> None:
        """Finish what is queued, and let go. Safe to repeat."""


class Reader(Protocol):
    """Looks at what is there, and changes nothing."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

    def status(self) -> SpoolStatus:
        """Return it in numbers."""

    def dead_letters(self) -> list[DeadLetters]:
        """Return what exporters could not take, by exporter, signal and kind of reason (what is before a colon)."""

    def cat(self) -> Iterator[str]:
        """Yield every batch that is there and can be read, as one line of OTLP/JSON each."""

    def cat_dead_letters(self) -> Iterator[str]:
        """Yield what exporters could not take, as one line of OTLP/JSON each."""


class Operator(Protocol):
    """Changes what is there at an operator's request. Times are in ns since 1970."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...

    def acknowledge(self) -> int:
        """Take note of what is lost, so that /health is no longer degraded by it; return how many losses."""

    def replay_dead(self, exporter: str, before_ns: int) -> Count:
        """Have the exporter's dead letters that came before a time delivered again; each leaves when it is."""

    def replay_since(self, exporter: str, since_ns: int) -> Count:
        """Deliver to the exporter again what is still there and came at or after a time."""

    def drop_dead(self, exporter: str, before_ns: int) -> Count:
        """Delete the exporter's dead letters that came before a time."""

    def drop_undelivered(self, exporter: str, before_ns: int) -> Count:
        """Pass over what the exporter has not got and came before a time."""

    def forget(self, exporter: str) -> Count:
        """Drop all that an exporter has not got, and its place. Refused while it is delivered to."""
