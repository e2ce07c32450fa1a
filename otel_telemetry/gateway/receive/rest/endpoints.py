"""The endpoints beside OTLP. Each answers only once what it took is on disk, redacted."""

from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from otel_telemetry.base import metrics
from otel_telemetry.base.otlp_json import Decoded
from otel_telemetry.gateway.receive.auth import EVENT_PATHS, Keys
from otel_telemetry.gateway.receive.receiver import Receiver
from otel_telemetry.gateway.receive.rest import models, pages, records
from otel_telemetry.gateway.receive.rest.cache import Cache, CacheEndpoints
from otel_telemetry.gateway.receive.rest.call import Call, Handler, RequestGuard, answer_json, parsed
from otel_telemetry.gateway.receive.rest.rate_limit import Clients
from otel_telemetry.gateway.receive.rest.records import Record
from otel_telemetry.gateway.receive.rest.workflow import Batch, log_record
from otel_telemetry.gateway.receive.status import RefusedError, as_chronicle

Measure = Callable[[str, Mapping[str, Any], Sequence[str]], None]


class Rest:
    """The endpoints.

    `cache` may be None; `clients` identifies clients and limits their calls. `measure` is called with the event and
    payload of each accepted log entry, and the names of redacted fields.
    """

    def __init__(
        self, cache: Cache | None = None, clients: Clients | None = None, measure: Measure | None = None
    ) -> None:
        self._measure = measure
        self.cache = cache
        self._clients = clients or Clients()

    def routes(self, receiver: Receiver, keys: Keys, max_bytes: int) -> list[Route]:
        """Return the routes, for bodies of at most so many bytes."""
        guard = RequestGuard(receiver, keys, max_bytes)

        def route(path: str, method: str, handler: Handler) -> Route:
            return Route(path, guard.endpoint(handler), methods=[method])

        found = [
            route("/log", "POST", self._log),
            route("/feedback", "POST", self._feedback),
            route("/telemetry", "POST", self._telemetry),
            *(route(path, "POST", self._events) for path in EVENT_PATHS),
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

        stored = await call.accept_one(prepare)
        fields = records.redacted_fields(payload, stored) if stored else []
        if self._measure:
            self._measure(events[0], payload, fields)
        return answer_json({"status": "logged", "event_id": own, "redacted_fields": fields})

    async def _feedback(self, call: Call) -> Response:
        own = call.own_id()

        def prepare(body: bytes) -> Decoded:
            return _decoded([pages.feedback(parsed(body), own, call.at, self._clients.address(call.request))])

        await call.accept_one(prepare)
        return answer_json({"ok": True, "id": own})

    async def _telemetry(self, call: Call) -> Response:
        address = self._clients.address(call.request)
        wait = self._clients.wait(address)
        if wait:
            raise RefusedError(pages.too_often(wait))

        def prepare(body: bytes) -> Decoded:
            agent = call.request.headers.get("user-agent")
            return _decoded([pages.browser_event(parsed(body), call.own_id(), call.at, address, agent)])

        await call.accept_one(prepare)
        return answer_json({"ok": True})

    async def _events(self, call: Call) -> Response:
        result: list[Batch] = []

        def prepare(body: bytes) -> Decoded:
            result.append(Batch(parsed(body), call))
            return _decoded(result[0].records, rejected=len(result[0].outcomes) - len(result[0].records))

        stored = await call.accept_events(prepare)
        batch = result[0]
        if stored is not None:
            batch.mark_lost(stored, call.at, call.problem)
        accepted = len(batch.accepted)
        for event in batch.accepted:
            metrics.count_posted(event)
        answer = {"accepted": accepted, "rejected": len(batch.outcomes) - accepted, "outcomes": batch.outcomes}
        if accepted or not batch.outcomes:
            return answer_json(answer, HTTPStatus.ACCEPTED)
        first = batch.outcomes[0]
        message = f"{first['field']}: {first['error']}" if first["field"] else first["error"]
        return answer_json(answer | {"error": as_chronicle("invalid_event_payload", message)}, HTTPStatus.BAD_REQUEST)


def _decoded(made: Sequence[Record], rejected: int = 0) -> Decoded:
    return Decoded(records.request(made) if made else b"", rejected, "")
