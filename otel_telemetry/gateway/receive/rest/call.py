"""One request to an endpoint other than OTLP: authorise, read, accept, answer.

A body of up to _AT_ONCE bytes is processed in the thread that read it, together with others that come at the same time
(batching.py): that takes less time than passing it to a thread. Senders without a secret key have to wait for a thread,
because what they send may be made to take long (allowance.py). Errors have the body of OTLP/HTTP errors, a
google.rpc.Status in JSON, which names the field and contains nothing of the payload. Those of workflow events also have
chronicle's `error`.
"""

import asyncio
import json
from codecs import BOM_UTF8
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

import orjson
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from otel_telemetry.base import ids, metrics
from otel_telemetry.base.errors import MalformedTelemetry, TelemetryError, TooDense
from otel_telemetry.gateway.receive import bodies, request_headers, status
from otel_telemetry.gateway.receive.auth import EVENT_PATHS, Keys, Role, sender
from otel_telemetry.gateway.receive.cleaning import Prepare, Room
from otel_telemetry.gateway.receive.receiver import Receiver
from otel_telemetry.gateway.receive.rest.batching import BatchResult, Clock, LogBatcher
from otel_telemetry.gateway.receive.status import JSON, RefusedError

_SMALL: Final = 64 << 10
_AT_ONCE: Final = 8 << 10  # worked on by the thread that reads for all: 0.1 s where all of it is personal data
_MOST_VALUES: Final = 100_000  # and names, of one record: it is redacted as a whole
_VALUE_BYTES: Final = 1_000  # that each takes, measured: 200, and up to 1,500 where all are redacted
MOST_EVENTS: Final = 10_000  # of one request
_EVENT_BYTES: Final = 1_250  # that each takes, beside its values; room is counted twice
MOST_EVENT_VALUES: Final = 200_000  # and names, of all of them
_EVENT_VALUE_BYTES: Final = 500  # that each of those takes, measured: 265 to 450
_SMALL_HEADERS: Final = 1 << 10  # of values for each event
_CACHE: Final = "/cache"
_IDEMPOTENCY: Final = "idempotency-key"

Handler = Callable[["Call"], Awaitable[Response]]


class Call:
    """One request under way, and the bytes that it may hold. `at` is when its first record was observed."""

    def __init__(self, request: Request, guard: "RequestGuard", room: Room) -> None:
        self.request = request
        self._guard = guard
        self._room = room
        self.at = guard.clock.take()
        self.problem = ""  # why records were left out, if some were

    def expect(self, count: int) -> None:
        """Make sure that so many records, observed one nanosecond after the other, are nobody else's.

        Each of them may get all that the headers say: RefusedError or Overloaded where that is too much. Raises
        TooDense for too many.
        """
        if count > MOST_EVENTS:
            raise TooDense(f"more than {MOST_EVENTS} events")
        self._room.within(self._guard.max_bytes)(count * request_headers.size(self.request))
        if count > 1:
            self._room.grow(count * _EVENT_BYTES)
            self.at = self._guard.clock.take(count)

    async def body(self, most: int = _MOST_VALUES, each: int = _VALUE_BYTES) -> bytes:
        """Read the body, and unpack it where it is packed. In a large one, each value takes so many bytes of room.

        Raises TooDense for more than `most` values and names.
        """
        gzipped = bodies.is_gzipped(self.request)
        body = await bodies.read(self.request, self._guard.max_bytes, self._room)
        if gzipped:
            unpack = self._room.paying(bodies.gunzip)
            body = await asyncio.to_thread(unpack, body, self._guard.max_bytes, self._room.grow)
        if len(body) > _SMALL:
            await asyncio.to_thread(self._room.paying(self._room.parse_json), body, most, each)
        else:
            self._room.parse_json(body)
        return body

    async def accept_events(self, prepare: Prepare) -> Mapping[int, LogRecord] | None:
        """Like `accept`, of a list of many records."""
        return await self._accept(await self.body(MOST_EVENT_VALUES, _EVENT_VALUE_BYTES), prepare, in_slices=True)

    async def accept(self, prepare: Prepare) -> Mapping[int, LogRecord] | None:
        """Return once what `prepare` makes of the body is redacted and on disk.

        None: all of it, as it was. Else the records that are kept, as they are now, by when they were observed.
        """
        return await self._accept(await self.body(), prepare, in_slices=False)

    async def _accept(self, body: bytes, prepare: Prepare, *, in_slices: bool) -> Mapping[int, LogRecord] | None:
        if self._room.purse or len(body) > _AT_ONCE or request_headers.size(self.request) > _SMALL_HEADERS:
            slow = len(body) > _SMALL
            receiver = self._guard.receiver
            accepted = await receiver.accept("logs", body, self._room, prepare, slow=slow, in_slices=in_slices)
            self.problem = accepted.problem.rpartition("]: ")[2]  # without the path in OTLP
            return BatchResult(accepted).by_time if accepted.redacted else None
        async with self._guard.receiver.watch.over("logs", body):
            decoded = prepare(body)
            if decoded.rejected:
                metrics.dropped.add(decoded.rejected, {"signal": "logs", "reason": "invalid"})
            if not decoded.body:
                return None
            result = await self._guard.batcher.accept(decoded.body)
        return result.by_time if result.redacted else None

    async def accept_one(self, prepare: Prepare) -> LogRecord | None:
        """Return once the body's one record is on disk: as it is now, where redaction may have changed it."""
        stored = await self.accept(prepare)
        if stored is None:
            return None
        if self.at not in stored:
            raise RefusedError(status.REDACTION_FAILED)
        return stored[self.at]

    def own_id(self, *of: str) -> str:
        """Return an id of ours: the one that follows from the Idempotency-Key, where the sender gave one."""
        key = self.request.headers.get(_IDEMPOTENCY)
        if key is None:
            return ids.new_id()
        return ids.id_from(self.request.scope["path"], sender(self.request), key, *of)

    @property
    def is_idempotent(self) -> bool:
        """Whether the sender gave a key by which a repetition is known."""
        return _IDEMPOTENCY in self.request.headers


class RequestGuard:
    """The entry of requests: it checks the key, and turns errors into answers."""

    def __init__(self, receiver: Receiver, keys: Keys, max_bytes: int) -> None:
        self.receiver = receiver
        self.max_bytes = max_bytes
        self.batcher = LogBatcher(receiver)
        self.clock = Clock()
        self._keys = keys

    def endpoint(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Return what Starlette calls."""

        async def endpoint(request: Request) -> Response:
            try:
                role: Role = "cache" if request.scope["path"].startswith(_CACHE) else "ingest"
                with self.receiver.room(self._keys.require_http(request, role)) as room:
                    return await handler(Call(request, self, room))
            except TelemetryError as error:
                refused = self.receiver.refuse("logs", error)
                of_events = request.scope["path"] in EVENT_PATHS
                body = refused.body_of_events() if of_events else refused.body(JSON)
                return Response(body, refused.http_status, refused.headers(), JSON)
            except ClientDisconnect:
                return Response(status_code=bodies.CLIENT_GONE)

        return endpoint


def parsed(body: bytes) -> Any:
    """Return the value of JSON text; raises MalformedTelemetry.

    Python's json writes NaN and Infinity, which JSON does not have: they are null. A byte order mark is passed over.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        plain = body.removeprefix(BOM_UTF8)
        try:
            if b"NaN" in plain or b"Infinity" in plain:
                return json.loads(plain, parse_constant=_no_number)
            if len(plain) < len(body):
                return orjson.loads(plain)
        except (ValueError, RecursionError):
            pass
        raise MalformedTelemetry("the body is not valid JSON in UTF-8") from None


def _no_number(_: str) -> None:
    """Stand for NaN and the infinities."""


def answer_json(answer: Mapping[str, Any], http_status: int = HTTPStatus.OK) -> Response:
    """Return an answer in JSON."""
    return Response(orjson.dumps(answer), http_status, media_type=JSON)
