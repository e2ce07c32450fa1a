"""The ASGI applications: the page for the person at this machine, and the page of a gateway; and errors in words."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from google.rpc import code_pb2
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive.origins import Origins
from otel_telemetry.gateway.serve.page import Insight
from otel_telemetry.processors.config import RedactionSettings
from otel_telemetry.ui.access import Access
from otel_telemetry.ui.config import UiSettings
from otel_telemetry.ui.flows import Flows
from otel_telemetry.ui.guard import HostGuard, KeyGuard, roles_of
from otel_telemetry.ui.login import Login
from otel_telemetry.ui.pages import Pages
from otel_telemetry.ui.people import People
from otel_telemetry.ui.plant import Plant
from otel_telemetry.ui.problems import Problem
from otel_telemetry.ui.reading import Reading

ROOT: Final = "/ui"
API: Final = "/api"
_CODES: Final = {
    HTTPStatus.BAD_REQUEST: code_pb2.INVALID_ARGUMENT,
    HTTPStatus.UNAUTHORIZED: code_pb2.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: code_pb2.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: code_pb2.NOT_FOUND,
    HTTPStatus.CONFLICT: code_pb2.FAILED_PRECONDITION,
    HTTPStatus.TOO_MANY_REQUESTS: code_pb2.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: code_pb2.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: code_pb2.DEADLINE_EXCEEDED,
}


def make_app(
    reading: Reading,
    redaction: RedactionSettings,
    settings: UiSettings | None = None,
    *,
    host: str = "127.0.0.1",
    written: Reading | None = None,
) -> HostGuard:
    """Return the page as an application of its own, for the person at this machine: no key, but a check of the Host."""
    pages = Pages(reading, settings or UiSettings(), root=ROOT, texts=lambda _: True, written=written)
    application = _application(
        pages, [Route("/", _to_first(pages)), *_routes(pages, redaction), *pages.api(ROOT + API)]
    )
    return HostGuard(application, Origins(GatewaySettings(host=host)))  # around all, so that errors have the headers


def make_page(
    reading: Reading,
    redaction: RedactionSettings,
    settings: UiSettings,
    access: Access,
    insight: Insight | None = None,
    *,
    written: Reading | None = None,
) -> KeyGuard:
    """Return the page of a gateway: for keys of the role read, with texts for those of the role admin."""
    pages = Pages(
        reading,
        settings,
        root=ROOT,
        texts=lambda request: "admin" in roles_of(request),
        signs_in=lambda: access.asks,
        written=written,
    )
    login = Login(pages, access, ROOT)
    routes = [*_routes(pages, redaction, insight), *login.routes(), *pages.api(API), *pages.api(ROOT + API)]
    return KeyGuard(_application(pages, routes), access, ROOT, API, pages.links)


def _application(pages: Pages, routes: list[Route]) -> Starlette:
    handlers: dict[Any, Any] = {
        Problem: _error_handler(pages),
        HTTPException: _error_handler(pages),
        Exception: _error_handler(pages),
    }
    found = Starlette(routes=[Route(ROOT, _to_first(pages)), *routes], exception_handlers=handlers)
    found.router.redirect_slashes = False  # a redirect would name the host that the caller named
    return found


def _routes(pages: Pages, redaction: RedactionSettings, insight: Insight | None = None) -> list[Route]:
    return [
        *pages.routes(),
        *People(pages).routes(ROOT),
        *Flows(pages).routes(ROOT),
        *Plant(pages, redaction, insight).routes(ROOT),
    ]


def _to_first(pages: Pages) -> Callable[[Request], Response]:
    return lambda _: RedirectResponse(f"{pages.links}/")


def _error_handler(pages: Pages) -> Callable[[Request, Exception], Response]:
    """Return the handler of errors: answers JSON to programs, and a page to people."""

    def handle(request: Request, error: Exception) -> Response:
        problem = _problem(error)
        headers = {"retry-after": str(problem.retry_after)} if problem.retry_after else {}
        if isinstance(error, HTTPException):
            headers |= error.headers or {}
        if request.scope["path"].startswith((f"{API}/", f"{ROOT}{API}/")):
            return JSONResponse(problem_body(problem), problem.status, headers)
        answer = pages.show("problem.html", problem.status, problem=problem, here="", view=None)
        answer.headers.update(headers)
        return answer

    return handle


def problem_body(problem: Problem) -> dict[str, Any]:
    """Return the body for programs: a google.rpc.Status, as at the other endpoints, and the next step."""
    code = _CODES.get(problem.status, code_pb2.INTERNAL)
    message = f"{problem.title}; next: {problem.hint}"
    return {"code": code, "message": message, "error": {"message": problem.title, "next": problem.hint}}


def _problem(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        status = HTTPStatus(error.status_code)
        return Problem(status, f"{status.phrase.lower()}: there is nothing here", "go back to the overview")
    hint = "load the page again; the terminal that serves it says more"
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "something went wrong here", hint)
