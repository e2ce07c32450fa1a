"""Shared by the HTTP servers of all roles: /health, /metrics, and the answers to errors.

Every error body is a google.rpc.Status in the encoding of the request ("OTLP Specification, OTLP/HTTP Response"); if
that encoding is unknown it is JSON. /health reports only up or down to callers without a key.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from otel_telemetry.base.errors import TelemetryError
from otel_telemetry.base.prometheus_text import CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE, wants_openmetrics
from otel_telemetry.gateway.receive import status
from otel_telemetry.gateway.receive.auth import Keys
from otel_telemetry.gateway.receive.origins import BrowserGuard, Origins
from otel_telemetry.gateway.receive.status import JSON, PROTOBUF, Refusal, RefusedError
from otel_telemetry.gateway.serve.health import HealthReport
from otel_telemetry.gateway.serve.page import Beside, Page
from otel_telemetry.gateway.serve.prometheus import Exposition

Endpoint = Callable[[Request], Awaitable[Response]]


class Reports(Protocol):
    """Looks at the parts of a process."""

    def report(self) -> HealthReport:
        """Ask every part; not for the event loop."""


def make_app(routes: list[Route], endpoints: str, keys: Keys, origins: Origins, page: Page | None = None) -> Starlette:
    """Return the ASGI application of these routes; `endpoints` names them to who asks for another."""

    async def not_found(request: Request, error: Exception) -> Response:
        del error
        refused = status.not_found(f"there is nothing here; endpoints: {endpoints}")
        return answer(refused, _encoding_of_error(request))

    async def wrong_method(request: Request, error: Exception) -> Response:
        headers: Any = error.headers if isinstance(error, HTTPException) else None
        refused = status.wrong_method(f"that method is not served here; endpoints: {endpoints}")
        return answer(refused, _encoding_of_error(request), headers)

    app = Starlette(
        routes=routes,
        exception_handlers={404: not_found, 405: wrong_method, 500: _internal},
        middleware=[
            Middleware(BrowserGuard, origins=origins, keys=keys),
            *([Middleware(Beside, page=page)] if page else []),
        ],
    )
    app.router.redirect_slashes = False  # a redirect would name the host that the caller named
    return app


def pages(health: Reports, exposition: Exposition, keys: Keys) -> list[Route]:
    """Return /health and /metrics."""

    async def show_health(request: Request) -> Response:
        report = await asyncio.to_thread(health.report)
        return JSONResponse(report.shown(keys.admit(request.headers.get, "read")), 200 if report.healthy else 503)

    async def show_metrics(request: Request) -> Response:
        try:
            keys.require_http(request, "read")
        except RefusedError as error:
            return answer(error.refusal, JSON)
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        text = await asyncio.to_thread(exposition.text, openmetrics=openmetrics)
        return Response(text, media_type=OPENMETRICS_CONTENT_TYPE if openmetrics else CONTENT_TYPE)

    return [Route("/health", show_health), Route("/metrics", show_metrics)]


def answer(refused: Refusal, encoding: str, headers: dict[str, str] | None = None) -> Response:
    """Return the answer to a request that is refused."""
    return Response(
        refused.body(encoding), refused.http_status, headers=refused.headers() | (headers or {}), media_type=encoding
    )


def _encoding_of_error(request: Request) -> str:
    """Return the encoding that the sender understands, where there is no endpoint to say it."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return PROTOBUF if given == PROTOBUF else JSON


async def _internal(request: Request, error: Exception) -> Response:
    del request, error
    return answer(status.refusal(TelemetryError()), JSON)
