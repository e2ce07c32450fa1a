"""One request to an endpoint beside OTLP: let in, read, accepted, answered.

A body below _SMALL bytes is worked on where it was read, together with others that come at the same time (joining.py):
that takes less time than to hand it to a thread. Errors have the body that OTLP/HTTP gives them, a google.rpc.Status in
JSON; it names the field, and holds nothing of the payload.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from otel_telemetry import ids, metrics
from otel_telemetry.errors import MalformedTelemetry, TelemetryError
from otel_telemetry.gateway import bodies, status
from otel_telemetry.gateway.auth import Keys
from otel_telemetry.gateway.receive import Prepare, Receiver, Room
from otel_telemetry.gateway.rest.joining import Clock, Joiner, Taken
from otel_telemetry.gateway.status import JSON, RefusedError

_SMALL: Final = 64 << 10
_CACHE: Final = "/cache"
_IDEMPOTENCY: Final = "idempotency-key"
_LONGEST_KEY: Final = 512

Handler = Callable[["Call"], Awaitable[Response]]


class Call:
    """One request under way, and the bytes that it may hold. `at` is when its first record was observed."""

    def __init__(self, request: Request, door: "Door", room: Room) -> None:
        self.request = request
        self._door = door
        self._room = room
        self.at = door.clock.take()

    def expect(self, count: int) -> None:
        """Make sure that so many records, observed one nanosecond after the other, are nobody else's."""
        if count > 1:
            self.at = self._door.clock.take(count)

    async def body(self) -> bytes:
        """Read the body, and unpack it where it is packed."""
        gzipped = bodies.is_gzipped(self.request)
        body = await bodies.read(self.request, self._door.max_bytes, self._room)
        if gzipped:
            packed, body = body, await asyncio.to_thread(bodies.gunzip, body, self._door.max_bytes)
            self._room.grow(max(0, len(body) - len(packed)))
        return body

    async def accept(self, prepare: Prepare) -> Mapping[int, LogRecord] | None:
        """Return once what `prepare` makes of the body is redacted and on disk.

        None: all of it, as it was. Else the records that are kept, as they are now, by when they were observed.
        """
        body = await self.body()
        if len(body) > _SMALL:
            accepted = await self._door.receiver.accept("logs", body, self._room, prepare, slow=True)
            return Taken(accepted).by_time if accepted.redacted else None
        decoded = prepare(body)
        if decoded.rejected:
            metrics.dropped.add(decoded.rejected, {"signal": "logs", "reason": "invalid"})
        if not decoded.body:
            return None
        taken = await self._door.joiner.accept(decoded.body)
        return taken.by_time if taken.redacted else None

    async def accept_one(self, prepare: Prepare) -> LogRecord | None:
        """Return once the body's one record is on disk: as it is now, where redaction may have changed it."""
        kept = await self.accept(prepare)
        if kept is None:
            return None
        if self.at not in kept:
            raise RefusedError(status.REDACTION_FAILED)
        return kept[self.at]

    def own_id(self, *of: str) -> str:
        """Return an id of ours: the one that follows from the Idempotency-Key, where the sender gave one."""
        key = self.request.headers.get(_IDEMPOTENCY)
        if key is None:
            return ids.new_id()
        sender = self.request.headers.get("authorization") or self.request.headers.get("x-api-key") or ""
        return ids.id_from(self.request.url.path, sender, key[:_LONGEST_KEY], *of)

    @property
    def is_idempotent(self) -> bool:
        """Whether the sender gave a key by which a repetition is known."""
        return _IDEMPOTENCY in self.request.headers


class Door:
    """Where requests come in: it lets in who has a key, and makes answers of errors."""

    def __init__(self, receiver: Receiver, keys: Keys, max_bytes: int) -> None:
        self.receiver = receiver
        self.max_bytes = max_bytes
        self.joiner = Joiner(receiver)
        self.clock = Clock()
        self._keys = keys

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return what Starlette calls."""

        async def endpoint(request: Request) -> Response:
            try:
                self._keys.require(request.headers.get, "cache" if request.url.path.startswith(_CACHE) else "ingest")
                with self.receiver.room() as room:
                    return await handler(Call(request, self, room))
            except TelemetryError as error:
                refused = self.receiver.refuse("logs", error)
                return Response(refused.body(JSON), refused.http_status, refused.headers(), JSON)
            except ClientDisconnect:
                return Response(status_code=bodies.CLIENT_GONE)

        return endpoint


def parsed(body: bytes) -> Any:
    """Return what JSON says; raises MalformedTelemetry."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise MalformedTelemetry("the body is not valid JSON in UTF-8") from None


def answer_json(answer: Mapping[str, Any], http_status: int = HTTPStatus.OK) -> Response:
    """Return an answer in JSON."""
    return Response(orjson.dumps(answer), http_status, media_type=JSON)
