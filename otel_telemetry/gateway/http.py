"""OTLP/HTTP, /health and /metrics.

Bodies are protobuf or JSON, plain or gzip, limited before and after decompression. Every error body is a
google.rpc.Status in the encoding of the request ("OTLP Specification, OTLP/HTTP Response"); where that encoding is not
known it is JSON. /health says only up or down to callers without a key.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from google.protobuf.json_format import MessageToJson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_telemetry.errors import TelemetryError
from otel_telemetry.gateway import bodies, metadata, otlp_json, status
from otel_telemetry.gateway.auth import Keys
from otel_telemetry.gateway.exposition import CONTENT_TYPE, Exposition
from otel_telemetry.gateway.grpc import response
from otel_telemetry.gateway.health import Health
from otel_telemetry.gateway.otlp_json import Decoded, Signal
from otel_telemetry.gateway.receive import Accepted, Prepare, Receiver
from otel_telemetry.gateway.rest import Rest
from otel_telemetry.gateway.status import JSON, PROTOBUF, Refusal, RefusedError

_PATHS: Final[dict[str, Signal]] = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
_ENDPOINTS: Final = (
    "POST /v1/traces, /v1/logs, /v1/metrics (OTLP, protobuf or JSON), /log, /feedback, /telemetry, /events (JSON); "
    "GET /cache/get, POST /cache/set, DELETE /cache; GET /health, /metrics"
)

_Endpoint = Callable[[Request], Awaitable[Response]]


def make_app(
    receiver: Receiver | None,
    keys: Keys,
    health: Health,
    exposition: Exposition,
    limits: "Limits",
    *,
    rest: Rest | None = None,
) -> Starlette:
    """Return the ASGI application; without a receiver it only tells how things are."""

    async def show_health(request: Request) -> Response:
        report = await asyncio.to_thread(health.report)
        return JSONResponse(report.shown(keys.admit(request.headers.get, "read")), 200 if report.healthy else 503)

    async def show_metrics(request: Request) -> Response:
        try:
            keys.require(request.headers.get, "read")
        except RefusedError as error:
            return _answer(error.refusal, JSON)
        return Response(await asyncio.to_thread(exposition.text), media_type=CONTENT_TYPE)

    exports = [
        Route(path, _export(signal, receiver, keys, limits), methods=["POST"])
        for path, signal in _PATHS.items()
        if receiver
    ]
    more = rest.routes(receiver, keys, limits.of(JSON)) if receiver and rest else ()
    return Starlette(
        routes=[*exports, *more, Route("/health", show_health), Route("/metrics", show_metrics)],
        exception_handlers={404: _not_found, 405: _wrong_method, 500: _internal},
    )


class Limits:
    """The largest bodies, in bytes, also after decompression."""

    def __init__(self, max_body_bytes: int, max_json_bytes: int) -> None:
        self._by_type = {PROTOBUF: max_body_bytes, JSON: min(max_body_bytes, max_json_bytes)}

    def of(self, content_type: str) -> int:
        """Return the limit for a content type."""
        return self._by_type[content_type]


def _export(signal: Signal, receiver: Receiver, keys: Keys, limits: Limits) -> _Endpoint:
    async def export(request: Request) -> Response:
        encoding = JSON
        try:
            encoding = _content_type(request)
            keys.require(request.headers.get, "ingest")
            prepare = _preparation(signal, encoding, gzipped=bodies.is_gzipped(request), limit=limits.of(encoding))
            prepare = metadata.filling(signal, prepare, metadata.of(request))
            with receiver.room() as room:
                body = await bodies.read(request, limits.of(encoding), room)
                accepted = await receiver.accept(signal, body, room, prepare, slow=encoding == JSON)
        except TelemetryError as error:
            return _answer(receiver.refuse(signal, error), encoding)
        except ClientDisconnect:
            return Response(status_code=bodies.CLIENT_GONE)
        return _success(signal, accepted, encoding)

    return export


def _content_type(request: Request) -> str:
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given not in {JSON, PROTOBUF}:
        raise RefusedError(status.unsupported(f"the content type must be {PROTOBUF} or {JSON}"))
    return given


def _preparation(signal: Signal, encoding: str, *, gzipped: bool, limit: int) -> Prepare | None:
    """Return what makes protobuf of a body, None where it is protobuf already."""
    if encoding == PROTOBUF:
        return (lambda body: Decoded(bodies.gunzip(body, limit), 0, "")) if gzipped else None
    return lambda body: otlp_json.decode(signal, bodies.gunzip(body, limit) if gzipped else body)


def _success(signal: Signal, accepted: Accepted, encoding: str) -> Response:
    message = response(signal, accepted)
    body = MessageToJson(message, indent=None) if encoding == JSON else message.SerializeToString()
    return Response(body, media_type=encoding)


def _answer(refused: Refusal, encoding: str, headers: dict[str, str] | None = None) -> Response:
    return Response(
        refused.body(encoding), refused.http_status, headers=refused.headers() | (headers or {}), media_type=encoding
    )


async def _not_found(request: Request, error: Exception) -> Response:
    del request, error
    return _answer(status.not_found(f"there is nothing here; endpoints: {_ENDPOINTS}"), JSON)


async def _wrong_method(request: Request, error: Exception) -> Response:
    del request
    headers: Any = error.headers if isinstance(error, HTTPException) else None
    return _answer(status.wrong_method(f"that method is not served here; endpoints: {_ENDPOINTS}"), JSON, headers)


async def _internal(request: Request, error: Exception) -> Response:
    del request, error
    return _answer(status.refusal(TelemetryError()), JSON)
