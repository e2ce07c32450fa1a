"""Receiving, whatever the transport: clean a request, commit it to the spool, then answer.

Nothing is acknowledged before it is on disk, and nothing unredacted is ever stored (cleaning.py).
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace

from otel_telemetry.base import memory, metrics
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.otlp_json import Decoded
from otel_telemetry.gateway.receive.allowance import Allowances
from otel_telemetry.gateway.receive.callers import AbandonedRequests, Caller
from otel_telemetry.gateway.receive.cleaning import WHOLE_BYTES, Cleaning, Prepare, Redactor, Room
from otel_telemetry.gateway.receive.watch import Watch
from otel_telemetry.gateway.spool.redacted import RedactedRequest
from otel_telemetry.gateway.spool.transport import Transport


@dataclass(slots=True, frozen=True)
class Accepted:
    """An acknowledged request.

    `rejected` and `problem` go into the answer's partial success. `body` is what is stored; `redacted`: it differs from
    what arrived.
    """

    items: int
    rejected: int
    problem: str
    body: bytes = b""
    redacted: bool = False


class Receiver(Cleaning):
    """Takes requests of any transport, and keeps them."""

    def __init__(
        self,
        redactor: Redactor,
        spool: Transport,
        max_pending_bytes: int,
        watch: Watch,
        allowances: Allowances | None = None,
    ) -> None:
        super().__init__(redactor, max_pending_bytes, allowances)
        self.watch = watch
        self._spool = spool
        self._abandoned: AbandonedRequests[Accepted] = AbandonedRequests()

    async def accept(
        self,
        signal: Signal,
        body: bytes,
        room: Room,
        prepare: Prepare | None = None,
        *,
        slow: bool = False,
        at_once: bool = False,
        caller: Caller | None = None,
        in_slices: bool = False,
    ) -> Accepted:
        """Return once the redacted request is on disk; `room` holds its bytes. Raises TelemetryError: not accepted.

        `prepare` runs in a worker thread; where it is `slow`, in the one for that. `at_once`: what is so small that to
        hand it to a thread takes longer than the work; it may be several requests, each watched by its own. Where the
        `caller` leaves, the work goes on, and the same bytes that come again get its answer. Without a caller, what is
        large is worked on `in_slices`, or as a whole.
        """
        async with nullcontext() if at_once else self.watch.over(signal, body):
            room.expect(len(body))
            decoded = await self._decode(signal, body, room, prepare, slow=slow, at_once=at_once)
            room.expect(len(decoded.body))
            if in_slices and caller is None and len(decoded.body) > WHOLE_BYTES:
                return await self._keep_slices(signal, decoded, room, with_body=True)
            return await self._accept(signal, decoded, room, caller, at_once=at_once)

    async def _accept(
        self, signal: Signal, decoded: Decoded, room: Room, caller: Caller | None, *, at_once: bool
    ) -> Accepted:
        earlier = self._abandoned.answer(signal, decoded.body) if caller else None
        if earlier and (same := await asyncio.shield(asyncio.wrap_future(earlier))):
            metrics.repeated.add(1, {"signal": signal})
            return same
        if caller is None:
            return await self._keep(signal, decoded, room, at_once=at_once)
        answer: Future[Accepted | None] = Future()
        caller.when_gone(lambda: self._abandoned.remember(signal, decoded.body, answer))
        accepted = None
        try:
            if len(decoded.body) <= WHOLE_BYTES:
                accepted = await self._keep(signal, decoded, room, at_once=at_once)
            else:
                accepted = await self._keep_slices(signal, decoded, room)
            return accepted
        finally:
            answer.set_result(accepted and replace(accepted, body=b""))
            caller.answered()

    async def _keep(self, signal: Signal, decoded: Decoded, room: Room, *, at_once: bool) -> Accepted:
        """Redact a request and put it on disk."""
        self._spool.expect(len(decoded.body))
        clean = await self._clean(signal, decoded.body, room, at_once=at_once)
        return await self._store(signal, decoded, room, [clean])

    async def _clean(self, signal: Signal, body: bytes, room: Room, *, at_once: bool) -> RedactedRequest:
        return self._redact(signal, body) if at_once else await self._redact_apart(signal, body, room)

    async def _keep_slices(self, signal: Signal, decoded: Decoded, room: Room, *, with_body: bool = False) -> Accepted:
        """Redact a large request slice by slice, and put all of them on disk, or none."""
        self._spool.expect(len(decoded.body))
        cleaned = await self._redact_slices(signal, decoded.body, room)
        accepted = await self._store(signal, decoded, room, cleaned)
        if with_body:
            accepted = replace(accepted, body=b"".join(part.body for part in cleaned), redacted=True)
        await asyncio.get_running_loop().run_in_executor(self._workers, memory.give_back)
        return accepted

    async def _store(
        self, signal: Signal, decoded: Decoded, room: Room, cleaned: Sequence[RedactedRequest]
    ) -> Accepted:
        """Return once all of it is on disk, and counted."""
        batches = [(clean.body, clean.items) for clean in cleaned if clean.items]
        items = sum(clean.items for clean in cleaned)
        if batches:
            room.grow(max(0, sum(len(body) for body, _ in batches) - len(decoded.body)))
            await asyncio.wrap_future(self._append(signal, decoded, batches))
        else:
            self._count(signal, decoded, 0)
        rejected = decoded.rejected + sum(clean.rejected for clean in cleaned)
        problem = decoded.problem or next((clean.problem for clean in cleaned if clean.problem), "")
        body = cleaned[0].body if len(cleaned) == 1 else b""
        return Accepted(items, rejected, problem, body, body is not decoded.body)

    def _append(self, signal: Signal, decoded: Decoded, batches: Sequence[tuple[bytes, int]]) -> Future[int]:
        """Put batches on disk, in one transaction."""
        one = len(batches) == 1
        stored = self._spool.append(signal, *batches[0]) if one else self._spool.append_all(signal, batches)
        items = sum(count for _, count in batches)
        stored.add_done_callback(lambda done: self._count_stored(signal, decoded, items, done))
        return stored

    def _count_stored(self, signal: Signal, decoded: Decoded, items: int, stored: Future[int]) -> None:
        """Count what is on disk, also where its sender has gone away meanwhile: it is delivered all the same."""
        if not stored.cancelled() and stored.exception() is None:
            self._count(signal, decoded, items)

    @staticmethod
    def _count(signal: Signal, decoded: Decoded, items: int) -> None:
        metrics.accepted.add(items, {"signal": signal})
        if decoded.rejected:
            metrics.dropped.add(decoded.rejected, {"signal": signal, "reason": "invalid"})
