"""Shared by the HTTP servers of all roles: /health, /metrics, and the answers to errors.

Every error body is a google.rpc.Status in the encoding of the request ("OTLP Specification, OTLP/HTTP Response"); if
that encoding is unknown it is JSON. /health reports only up or down to callers without a key.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from otel_telemetry.base.errors import TelemetryError
from otel_telemetry.base.prometheus_text import CONTENT_TYPE, OPENMETRICS_CONTENT_TYPE, wants_openmetrics
from otel_telemetry.gateway.receive import status
from otel_telemetry.gateway.receive.auth import HEALTH_PATHS, Keys
from otel_telemetry.gateway.receive.origins import BrowserGuard, Origins
from otel_telemetry.gateway.receive.status import JSON, PROTOBUF, Refusal, RefusedError
from otel_telemetry.gateway.serve.health import HealthReport
from otel_telemetry.gateway.serve.page import Beside, Page
from otel_telemetry.gateway.serve.prometheus import Exposition

Endpoint = Callable[[Request], Awaitable[Response]]

#: Where chronicle passed model calls on to providers.
_MODEL_CALLS: Final = ("/chat", "/v1/chat/")
_NO_PROXY: Final = status.not_found(
    "model calls are not passed on here: send them to the provider, and record them where they are made"
    " (docs/instrumentation.md)"
)


class Reports(Protocol):
    """Looks at the parts of a process."""

    def report(self) -> HealthReport:
        """Ask every part; not for the event loop."""


def make_app(routes: list[Route], endpoints: str, keys: Keys, origins: Origins, page: Page | None = None) -> Starlette:
    """Return the ASGI application of these routes; `endpoints` lists them for answers to unknown paths."""

    async def not_found(request: Request, error: Exception) -> Response:
        del error
        if request.scope["path"].startswith(_MODEL_CALLS):
            return Response(_NO_PROXY.body_of_events(), _NO_PROXY.http_status, media_type=JSON)
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
    app.router.default = _without_slash(app.router)
    app.router.middleware_stack = _by_path(app.router, routes)  # type: ignore[assignment] # any awaitable will do
    return app


def _by_path(router: Router, routes: Sequence[Route]) -> ASGIApp:
    """Return what finds a route by its path at once, where Starlette tries one after the other; it gets the rest."""
    known = {(method, route.path): route for route in routes for method in route.methods or ()}

    async def find(scope: Scope, receive: Receive, send: Send) -> None:
        route = known.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        await (route.handle if route else router.app)(scope, receive, send)

    return find


def _without_slash(router: Router) -> ASGIApp:
    """Return what serves a path that no route has as if it did not end with a slash."""
    not_found = router.default

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/") if scope["type"] == "http" else ""
        if not path or path == scope["path"]:
            await not_found(scope, receive, send)
            return
        scope["path"] = path
        await router(scope, receive, send)

    return serve


class _Looks:
    """Looks at the parts for all who ask: those who come during one share it, as a look takes milliseconds of CPU."""

    def __init__(self, health: Reports) -> None:
        self._health = health
        self._now: asyncio.Task[HealthReport] | None = None

    async def report(self) -> HealthReport:
        """Return what is seen now."""
        if self._now is None or self._now.done():
            self._now = asyncio.create_task(asyncio.to_thread(self._health.report))
        return await asyncio.shield(self._now)  # who asked may leave before the others


def pages(health: Reports, exposition: Exposition, keys: Keys) -> list[Route]:
    """Return the routes of /health and /metrics."""
    looks = _Looks(health)

    async def show_health(request: Request) -> Response:
        report = await looks.report()
        return JSONResponse(report.shown(keys.admit(request.headers.get, "read")), 200 if report.healthy else 503)

    async def show_metrics(request: Request) -> Response:
        try:
            keys.require_http(request, "read")
        except RefusedError as error:
            return answer(error.refusal, JSON)
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        text = await asyncio.to_thread(exposition.text, openmetrics=openmetrics)
        return Response(text, media_type=OPENMETRICS_CONTENT_TYPE if openmetrics else CONTENT_TYPE)

    return [*(Route(path, show_health) for path in HEALTH_PATHS), Route("/metrics", show_metrics)]


def answer(refused: Refusal, encoding: str, headers: dict[str, str] | None = None) -> Response:
    """Return the answer to a request that is refused."""
    return Response(
        refused.body(encoding), refused.http_status, headers=refused.headers() | (headers or {}), media_type=encoding
    )


def _encoding_of_error(request: Request) -> str:
    """Return the encoding that the sender understands, for paths without an endpoint."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return PROTOBUF if given == PROTOBUF else JSON


async def _internal(request: Request, error: Exception) -> Response:
    del request, error
    return answer(status.refusal(TelemetryError()), JSON)
