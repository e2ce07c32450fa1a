"""`POST /telemetry` and `POST /feedback` in a FastAPI app, for web pages of an app that has no gateway.

    otel_telemetry.configure(service_name="chat", exporter="request_log")
    app = FastAPI()
    app.include_router(otel_telemetry.fastapi.router)

Requests and answers are those of the gateway's endpoints (docs/http-api.md). The data is redacted here, then takes the
same way as `otel_telemetry.feedback()`; nothing waits for it. Pages of other origins need the app's own CORSMiddleware.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from otel_telemetry import assemble_gateway, settings
from otel_telemetry.app import events
from otel_telemetry.base import conventions, ids
from otel_telemetry.base.errors import TelemetryError
from otel_telemetry.gateway.receive import bodies, status
from otel_telemetry.gateway.receive.rest import Clients, pages
from otel_telemetry.gateway.receive.rest.call import answer_json, parsed
from otel_telemetry.gateway.receive.rest.records import Record
from otel_telemetry.gateway.receive.status import JSON, RefusedError
from otel_telemetry.instrument.shield import shielded
from otel_telemetry.processors.redact.redactor import Redactor

COMPONENT: Final = "fastapi_router"
_MOST_BYTES: Final = 1 << 20
_IDEMPOTENCY: Final = "idempotency-key"

router = APIRouter(tags=["telemetry"])


@dataclass(slots=True, frozen=True)
class _Parts:
    clients: Clients
    redactor: Redactor | None


@cache
def _parts() -> _Parts:
    """Make what requests need, once a process; where the settings cannot be used, nothing is recorded."""
    try:
        found = settings.load()
        clients = assemble_gateway.clients_of(found, assemble_gateway.window_of_workers(found))
        return _Parts(clients, Redactor(found.redaction) if found.enabled else None)
    except Exception as error:  # noqa: BLE001 - the border to the app
        shielded(COMPONENT, error)
        return _Parts(Clients(), None)


@router.post("/telemetry", summary="Tell what happened in a browser")
async def telemetry(request: Request) -> Response:
    """Record a browser event: {"type", "ts"?, "sid"?, "ua"?, "data"?}, so many a minute for each client."""
    parts = await asyncio.to_thread(_parts)
    address = parts.clients.address(request)
    wait = parts.clients.wait(address)
    if wait:
        return _refused(RefusedError(pages.too_often(wait)))
    agent = request.headers.get("user-agent")
    own = _own_id(request, address)
    taken = await _take(request, parts, lambda given: pages.browser_event(given, own, 0, address, agent))
    return taken or answer_json({"ok": True})


@router.post("/feedback", summary="Say what somebody thinks of an answer")
async def feedback(request: Request) -> Response:
    """Record feedback: {"verdict": "up" or "down", "request_id"?, "sid"?, "note"?, ...}."""
    parts = await asyncio.to_thread(_parts)
    address = parts.clients.address(request)
    own = _own_id(request, address)
    taken = await _take(request, parts, lambda given: pages.feedback(given, own, 0, address))
    return taken or answer_json({"ok": True, "id": own})


def _own_id(request: Request, address: str | None) -> str:
    """Return an id of ours: the one that follows from the Idempotency-Key, where the page gave one."""
    key = request.headers.get(_IDEMPOTENCY)
    return ids.new_id() if key is None else ids.id_from(request.url.path, address or "", key)


async def _take(request: Request, parts: _Parts, make: Callable[[Any], Record]) -> Response | None:
    """Read a body and record its events; return an answer only if it is refused."""
    try:
        record = make(parsed(await _body(request)))
    except ClientDisconnect:
        return Response(status_code=bodies.CLIENT_GONE)
    except TelemetryError as error:
        return _refused(error)
    try:
        _record(record, parts.redactor)
    except Exception as error:  # noqa: BLE001 - the border to the app; what was not redacted is not recorded
        shielded(COMPONENT, error)
    return None


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise RefusedError(status.too_large(_MOST_BYTES))
    return bytes(body)


def _record(record: Record, redactor: Redactor | None) -> None:
    if redactor is None or not events.is_recorded(record.name):
        return
    values = {conventions.REQUEST_LOG + name: value for name, value in record.values.items()}
    items = {**values, **record.attributes}.items()
    clean = (redactor.item(key, value) for key, value in items if value is not None)
    attributes = dict(item for item in clean if item is not None)
    events.emit(record.name, redactor.string(record.title), attributes, context=events.NOWHERE)


def _refused(error: TelemetryError) -> Response:
    refusal = status.refusal(error)
    return Response(refusal.body(JSON), refusal.http_status, refusal.headers(), JSON)


__all__ = ["router"]
