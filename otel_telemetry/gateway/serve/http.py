"""OTLP/HTTP, beside the REST endpoints, /health and /metrics.

Bodies are protobuf or JSON, plain or gzip, limited before and after decompression.
"""

from typing import Final

from google.protobuf.json_format import MessageToJson
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from otel_telemetry.base import otlp_json
from otel_telemetry.base.destinations import Signal
from otel_telemetry.base.errors import TelemetryError
from otel_telemetry.base.otlp_json import Decoded
from otel_telemetry.gateway.receive import bodies, request_headers, status
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.cleaning import Prepare, Room
from otel_telemetry.gateway.receive.grpc import response
from otel_telemetry.gateway.receive.http_protocol import CALLER
from otel_telemetry.gateway.receive.origins import LISTED, Origins
from otel_telemetry.gateway.receive.receiver import Accepted, Receiver
from otel_telemetry.gateway.receive.rest import Rest
from otel_telemetry.gateway.receive.status import JSON, PROTOBUF, RefusedError
from otel_telemetry.gateway.serve import answers, manual
from otel_telemetry.gateway.serve.answers import Endpoint
from otel_telemetry.gateway.serve.health import Health
from otel_telemetry.gateway.serve.page import Page
from otel_telemetry.gateway.serve.prometheus import Exposition

_PATHS: Final[dict[str, Signal]] = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
_ENDPOINTS: Final = (
    "POST /v1/traces, /v1/logs, /v1/metrics (OTLP, protobuf or JSON), /log, /feedback, /telemetry, /events (JSON); "
    "GET /cache/get, POST /cache/set, DELETE /cache; GET /health, /metrics, /docs, /openapi.json, "
    "/ui (for people), /api/summary, /api/requests"
)
_PLAIN_TEXT: Final = "text/plain"


def make_app(
    receiver: Receiver | None,
    keys: Keys,
    health: Health,
    exposition: Exposition,
    limits: "Limits",
    *,
    rest: Rest | None = None,
    origins: Origins,
    page: Page | None = None,
) -> Starlette:
    """Return the ASGI application; without a receiver it only has /health and /metrics."""
    exports = [
        Route(path, _export(signal, receiver, keys, limits), methods=["POST"])
        for path, signal in _PATHS.items()
        if receiver
    ]
    more = rest.routes(receiver, keys, limits.of(JSON)) if receiver and rest else ()
    routes = [*exports, *more, *answers.pages(health, exposition, keys), *manual.routes()]
    return answers.make_app(routes, _ENDPOINTS, keys, origins, page)


class Limits:
    """The largest bodies, in bytes, also after decompression."""

    def __init__(self, max_body_bytes: int, max_json_bytes: int) -> None:
        self._by_type = {PROTOBUF: max_body_bytes, JSON: min(max_body_bytes, max_json_bytes)}

    def of(self, content_type: str) -> int:
        """Return the limit for a content type."""
        return self._by_type[content_type]


def _export(signal: Signal, receiver: Receiver, keys: Keys, limits: Limits) -> Endpoint:
    async def export(request: Request) -> Response:
        encoding = JSON
        try:
            encoding = _content_type(request)
            who = keys.require_http(request, "ingest")
            gzipped = bodies.is_gzipped(request)
            columns, limit = request_headers.of(request), limits.of(encoding)
            with receiver.room(who) as room:
                prepare = _preparation(signal, encoding, gzipped=gzipped, limit=limit, room=room)
                prepare = request_headers.filling(signal, prepare, columns, receiver, room.within(limit))
                body = await bodies.read(request, limit, room)
                caller = request.scope.get(CALLER)
                accepted = await receiver.accept(signal, body, room, prepare, slow=encoding == JSON, caller=caller)
        except TelemetryError as error:
            return answers.answer(receiver.refuse(signal, error), encoding)
        except ClientDisconnect:
            return Response(status_code=bodies.CLIENT_GONE)
        return _success(signal, accepted, encoding)

    return export


def _content_type(request: Request) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given == _PLAIN_TEXT and request.scope.get(LISTED):
        return JSON  # a beacon of text, which a browser sends without asking first
    if given not in {JSON, PROTOBUF}:
        raise RefusedError(status.unsupported(f"the content type must be {PROTOBUF} or {JSON}"))
    return given


def _preparation(signal: Signal, encoding: str, *, gzipped: bool, limit: int, room: Room) -> Prepare | None:
    """Return what makes protobuf of a body, None where it is protobuf already."""
    if encoding == PROTOBUF:
        return (lambda body: Decoded(bodies.gunzip(body, limit, room.grow), 0, "")) if gzipped else None

    def decode(body: bytes) -> Decoded:
        plain = bodies.gunzip(body, limit, room.grow) if gzipped else body
        room.parse_json(plain)
        return otlp_json.decode(signal, plain)

    return decode


def _success(signal: Signal, accepted: Accepted, encoding: str) -> Response:
    message = response(signal, accepted)
    body = MessageToJson(message, indent=None) if encoding == JSON else message.SerializeToString()
    return Response(body, media_type=encoding)
