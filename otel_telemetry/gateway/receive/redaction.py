"""Redaction as a service: takes a request and returns the same request without personal data. Nothing is stored."""

import asyncio
from dataclasses import dataclass

from otel_telemetry.base import memory, metrics
from otel_telemetry.base.destinations import Signal
from otel_telemetry.gateway.receive.cleaning import WHOLE_BYTES, Cleaning, Prepare, Room
from otel_telemetry.gateway.spool.redacted import RedactedRequest


@dataclass(slots=True, frozen=True)
class Redacted:
    """A clean request, how many items it has, how many were left out, and why the first of them was."""

    body: bytes
    items: int
    rejected: int
    problem: str


class Redaction(Cleaning):
    """Cleans requests for callers who send them on themselves."""

    async def answer(self, signal: Signal, body: bytes, room: Room, prepare: Prepare | None = None) -> Redacted:
        """Return a request without personal data; `room` holds its bytes. Raises TelemetryError: nothing of it is."""
        decoded = await self._decode(signal, body, room, prepare, slow=False, at_once=False)
        whole = len(decoded.body) <= WHOLE_BYTES
        cleaned: list[RedactedRequest]
        if whole:
            cleaned = [await self._redact_apart(signal, decoded.body, room)]
        else:
            cleaned = await self._redact_slices(signal, decoded.body, room)
        clean = b"".join(one.body for one in cleaned if one.items)  # requests one behind the other are one request
        room.grow(max(0, len(clean) - len(decoded.body)))
        items = sum(one.items for one in cleaned)
        metrics.accepted.add(items, {"signal": signal})
        if not whole:
            await asyncio.get_running_loop().run_in_executor(self._workers, memory.give_back)
        problem = next((one.problem for one in cleaned if one.problem), "")
        return Redacted(clean, items, sum(one.rejected for one in cleaned), problem)
