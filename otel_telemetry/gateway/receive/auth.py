"""Authorisation: API keys, stored as digests, compared in constant time, each with its roles.

An entry of gateway.api_keys is a key, or `sha256:` and the digest of one in hex, so that the settings need not contain
the key itself; keys are long and random, so a plain digest is safe. Before either there may be roles and a colon:
`ingest:KEY`, `ingest+cache:sha256:...`; without any, a key may do everything.

A key of the role `public` is not secret: web pages contain it. It may be in the query (`?api_key=KEY`), because beacons
send no headers, and it is valid only for what browsers send.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final, Literal, get_args

from pydantic import SecretStr
from starlette.requests import Request

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.gateway.receive.status import UNAUTHENTICATED, RefusedError, forbidden

Role = Literal["ingest", "cache", "read", "admin", "public"]

EVENT_PATHS: Final = ("/event", "/events", "/v1/event", "/v1/events")
#: The first is documented; programs that watched chronicle ask at the others.
HEALTH_PATHS: Final = ("/health", "/healthz", "/")
#: What a public key is good for.
PUBLIC_PATHS: Final = frozenset({"/telemetry", "/feedback", "/v1/traces", "/v1/logs", "/v1/metrics"})

ROLES: Final[tuple[Role, ...]] = get_args(Role)
_EVERYTHING: Final = frozenset(role for role in ROLES if role != "public")
_BEARER: Final = "bearer "
_HASHED: Final = "sha256:"
_SETTING: Final = "gateway.api_keys"
_IN_QUERY: Final = "api_key"
_PUBLIC: Final = frozenset({"public"})
_SHOWN: Final = 8  # digits of a key's digest in the log
_NO_KEY: Final = "callers without a key"
_ENTRY: Final = re.compile(rf"(?:((?:{'|'.join(ROLES)})(?:\+(?:{'|'.join(ROLES)}))*):)?(.*)", re.DOTALL)


class Keys:
    """The API keys of the gateway. Without any key everybody may do everything (it then listens on loopback only).

    `open_endpoints` ask for no key. Raises ConfigurationError for an entry that cannot be used, by its place: no
    message holds a key.
    """

    def __init__(self, keys: Sequence[SecretStr], open_endpoints: Sequence[str] = ()) -> None:
        self.become(keys, open_endpoints)

    def become(self, keys: Sequence[SecretStr], open_endpoints: Sequence[str] = ()) -> None:
        """Know these keys from the next request on, and no others."""
        known = tuple(_entry(number, key.get_secret_value()) for number, key in enumerate(keys, 1))
        self._known, self._open = known, opened(open_endpoints)

    def __bool__(self) -> bool:
        return bool(self._known)

    def admit(self, header: Callable[[str], str | None], role: Role = "ingest") -> bool:
        """Return whether a request with these headers (looked up by lower-case name) may do that."""
        return not self._known or role in self._roles(header)

    def require(self, header: Callable[[str], str | None], role: Role) -> None:
        """Raise RefusedError where a request with these headers may not do that."""
        if self.admit(header, role):
            return
        raise RefusedError(forbidden(role) if self._roles(header) else UNAUTHENTICATED)

    def require_http(self, request: Request, role: Role) -> str:
        """Raise RefusedError where an HTTP request may not do that: its endpoint may be open, its key a public one.

        Return whose CPU time it takes (allowance.py): that of a public key, of callers without a key, or "" of nobody.
        """
        path: str = request.scope["path"]
        if not self._known:
            return ""
        key = _presented(request.headers.get)
        roles = self._of_key(key)
        if not roles and path in PUBLIC_PATHS:
            key = request.query_params.get(_IN_QUERY, "")
            roles = self._of_key(key) & _PUBLIC
        if "public" in roles and path in PUBLIC_PATHS:
            return f"the public key {digest_of(key).hex()[:_SHOWN]}…"
        if path in self._open:
            return "" if roles - _PUBLIC else _NO_KEY
        if role not in roles:
            raise RefusedError(forbidden(role) if roles else UNAUTHENTICATED)
        return ""

    def secret_given(self, header: Callable[[str], str | None]) -> bool:
        """Return whether a request has a key that is no public one: no web page of others can have sent it."""
        return bool(self._known) and bool(self._roles(header) - _PUBLIC)

    def roles(self, header: Callable[[str], str | None]) -> frozenset[Role]:
        """Return the roles of a request with these headers; without any key in the settings, all."""
        return frozenset(self._roles(header)) if self._known else _EVERYTHING

    def known(self) -> dict[bytes, frozenset[Role]]:
        """Return the digest of each key with its roles, for sessions that end with their key."""
        found: dict[bytes, frozenset[Role]] = {}
        for known, roles in self._known:
            found[known] = found.get(known, frozenset()) | roles
        return found

    def _roles(self, header: Callable[[str], str | None]) -> set[Role]:
        return self._of_key(_presented(header))

    def _of_key(self, key: str) -> set[Role]:
        given = digest_of(key)
        matches = [(hmac.compare_digest(given, known), roles) for known, roles in self._known]  # all: no early way out
        return {role for matched, roles in matches if matched for role in roles}


def opened(endpoints: Sequence[str]) -> frozenset[str]:
    """Return the paths of gateway.open_endpoints: /events has several names."""
    return frozenset(endpoints) | (frozenset(EVENT_PATHS) if "/events" in endpoints else frozenset())


def new_key() -> str:
    """Return a new random key of 256 bits."""
    return f"otk_{secrets.token_urlsafe(32)}"


def entry(key: str, roles: Sequence[Role]) -> str:
    """Return what gateway.api_keys holds of a key."""
    return f"{'+'.join(roles)}{':' if roles else ''}{_HASHED}{digest_of(key).hex()}"


def _entry(number: int, text: str) -> tuple[bytes, frozenset[Role]]:
    match = _ENTRY.fullmatch(text)
    named, key = match.groups() if match else (None, "")
    if not key.strip():
        raise ConfigurationError(_SETTING, f"entry {number} has no key", "`otel-telemetry key` makes one")
    roles: frozenset[Role] = frozenset(role for role in ROLES if role in named.split("+")) if named else _EVERYTHING
    if roles > _PUBLIC:
        hint = "whoever opens the page has a public key: make another one for the other roles"
        raise ConfigurationError(_SETTING, f"entry {number} is public and has other roles, too", hint)
    if "admin" in roles:
        roles = _EVERYTHING
    if not key.lower().startswith(_HASHED):
        return digest_of(key), roles
    digest = key[len(_HASHED) :]
    hint = "`otel-telemetry key` prints one with its key"
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise ConfigurationError(_SETTING, f"entry {number} is no SHA-256 digest of 64 hex digits", hint)
    if bytes.fromhex(digest) == digest_of(""):
        raise ConfigurationError(_SETTING, f"entry {number} is the digest of an empty key", hint)
    return bytes.fromhex(digest), roles


def sender(request: Request) -> str:
    """Return the key of a request, wherever it stands; empty where there is none."""
    return _presented(request.headers.get) or request.query_params.get(_IN_QUERY, "")


def _presented(header: Callable[[str], str | None]) -> str:
    authorization = header("authorization") or ""
    if authorization.lower().startswith(_BEARER):
        return authorization[len(_BEARER) :].strip()
    return header("x-api-key") or ""


def digest_of(key: str) -> bytes:
    """Return the digest that is stored of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
