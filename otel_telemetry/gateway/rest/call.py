"""One request to an endpoint beside OTLP: let in, read, accepted, answered.

A body below _SMALL bytes is worked on where it was read: that takes less time than to hand it to a thread. Errors have
the body that OTLP/HTTP gives them, a google.rpc.Status in JSON; it names the field, and holds nothing of the payload.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from otel_telemetry import ids
from otel_telemetry.errors import MalformedTelemetry, TelemetryError
from otel_telemetry.gateway import bodies, status
from otel_telemetry.gateway.auth import Keys
from otel_telemetry.gateway.otlp_json import Decoded
from otel_telemetry.gateway.receive import Accepted, Receiver, Room
from otel_telemetry.gateway.status import JSON, RefusedError

_SMALL: Final = 64 << 10
_CLIENT_GONE: Final = 499
_IDEMPOTENCY: Final = "idempotency-key"
_LONGEST_KEY: Final = 512

Handler = Callable[["Call"], Awaitable[Response]]


class Call:
    """One request under way, and the bytes that it may hold."""

    def __init__(self, request: Request, receiver: Receiver, room: Room, max_bytes: int) -> None:
        self.request = request
        self.at = time.time_ns()
        self._receiver = receiver
        self._room = room
        self._max_bytes = max_bytes

    async def body(self) -> bytes:
        """Read the body, and unpack it where it is packed."""
        gzipped = bodies.is_gzipped(self.request)
        body = await bodies.read(self.request, self._max_bytes, self._room)
        if gzipped:
            packed, body = body, await asyncio.to_thread(bodies.gunzip, body, self._max_bytes)
            self._room.grow(max(0, len(body) - len(packed)))
        return body

    async def accept(self, body: bytes, prepare: Callable[[bytes], Decoded]) -> Accepted:
        """Return once what `prepare` makes of the body is redacted and on disk."""
        small = len(body) <= _SMALL
        return await self._receiver.accept("logs", body, self._room, prepare, slow=not small, at_once=small)

    async def take(self, prepare: Callable[[bytes], Decoded], answer: Mapping[str, Any]) -> Response:
        """Accept the body's one record, then answer."""
        accepted = await self.accept(await self.body(), prepare)
        if not accepted.items:
            raise RefusedError(status.REDACTION_FAILED)
        return answer_json(answer)

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


def endpoint_of(
    handler: Handler, receiver: Receiver, keys: Keys, max_bytes: int
) -> Callable[[Request], Awaitable[Response]]:
    """Return what Starlette calls: it lets in who has a key, and makes answers of errors."""

    async def endpoint(request: Request) -> Response:
        try:
            if not keys.admit(request.headers.get):
                raise RefusedError(status.UNAUTHENTICATED)
            with receiver.room() as room:
                return await handler(Call(request, receiver, room, max_bytes))
        except TelemetryError as error:
            refused = receiver.refuse("logs", error)
            return Response(refused.body(JSON), refused.http_status, refused.headers(), JSON)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)

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
