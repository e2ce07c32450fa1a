"""Signing in with an API key, and out again. The key comes in a form, never in a URL, and is not stored."""

from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from otel_telemetry.gateway.receive.rest.rate_limit import Clients
from otel_telemetry.ui import forms
from otel_telemetry.ui.access import IDLE_SECONDS, Access, cookie_name
from otel_telemetry.ui.pages import Pages
from otel_telemetry.ui.problems import Problem

_TRIES_A_MINUTE: Final = 10


class Login:
    """The form, what it leads to, and the way out. `root` is what all addresses begin with."""

    def __init__(self, pages: Pages, access: Access, root: str) -> None:
        self._pages = pages
        self._access = access
        self._root = root
        self._clients = Clients(_TRIES_A_MINUTE, access.address_of)

    def routes(self) -> list[Route]:
        """Return the routes; they ask for no key."""
        return [
            Route(f"{self._root}/login", self.form, methods=["GET"]),
            Route(f"{self._root}/login", self.enter, methods=["POST"]),
            Route(f"{self._root}/logout", self.leave, methods=["POST"]),
        ]

    def form(self, request: Request) -> Response:
        """Ask for a key."""
        return self._shown(HTTPStatus.OK, self._target(request.query_params.get("next", "")), "")

    def _shown(self, status: int, target: str, wrong: str) -> Response:
        return self._pages.show("login.html", status, view=None, here="login", target=target, wrong=wrong)

    async def enter(self, request: Request) -> Response:
        """Begin a session."""
        if wait := self._clients.wait(self._clients.address(request)):
            hint = f"wait {wait:.0f} seconds, then try again"
            raise Problem(HTTPStatus.TOO_MANY_REQUESTS, "too many tries to sign in", hint, int(wait) + 1)
        given = await forms.read(request)
        target = self._target(given.get("next", ""))
        cookie = self._access.begin(given.get("key", "").strip())
        if cookie is None:
            wrong = "This key is not known, or has not the role read."
            return self._shown(HTTPStatus.UNAUTHORIZED, target, wrong)
        answer = RedirectResponse(target, HTTPStatus.SEE_OTHER)
        keep(answer, request, cookie, self._pages.links)
        return answer

    async def leave(self, request: Request) -> Response:
        """End a session."""
        await forms.read(request)
        answer = RedirectResponse(f"{self._pages.links}/login", HTTPStatus.SEE_OTHER)
        answer.delete_cookie(cookie_name(request), path=self._pages.links, httponly=True, samesite="strict")
        return answer

    def _target(self, wanted: str) -> str:
        """Return where to go on: an address of the page, or its first one."""
        plain = wanted.isprintable() and "\\" not in wanted and not wanted.startswith("//")
        first = f"{self._pages.links}/"
        return wanted if plain and wanted.startswith(first) else first


def asked_for(request: Request, root: str, links: str) -> Response:
    """Return the way to the form, from where a session is needed.

    A strict cookie does not come along where another site's link led here: then the page leads to itself once more.
    """
    there = links + request.scope["path"].removeprefix(root) + (f"?{request.url.query}" if request.url.query else "")
    if request.method == "GET" and request.headers.get("sec-fetch-site") == "cross-site":
        return Response(headers={"refresh": f"0; url={quote(there, safe='/?&=%~')}"}, media_type="text/html")
    return RedirectResponse(f"{links}/login?next={quote(there, safe='')}", HTTPStatus.SEE_OTHER)


def keep(answer: Response, request: Request, cookie: str, root: str) -> None:
    """Have the browser keep a session; over TLS only, where that is how it came, be it to a proxy in front."""
    secure = request.url.scheme == "https" or request.headers.get("origin", "").startswith("https://")
    answer.set_cookie(
        cookie_name(request), cookie, IDLE_SECONDS, path=root, secure=secure, httponly=True, samesite="strict"
    )
