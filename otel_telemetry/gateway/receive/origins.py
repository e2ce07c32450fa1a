"""Web pages: which of them may send, and the CORS headers for their browsers.

A page in a developer's browser can send requests to the gateway on the same machine. Without keys nothing else tells it
from an app, so then the Host must be a name of this machine (or a page could take it over by DNS rebinding, 421), and a
request that a browser marks as cross-site is refused (403). Only pages of `gateway.allowed_origins` may send, and only
to the endpoints made for browsers. A request with a non-public key is allowed: no page has one.

Cookies are never read here: the page below /ui reads its own, and itself refuses what other sites send to it.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, Final

from google.rpc import code_pb2
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.config import GatewaySettings
from otel_telemetry.gateway.receive.auth import PUBLIC_PATHS, Keys, opened
from otel_telemetry.gateway.receive.status import JSON, Refusal, wrong_method

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[Any, Any, Any], Awaitable[None]]

_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_HOST: Final = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]*)(?::[0-9]{0,5})?")
_HEADER_NAMES: Final = re.compile(r"[A-Za-z0-9_-]+(?: *, *[A-Za-z0-9_-]+)*")
_MOST_ASKED: Final = 1024
_MOST_HOSTS: Final = 64
_OF_BROWSERS: Final = frozenset({b"origin", b"sec-fetch-site"})
#: In an ASGI scope: whether the request comes from a page of gateway.allowed_origins.
LISTED: Final = "otel_telemetry.listed_origin"
_OWN: Final = frozenset({"same-origin", "none"})
#: Read by people, in a browser, to whom a link may lead: what is below them asks who is there by itself.
_FOR_PEOPLE: Final = frozenset({"docs", "openapi.json", "ui"})
_OF_PROGRAMS: Final = "/ui/api/"
_PREFLIGHT_SECONDS: Final = "7200"
_ORIGINS: Final = "gateway.allowed_origins"


class Origins:
    """The settings for web pages. Raises ConfigurationError for an origin that no browser sends."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.become(settings)

    def become(self, settings: GatewaySettings) -> None:
        """Go by these settings from the next request on."""
        self.allowed = frozenset(_checked(one) for one in settings.allowed_origins)
        self.paths = PUBLIC_PATHS | opened(settings.open_endpoints) - {"/metrics"}
        self._hosts = frozenset(one.lower() for one in settings.allowed_hosts) | {settings.host.lower()}
        self._checks_host = is_loopback(settings.host) and (not settings.api_keys or bool(settings.open_endpoints))
        self._good_hosts: set[bytes] = set()

    def refusal(self, path: str, headers: Headers) -> Refusal | None:
        """Return why a request that has no key of its own is not served, or None."""
        if not self.is_ours(headers.get("host")):
            return _WRONG_HOST
        linked = path.split("/", 2)[1] in _FOR_PEOPLE and not path.startswith(_OF_PROGRAMS)
        if not linked and self._is_foreign(path, headers):
            return _FOREIGN
        return None

    def is_ours(self, host: str | None) -> bool:
        """Return whether a Host may be used; None is HTTP/1.0 without one, which no browser speaks."""
        if not self._checks_host or host is None:
            return True
        match = _HOST.fullmatch(host.lower())
        name = match["name"].strip("[]").removesuffix(".") if match else ""
        return name in self._hosts or name.endswith(".localhost") or is_loopback(name)

    def is_plainly_ours(self, host: bytes) -> bool:
        """Return True quickly for a Host that was allowed before; False means nothing."""
        if host in self._good_hosts:
            return True
        good = self.is_ours(host.decode("latin-1") or None) and len(self._good_hosts) < _MOST_HOSTS
        if good:
            self._good_hosts.add(host)
        return good

    def _is_foreign(self, path: str, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "none").lower() not in _OWN
        if origin in self.allowed and path in self.paths:
            return False
        return origin.partition("://")[2] != headers.get("host") or not _ORIGIN.fullmatch(origin)


def is_loopback(host: str) -> bool:
    """Return whether a name or address is of this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _checked(origin: str) -> str:
    if _ORIGIN.fullmatch(origin):
        return origin
    hint = "list origins one by one as browsers send them: https://app.example.com, in small letters, without a path"
    raise ConfigurationError(_ORIGINS, f"{origin!r} is no origin", hint)


_WRONG_HOST: Final = Refusal(
    "wrong_host",
    code_pb2.PERMISSION_DENIED,
    HTTPStatus.MISDIRECTED_REQUEST,
    "the Host of the request is no name of this machine: add it to gateway.allowed_hosts, or set gateway.api_keys",
)
_FOREIGN: Final = Refusal(
    "foreign_origin",
    code_pb2.PERMISSION_DENIED,
    HTTPStatus.FORBIDDEN,
    "a web page of another origin has sent this: add it to gateway.allowed_origins for the endpoints of browsers",
)


class BrowserGuard:
    """ASGI middleware: refuses what comes from other origins, answers preflights, and adds the headers of CORS."""

    def __init__(self, app: _App, origins: Origins, keys: Keys) -> None:
        self._app = app
        self._origins = origins
        self._keys = keys

    async def __call__(self, scope: Any, receive: _Receive, send: _Send) -> None:
        """Serve one request."""
        if self._is_plain(scope):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        path: str = scope["path"]
        origin = headers.get("origin")
        refusal = self._origins.refusal(path, headers)
        listed = origin in self._origins.allowed and path in self._origins.paths
        if refusal and not self._keys.secret_given(headers.get):
            await _plain(refusal)(scope, receive, send)
        elif origin and scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
            await self._preflight(headers, listed=listed)(scope, receive, send)
        else:
            scope[LISTED] = listed
            await self._app(scope, receive, _allowing(send, origin) if listed and origin else send)

    def _is_plain(self, scope: Any) -> bool:
        """Return True quickly for a request from no browser, to a name that was allowed before."""
        host = b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name in _OF_BROWSERS:
                return False
        return self._origins.is_plainly_ours(host)

    @staticmethod
    def _preflight(headers: Headers, *, listed: bool) -> Response:
        """Answer what a browser asks before it sends; it sends no key with that."""
        if not listed:
            return _plain(_FOREIGN)
        if headers["access-control-request-method"] != "POST":
            return _plain(wrong_method("web pages may only POST"))
        found = _cors(headers["origin"]) | {
            "access-control-allow-methods": "POST",
            "access-control-max-age": _PREFLIGHT_SECONDS,
        }
        asked = headers.get("access-control-request-headers", "")
        if len(asked) <= _MOST_ASKED and _HEADER_NAMES.fullmatch(asked):
            found["access-control-allow-headers"] = asked
        if "access-control-request-private-network" in headers:
            found["access-control-allow-private-network"] = "true"
        return Response(status_code=HTTPStatus.NO_CONTENT, headers=found)


def _cors(origin: str) -> dict[str, str]:
    """Return what lets a page read an answer; beacons ask with credentials, though none are read here."""
    return {
        "access-control-allow-origin": origin,
        "access-control-allow-credentials": "true",
        "access-control-expose-headers": "retry-after",
        "vary": "Origin",
    }


def _allowing(send: _Send, origin: str) -> _Send:
    async def sending(message: _Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(_cors(origin))
        await send(message)

    return sending


def _plain(refusal: Refusal) -> Response:
    return Response(refusal.body(JSON), refusal.http_status, refusal.headers(), JSON)
