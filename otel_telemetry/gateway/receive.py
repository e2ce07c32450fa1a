"""The core of receiving, whatever the transport: bound the work, decode, redact, commit to the spool, then answer.

Nothing is acknowledged before it is on disk, and nothing unredacted is ever stored: where redaction raises, the request
is refused with a permanent error (INTERNAL, HTTP 500), because the same bytes would fail again.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_telemetry import metrics
from otel_telemetry.errors import Overloaded, TelemetryError
from otel_telemetry.gateway.otlp_json import REQUESTS, Decoded, Signal
from otel_telemetry.gateway.spool import Spool
from otel_telemetry.gateway.status import REDACTION_FAILED, Refusal, RefusedError, refusal

_WORKERS: Final = 2
_ITEM_FIELDS: Final = {"traces": "spans", "logs": "log_records", "metrics": "data_points"}

#: One span without anything in it.
_PROBE: Final = ExportTraceServiceRequest(
    resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span(trace_id=b"p" * 16, span_id=b"p" * 8)])])]
).SerializeToString()
_Result = TypeVar("_Result")

_log = logging.getLogger("otel_telemetry.gateway.receive")


class Clean(Protocol):
    """What redaction returns: the clean request, its items, how many it left out and counted, the first reason."""

    @property
    def body(self) -> bytes:
        """The request, safe to keep."""

    @property
    def items(self) -> int:
        """Spans, records or points in it."""

    @property
    def rejected(self) -> int:
        """Items left out."""

    @property
    def problem(self) -> str:
        """Why the first of them was, with its path."""


class Redactor(Protocol):
    """Cleans one serialized Export*ServiceRequest; raises MalformedTelemetry; safe to call from several threads."""

    def redact(self, signal: Signal, body: bytes) -> Clean:
        """Return the request without personal data."""


@dataclass(slots=True, frozen=True)
class Accepted:
    """What was acknowledged. `rejected` and `problem` go into the answer's partial success.

    `body` is what is kept; `redacted` says whether that is other than what came.
    """

    items: int
    rejected: int
    problem: str
    body: bytes = b""
    redacted: bool = False


#: Makes protobuf of what came in (decompress, decode JSON). Raises TelemetryError.
Prepare = Callable[[bytes], Decoded]


class Receiver:
    """Takes requests of any transport. `pending` are the bytes being worked on.

    Redaction has two threads. JSON is parsed in one of its own: it holds the interpreter lock and takes many times the
    body's size, and must not keep protobuf requests waiting.
    """

    def __init__(self, redactor: Redactor, spool: Spool, max_pending_bytes: int) -> None:
        self._redactor = redactor
        self._spool = spool
        self.max_pending = max_pending_bytes
        self.pending = 0
        self._workers = ThreadPoolExecutor(_WORKERS, "otel-telemetry-redact")
        self._parser = ThreadPoolExecutor(1, "otel-telemetry-json")
        self._failing = False

    def room(self) -> "Room":
        """Return the (still empty) share of one request in the bytes that may be worked on at once."""
        return Room(self)

    async def accept(
        self,
        signal: Signal,
        body: bytes,
        room: "Room",
        prepare: Prepare | None = None,
        *,
        slow: bool = False,
        at_once: bool = False,
    ) -> Accepted:
        """Return once the redacted request is on disk; `room` holds its bytes. Raises TelemetryError: not accepted.

        `prepare` runs in a worker thread; where it is `slow`, in the one for that. `at_once`: what is so small that to
        hand it to a thread takes longer than the work.
        """
        run = asyncio.get_running_loop().run_in_executor
        decoded = Decoded(body, 0, "")
        if prepare and at_once:
            decoded = self._closed(signal, body, prepare)
        elif prepare:
            decoded = await run(self._parser if slow else self._workers, self._closed, signal, body, prepare)
        room.grow(max(0, len(decoded.body) - len(body)))
        clean = (
            self._redact(signal, decoded.body)
            if at_once
            else await run(self._workers, self._redact, signal, decoded.body)
        )
        if clean.items:
            room.grow(max(0, len(clean.body) - len(decoded.body)))
            kept = self._spool.append(signal, clean.body, clean.items)
            kept.add_done_callback(lambda done: self._count_kept(signal, decoded, clean, done))
            await asyncio.wrap_future(kept)
        else:
            self._count(signal, decoded, clean)
        rejected = decoded.rejected + clean.rejected
        problem = decoded.problem or clean.problem
        return Accepted(clean.items, rejected, problem, clean.body, clean.body is not decoded.body)

    def works(self) -> bool:
        """Say whether redaction works, by trying it on a request of our own."""
        try:
            return self._redactor.redact("traces", _PROBE).items == 1
        except Exception:  # noqa: BLE001 - whatever it is: it does not work
            return False

    def _redact(self, signal: Signal, body: bytes) -> Clean:
        clean = self._closed(signal, body, lambda given: self._redactor.redact(signal, given))
        self._failing = False
        return clean

    def _closed(self, signal: Signal, body: bytes, work: Callable[[bytes], _Result]) -> _Result:
        """Run one step of the work; if that fails in a way that nobody foresaw, refuse and keep nothing."""
        try:
            return work(body)
        except TelemetryError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is: fail closed
            self._lose(signal, body, error)
            raise RefusedError(REDACTION_FAILED) from None

    def _lose(self, signal: Signal, body: bytes, error: Exception) -> None:
        metrics.dropped.add(_count_items(signal, body), {"signal": signal, "reason": REDACTION_FAILED.reason})
        if not self._failing:  # the type only: a message may quote what it was working on
            _log.error("redaction failed with %s; the request was refused and not kept", type(error).__name__)
        self._failing = True

    def _count_kept(self, signal: Signal, decoded: Decoded, clean: Clean, kept: Future[int]) -> None:
        """Count what is on disk, also where its sender has gone away meanwhile: it is delivered all the same."""
        if not kept.cancelled() and kept.exception() is None:
            self._count(signal, decoded, clean)

    @staticmethod
    def _count(signal: Signal, decoded: Decoded, clean: Clean) -> None:
        metrics.accepted.add(clean.items, {"signal": signal})
        if decoded.rejected:
            metrics.dropped.add(decoded.rejected, {"signal": signal, "reason": "invalid"})

    @staticmethod
    def refuse(signal: Signal, error: TelemetryError) -> Refusal:
        """Count a request that is not accepted and return what its sender is told."""
        refused = refusal(error)
        metrics.refused.add(1, {"signal": signal, "reason": refused.reason})
        return refused

    def close(self) -> None:
        """End the worker threads; what they are at is finished."""
        self._parser.shutdown()
        self._workers.shutdown()


class Room:
    """The bytes of one request among those that may be worked on at once; given back on leaving. Event loop only."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._held = 0

    def grow(self, size: int) -> None:
        """Take `size` bytes more, or raise Overloaded. One request alone always has room."""
        others = self._receiver.pending - self._held
        if others and others + self._held + size > self._receiver.max_pending:
            raise Overloaded("too much is being worked on", random.uniform(1, 3))  # noqa: S311 - spreads retries
        self._receiver.pending += size
        self._held += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._receiver.pending -= self._held
        self._held = 0


def _count_items(signal: Signal, body: bytes) -> int:
    """Count spans, records or points of a request that cannot be redacted; 1 where it cannot be read either."""
    try:
        return _items_in(REQUESTS[signal].FromString(body), _ITEM_FIELDS[signal]) or 1
    except DecodeError:
        return 1


def _items_in(message: object, name: str) -> int:
    total = 0
    for field, value in message.ListFields():  # type: ignore[attr-defined] # generated classes
        if field.name == name:
            total += len(value)
        elif field.message_type is not None:
            total += sum(_items_in(part, name) for part in (value if field.is_repeated else (value,)))
    return total
