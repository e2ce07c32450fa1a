"""What makes requests clean, whatever becomes of them then: bound the work, decode, redact.

Nothing unredacted ever leaves it: where redaction raises, the request is refused with a permanent error (INTERNAL, HTTP
500), because the same bytes would fail again.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol, Self, TypeVar

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from otel_telemetry.base import memory, metrics
from otel_telemetry.base.descriptors import is_repeated
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import MalformedTelemetry, Overloaded, TelemetryError, TooDense
from otel_telemetry.base.otlp_json import REQUESTS, Decoded
from otel_telemetry.gateway.receive.allowance import Allowances, Purse
from otel_telemetry.gateway.receive.status import (
    REDACTION_FAILED,
    Refusal,
    RefusedError,
    refusal,
    too_large_with_headers,
)
from otel_telemetry.gateway.spool.redacted import RedactedRequest, RequestRedactor

_WORKERS: Final = 2
_PUBLIC_WORKERS: Final = 1  # of them, for senders without a secret key
_COPIES: Final = 2
_RESERVED: Final = 8  # this part of the room is for small requests, which take ...
_SMALL: Final = 64  # ... this part of it at most
_PUBLIC: Final = 4  # all who have no secret key have this part of it together
_LARGE_BYTES: Final = 2 << 20  # a slice as large as that is one item, which may take 15 times as much: one at a time
WHOLE_BYTES: Final = 1 << 20  # up to so many, a request is worked on as a whole
_MARKS: Final = (b"{", b"[", b",", b":")  # of JSON; those in its texts count too
_COUNTED_AT_ONCE: Final = 1 << 18  # the interpreter lock is held for so many bytes, about a millisecond
_MARK_BYTES: Final = 100  # that a value or name takes, measured: 36 to 122
_MOST_MARKS: Final = 2_000_000  # 16 MB of ordinary OTLP/JSON have 1,600,000
_ITEM_FIELDS: Final = {"traces": "spans", "logs": "log_records", "metrics": "data_points"}

#: One span without anything in it.
_PROBE: Final = ExportTraceServiceRequest(
    resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[Span(trace_id=b"p" * 16, span_id=b"p" * 8)])])]
).SerializeToString()
_Result = TypeVar("_Result")

_log = logging.getLogger("otel_telemetry.gateway.receive")


class Slice(Protocol):
    """A part of a large request."""

    @property
    def body(self) -> bytes:
        """The part, as a request of its own."""

    @property
    def problem(self) -> str:
        """Why the one item in it cannot be taken, with its path; "" where it can."""

    def path(self, problem: str) -> str:
        """Return a problem of one of its items, with the item's path in the whole request."""


class Redactor(RequestRedactor, Protocol):
    """Redacts requests, also large ones in parts, and those that protobuf cannot parse."""

    def slices(self, signal: Signal, body: bytes) -> Sequence[Slice]:
        """Return a large request in parts that can be redacted one by one; raises TooDense."""

    def count_items(self, body: bytes) -> int:
        """Count the items of a request that cannot be parsed, as far as it can be read; 1 at least."""

    def add_to_resources(self, body: bytes, attributes: Mapping[str, bytes], charge: Callable[[int], object]) -> bytes:
        """Return a request whose resources have these KeyValue messages too, by key, unless they have them already.

        `charge` is called with the bytes of each addition before it is made. Raises TooDense.
        """


@dataclass(slots=True, frozen=True)
class Part:
    """A slice of a request after redaction; see RedactedRequest."""

    body: bytes
    items: int
    rejected: int
    problem: str


#: Makes protobuf of what came in (decompress, decode JSON). Raises TelemetryError.
Prepare = Callable[[bytes], Decoded]


class Cleaning:
    """Cleans requests of any transport. `pending` are the bytes being worked on.

    Redaction has two threads. JSON is parsed in one of its own: it holds the interpreter lock and takes many times the
    body's size, and must not keep protobuf requests waiting.
    """

    def __init__(self, redactor: Redactor, max_pending_bytes: int, allowances: Allowances | None = None) -> None:
        self._redactor = redactor
        self.allowances = allowances or Allowances(0.0)
        self._public = asyncio.Semaphore(_PUBLIC_WORKERS)
        self._large = asyncio.Lock()
        self.max_pending = max_pending_bytes
        self.pending = 0
        self.pending_public = 0  # of that, of those who have no secret key
        self.counting = threading.Lock()
        self._workers = ThreadPoolExecutor(_WORKERS, "otel-telemetry-redact")
        self._parser = ThreadPoolExecutor(1, "otel-telemetry-json")
        self._failing = False

    def redact_with(self, redactor: Redactor) -> None:
        """Redact with this one from the next slice on."""
        self._redactor = redactor

    def room(self, who: str = "") -> "Room":
        """Return the (still empty) share of one request in the bytes that may be worked on at once.

        `who` pays for the CPU time of it, as Keys.require_http says.
        """
        return Room(self, self.allowances.purse(who))

    async def _decode(
        self, signal: Signal, body: bytes, room: "Room", prepare: Prepare | None, *, slow: bool, at_once: bool
    ) -> Decoded:
        if prepare is None:
            return Decoded(body, 0, "")
        if at_once:
            return self._closed(signal, body, prepare)
        if slow:
            run = asyncio.get_running_loop().run_in_executor
            return await run(self._parser, room.paying(self._closed), signal, body, prepare)
        return await self._run(room, self._closed, signal, body, prepare)

    async def _run(self, room: "Room", work: Callable[..., _Result], *given: Any) -> _Result:
        """Work in a thread; those who have no secret key leave one of the threads to the others."""
        run = asyncio.get_running_loop().run_in_executor
        if room.purse is None:
            return await run(self._workers, work, *given)
        async with self._public:
            return await run(self._workers, room.purse.run, work, *given)

    async def _redact_apart(self, signal: Signal, body: bytes, room: "Room") -> RedactedRequest:
        if len(body) <= _LARGE_BYTES:
            return await self._run(room, self._redact, signal, body)
        async with self._large:
            return await self._run(room, self._redact, signal, body)

    async def _redact_slices(self, signal: Signal, body: bytes, room: "Room") -> list[RedactedRequest]:
        """Redact a large request slice by slice. Raises MalformedTelemetry where nothing of it is left."""
        cleaned: list[RedactedRequest] = []
        refused: tuple[str, str] | None = None  # not the error: with this frame it would hold the request
        slices = await self._run(room, self._redactor.slices, signal, body)
        for one in slices:
            if one.problem:
                metrics.dropped.add(1, {"signal": signal, "reason": "invalid"})
                cleaned.append(Part(b"", 0, 1, one.problem))
                continue
            try:
                clean = await self._redact_apart(signal, one.body if len(slices) > 1 else body, room)
                cleaned.append(Part(clean.body, clean.items, clean.rejected, one.path(clean.problem)))
                del clean
            except MalformedTelemetry as error:
                refused = error.problem, one.path(error.field)
                lost = await self._run(room, self._redactor.count_items, one.body)
                metrics.dropped.add(lost, {"signal": signal, "reason": "invalid"})
                cleaned.append(Part(b"", 0, lost, str(MalformedTelemetry(*refused))))
        if refused and not any(clean.items for clean in cleaned):
            raise MalformedTelemetry(*refused)
        return cleaned

    def add_to_resources(self, body: bytes, attributes: Mapping[str, bytes], charge: Callable[[int], object]) -> bytes:
        """Return a request whose resources have these attributes too; nothing of it is parsed."""
        return self._redactor.add_to_resources(body, attributes, charge)

    def works(self) -> bool:
        """Return whether redaction works, by trying it on a request of our own."""
        try:
            return self._redactor.redact("traces", _PROBE).items == 1
        except Exception:  # noqa: BLE001 - whatever it is: it does not work
            return False

    def _redact(self, signal: Signal, body: bytes) -> RedactedRequest:
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

    @staticmethod
    def refuse(signal: Signal, error: TelemetryError) -> Refusal:
        """Count a request that is not accepted, and return the answer. `error` must not be raised again."""
        refused = refusal(error)
        memory.let_go(error)
        metrics.refused.add(1, {"signal": signal, "reason": refused.reason})
        return refused

    def close(self) -> None:
        """End the worker threads; what they are at is finished."""
        self._parser.shutdown()
        self._workers.shutdown()


class Room:
    """The bytes of one request among those that may be worked on at once; given back on leaving. For any thread.

    Each byte counts twice: itself, and the copy of it that redaction makes. One request alone always has room, but it
    may take minutes: an eighth of all is kept for small requests, whatever the large ones are.
    """

    def __init__(self, cleaning: Cleaning, purse: Purse | None = None) -> None:
        self._cleaning = cleaning
        self.purse = purse  # pays for the CPU time of the request, where it has to
        self._held = 0
        self._counted = 0  # of that

    def grow(self, size: int) -> None:
        """Take room for `size` bytes more, or raise Overloaded. One request alone always has room."""
        self._hold(size * _COPIES)

    def expect(self, size: int) -> None:
        """Note that so many bytes will be worked on. Raises RefusedError where its sender has no CPU time for that."""
        if self.purse:
            self.purse.expect(size)

    def look(self, size: int) -> None:
        """Do as `expect`, but hold nothing: of a body that comes slowly, others with the same key must not wait."""
        if self.purse:
            self.purse.look(size)

    def paying(self, work: Callable[..., _Result]) -> Callable[..., _Result]:
        """Return work that is paid for."""
        return partial(self.purse.run, work) if self.purse else work

    def within(self, limit: int) -> Callable[[int], None]:
        """Return what takes room for bytes that headers add, and refuses them permanently above `limit` in all."""
        left = limit

        def grow(size: int) -> None:
            nonlocal left
            left -= size
            if left < 0:
                raise RefusedError(too_large_with_headers(limit))
            self.grow(size)

        return grow

    def parse_json(self, body: bytes, most: int = _MOST_MARKS, each: int = _MARK_BYTES) -> None:
        """Take room for what JSON takes while it is parsed, which depends on its parts and not on its bytes.

        Each value and name takes so many bytes. Raises TooDense for more than `most` of them.
        """
        marks = 0
        for start in range(0, len(body), _COUNTED_AT_ONCE):
            piece = body[start : start + _COUNTED_AT_ONCE]
            marks += sum(piece.count(mark) for mark in _MARKS)
            if marks > most:
                raise TooDense(f"more than {most} values and names")
        self._hold(marks * each)

    def _hold(self, size: int) -> None:
        with self._cleaning.counting:
            most = self._cleaning.max_pending
            share = most - most // _RESERVED
            mine = self._held + size
            others = self._cleaning.pending - self._counted
            full = others and others + mine > (most if mine <= most // _SMALL and not self.purse else share)
            if self.purse:
                share = most // _PUBLIC
                others = self._cleaning.pending_public - self._counted
                full = full or (others and others + mine > share)
            if full:
                raise Overloaded("too much is being worked on", random.uniform(1, 3))  # noqa: S311 - spreads retries
            self._count(min(mine, share))
            self._held = mine

    def _count(self, size: int) -> None:
        """Have this much of the room counted as taken."""
        self._cleaning.pending += size - self._counted
        if self.purse:
            self._cleaning.pending_public += size - self._counted
        self._counted = size

    def close(self) -> None:
        """Give all of it back. Safe to repeat."""
        if self.purse:
            self.purse.close()
        with self._cleaning.counting:
            self._count(0)
            self._held = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


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
            total += sum(_items_in(part, name) for part in (value if is_repeated(field) else (value,)))
    return total
