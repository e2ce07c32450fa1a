"""Access to the page: by an API key with each request, or by a session that a key began.

A session is a cookie: the times when it began and was last renewed, the key that began it, and a signature over these.
It contains no key, and ends with it: once the key is removed from the settings, its sessions are invalid. Processes of
one gateway share the secret of the signature, which is created at each start. A session ends an hour after the last
request, and half a day after it began.
"""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable
from typing import Final

from starlette.requests import Request

from otel_telemetry.gateway.receive.auth import Keys, Role, digest_of
from otel_telemetry.gateway.receive.rest.rate_limit import AddressOf

IDLE_SECONDS: Final = 3_600
_LONGEST_SECONDS: Final = 43_200
_RENEWED_AFTER: Final = 300
_TAG: Final = 16
_PARTS: Final = 4
_NOBODY: Final[frozenset[Role]] = frozenset()


class Access:
    """Decides what a request may do. Without keys everything is allowed, because the gateway is on loopback then."""

    def __init__(
        self,
        keys: Keys,
        secret: bytes,
        now: Callable[[], float] = time.time,
        *,
        address_of: AddressOf | None = None,
    ) -> None:
        #: Whose address a request has that came through a proxy; None where no proxy is trusted.
        self.address_of = address_of
        self._keys = keys
        self._secret = secret
        self._now = now

    @property
    def asks(self) -> bool:
        """Whether a key is asked for at all."""
        return bool(self._keys)

    def roles(self, request: Request) -> frozenset[Role]:
        """Return the roles of a request."""
        given = self._keys.roles(request.headers.get)
        if given or not self._keys:
            return given
        session = self._read(request.cookies.get(cookie_name(request), ""))
        return session[2] if session else _NOBODY

    def begin(self, key: str) -> str | None:
        """Return the cookie of a new session of a key that may read; None where it may not."""
        known, given = self._keys.known(), digest_of(key)
        matches = [one for one, roles in known.items() if hmac.compare_digest(one, given) and "read" in roles]
        if not matches:
            return None
        now = int(self._now())
        return self._signed(now, now, self._tag(matches[0]))

    def renewed(self, request: Request) -> str | None:
        """Return the cookie that goes on from that of a request; None where that one will do."""
        session = self._read(request.cookies.get(cookie_name(request), ""))
        now = int(self._now())
        if session is None or now - session[1] < _RENEWED_AFTER:
            return None
        return self._signed(session[0], now, session[3])

    def _read(self, cookie: str) -> tuple[int, int, frozenset[Role], str] | None:
        """Return when a session began and was renewed, its roles, and the tag of its key; None where it is none."""
        parts = cookie.split(".")
        if len(parts) != _PARTS or not hmac.compare_digest(self._signature(*parts[:3]).encode(), parts[3].encode()):
            return None
        began, renewed, now = int(parts[0]), int(parts[1]), self._now()
        if now - renewed > IDLE_SECONDS or now - began > _LONGEST_SECONDS:
            return None
        for known, roles in self._keys.known().items():
            if hmac.compare_digest(self._tag(known).encode(), parts[2].encode()):
                return began, renewed, roles, parts[2]
        return None

    def _tag(self, known: bytes) -> str:
        return hmac.new(self._secret, b"key" + known, hashlib.sha256).hexdigest()[:_TAG]

    def _signed(self, began: int, renewed: int, tag: str) -> str:
        parts = str(began), str(renewed), tag
        return ".".join((*parts, self._signature(*parts)))

    def _signature(self, *parts: str) -> str:
        signed = hmac.new(self._secret, "session.{}.{}.{}".format(*parts).encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")


def cookie_name(request: Request) -> str:
    """Return the name of the cookie: browsers share cookies between the ports of a host, so it has the port in it."""
    return f"otel_telemetry_ui_{request.url.port or 0}"
