"""The endpoints beside OTLP. Each answers only once what it took is on disk, redacted."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from google.rpc import code_pb2
from starlette.responses import Response
from starlette.routing import Route

from otel_telemetry import conventions
from otel_telemetry.gateway.auth import Keys
from otel_telemetry.gateway.otlp_json import Decoded
from otel_telemetry.gateway.receive import Receiver
from otel_telemetry.gateway.rest import models, records
from otel_telemetry.gateway.rest.caching import Cache, CacheEndpoints
from otel_telemetry.gateway.rest.call import Call, Door, Handler, answer_json, parsed
from otel_telemetry.gateway.rest.clients import Clients
from otel_telemetry.gateway.rest.records import Record
from otel_telemetry.gateway.rest.workflow import ACCEPTED, Batch, log_record
from otel_telemetry.gateway.status import Refusal, RefusedError

Measure = Callable[[str, Mapping[str, Any]], None]
_EVENT_PATHS: Final = ("/event", "/events", "/v1/event", "/v1/events")


class Rest:
    """The endpoints. `cache` is None where there is none; `clients` knows who a client is and how often it may call.

    `measure` is told the event and payload of each log entry that was accepted.
    """

    def __init__(
        self, cache: Cache | None = None, clients: Clients | None = None, measure: Measure | None = None
    ) -> None:
        self._measure = measure
        self.cache = cache
        self._clients = clients or Clients()

    def routes(self, receiver: Receiver, keys: Keys, max_bytes: int) -> list[Route]:
        """Return the routes, for bodies of at most so many bytes."""
        door = Door(receiver, keys, max_bytes)

        def route(path: str, method: str, handler: Handler) -> Route:
            return Route(path, door.endpoint(handler), methods=[method])

        found = [
            route("/log", "POST", self._log),
            route("/feedback", "POST", self._feedback),
            route("/telemetry", "POST", self._telemetry),
            *(route(path, "POST", self._events) for path in _EVENT_PATHS),
        ]
        if self.cache is not None:
            cache = CacheEndpoints(self.cache)
            found += [
                route("/cache/get", "GET", cache.get),
                route("/cache/set", "POST", cache.set),
                route("/cache", "DELETE", cache.delete),
            ]
        return found

    async def close(self) -> None:
        """Give back what is held."""
        if self.cache is not None:
            await self.cache.close()

    async def _log(self, call: Call) -> Response:
        own = f"evt_{call.own_id()}"
        payload: dict[str, Any] = {}
        events: list[str] = []

        def prepare(body: bytes) -> Decoded:
            given = parsed(body)
            entry = models.read(models.LogEntry, given)
            payload.update(given["payload"])
            events.append(entry.event)
            return _decoded([log_record(entry, payload, own, call)])

        kept = await call.accept_one(prepare)
        fields = records.redacted_fields(payload, kept) if kept else []
        if self._measure:
            self._measure(events[0], payload)
        return answer_json({"status": "logged", "event_id": own, "redacted_fields": fields})

    async def _feedback(self, call: Call) -> Response:
        own = call.own_id()

        def prepare(body: bytes) -> Decoded:
            given = models.read(models.Feedback, parsed(body))
            values = given.model_dump(exclude={"sid"}) | {"event_id": own, "session_id": given.session_id or given.sid}
            who = {conventions.CLIENT_ADDRESS: self._clients.address(call.request)}
            title = f"feedback: {given.verdict}"
            return _decoded([Record(conventions.FEEDBACK_EVENT, title, call.at, None, values, who)])

        await call.accept_one(prepare)
        return answer_json({"ok": True, "id": own})

    async def _telemetry(self, call: Call) -> Response:
        address = self._clients.address(call.request)
        wait = self._clients.wait(address)
        if wait:
            raise RefusedError(_too_often(wait))

        def prepare(body: bytes) -> Decoded:
            given = models.read(models.BrowserEvent, parsed(body))
            values = {"type": given.type, "event_id": call.own_id(), "session_id": given.sid, "data": _with_ts(given)}
            agent = given.ua or call.request.headers.get("user-agent")
            who = {conventions.CLIENT_ADDRESS: address, conventions.USER_AGENT: agent}
            return _decoded([Record(conventions.BROWSER_EVENT, given.type, call.at, None, values, who)])

        await call.accept_one(prepare)
        return answer_json({"ok": True})

    async def _events(self, call: Call) -> Response:
        taken: list[Batch] = []

        def prepare(body: bytes) -> Decoded:
            taken.append(Batch(parsed(body), call))
            return _decoded(taken[0].records, rejected=len(taken[0].outcomes) - len(taken[0].records))

        kept = await call.accept(prepare)
        batch = taken[0]
        if kept is not None:
            batch.tell_lost(kept, call.at)
        accepted = sum(outcome["status"] == ACCEPTED for outcome in batch.outcomes)
        answer = {"accepted": accepted, "rejected": len(batch.outcomes) - accepted, "outcomes": batch.outcomes}
        return answer_json(answer, HTTPStatus.ACCEPTED if accepted or not batch.outcomes else HTTPStatus.BAD_REQUEST)


def _decoded(made: Sequence[Record], rejected: int = 0) -> Decoded:
    return Decoded(records.request(made) if made else b"", rejected, "")


def _with_ts(given: models.BrowserEvent) -> Any:
    """Return a browser's data with what its own clock says."""
    if given.ts is None:
        return given.data
    data = given.data if isinstance(given.data, dict) else {} if given.data is None else {"value": given.data}
    return {**data, "ts": given.ts}


def _too_often(wait: float) -> Refusal:
    message = "too many events from this client"
    code, busy = code_pb2.RESOURCE_EXHAUSTED, HTTPStatus.TOO_MANY_REQUESTS
    return Refusal("rate_limited", code, busy, message, retry_after=wait)
