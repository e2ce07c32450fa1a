"""Protects the page: access control, refusal of what other origins send, and the headers of every answer."""

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from google.rpc import code_pb2
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from otel_telemetry.gateway.receive.auth import Role
from otel_telemetry.gateway.receive.origins import Origins
from otel_telemetry.ui import login
from otel_telemetry.ui.access import Access

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_OWN: Final = frozenset({"same-origin", "none"})
_SAFE: Final = frozenset({"GET", "HEAD"})
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="otel-telemetry"'}
#: In an ASGI scope: the roles of who asks.
_ROLES: Final = "otel_telemetry.roles"


class HostGuard:
    """ASGI middleware for a page without keys: no name but this machine's."""

    def __init__(self, app: App, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refused = self._refusal(scope["method"], headers)
        await (refused or self._app)(scope, receive, _with_headers(send))

    def _refusal(self, method: str, headers: Headers) -> Response | None:
        if not self._origins.is_ours(headers.get("host")):
            text = "the Host of the request is no name of this machine: open http://127.0.0.1 with the port instead\n"
            return Response(text, HTTPStatus.MISDIRECTED_REQUEST, media_type="text/plain")
        return None if is_allowed(method, headers) else _foreign()


class KeyGuard:
    """ASGI middleware for the page of a gateway: a key of the role read, or a session of one."""

    def __init__(self, app: App, access: Access, root: str, api: str, links: str) -> None:
        self._app = app
        self._access = access
        self._root = root
        self._links = links
        self._open = tuple(f"{root}/{one}" for one in ("login", "logout", "assets/"))
        self._paths = root, f"{root}/", f"{api}/"

    def serves(self, path: str) -> bool:
        """Return whether an address is one of the page's."""
        return path == self._paths[0] or path.startswith(self._paths[1:])

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Serve one request."""
        request = Request(scope)
        roles = scope[_ROLES] = self._access.roles(request)
        refused = self._refusal(request, roles)
        cookie = None if refused else self._access.renewed(request)
        await (refused or self._app)(scope, receive, _with_headers(send, self._keeping(request, cookie)))

    def _refusal(self, request: Request, roles: frozenset[Role]) -> Response | None:
        path: str = request.scope["path"]  # request.url is made of the Host, too
        if not is_allowed(request.method, request.headers):
            return _foreign()
        if "read" in roles or path.startswith(self._open):
            return None
        if path.startswith(self._root) and not path.startswith(f"{self._root}/api/"):
            return login.asked_for(request, self._root, self._links)
        if roles:
            return _refused(HTTPStatus.FORBIDDEN, code_pb2.PERMISSION_DENIED, "this key has not the role read")
        return _refused(HTTPStatus.UNAUTHORIZED, code_pb2.UNAUTHENTICATED, "a key of the role read is needed")

    def _keeping(self, request: Request, cookie: str | None) -> tuple[str, ...]:
        if cookie is None:
            return ()
        carrier = Response()
        login.keep(carrier, request, cookie, self._links)
        return tuple(carrier.headers.getlist("set-cookie"))


def roles_of(request: Request) -> frozenset[Role]:
    """Return the roles of a request that a guard has let in."""
    found: frozenset[Role] = request.scope.get(_ROLES, frozenset())
    return found


def is_allowed(method: str, headers: Headers) -> bool:
    """Return whether a request is a page's of ours, no browser's, or a link that was followed from elsewhere.

    Without a key, any page in the browser could have the gateway work, by an image or a frame, though it reads nothing.
    """
    if method not in _SAFE:
        return is_own(headers)
    told = "sec-fetch-site" in headers or "origin" in headers
    return not told or is_own(headers) or _is_followed(headers)


def _is_followed(headers: Headers) -> bool:
    """Return whether the browser goes to the address, in a window of its own and not in advance."""
    goes = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    return goes and "origin" not in headers and "sec-purpose" not in headers


def is_own(headers: Headers) -> bool:
    """Return whether a request was sent by a page of ours."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site.lower() in _OWN
    return headers.get("origin", "").partition("://")[2] == headers.get("host", "")


def _foreign() -> Response:
    return Response("another web page has sent this\n", HTTPStatus.FORBIDDEN, media_type="text/plain")


def _refused(status: HTTPStatus, code: int, message: str) -> Response:
    return JSONResponse(
        {"code": code, "message": message}, status, _CHALLENGE if status == HTTPStatus.UNAUTHORIZED else None
    )


def _with_headers(send: Send, cookies: tuple[str, ...] = ()) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(HEADERS)
            headers.setdefault("cache-control", "no-store")
            if "set-cookie" not in headers:
                for cookie in cookies:
                    headers.append("set-cookie", cookie)
        await send(message)

    return sending
