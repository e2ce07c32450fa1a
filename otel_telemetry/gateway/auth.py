"""Who may do what: API keys, kept as digests, compared in constant time, each with its roles.

An entry of gateway.api_keys is a key, or `sha256:` and the digest of one in hex, so that the settings need not hold the
key itself; keys are long and random, so a plain digest keeps them. Before either there may be roles and a colon:
`ingest:KEY`, `ingest+cache:sha256:...`; without any, a key may do everything.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from typing import Final, Literal, get_args

from pydantic import SecretStr

from otel_telemetry.errors import ConfigurationError
from otel_telemetry.gateway.status import UNAUTHENTICATED, RefusedError, forbidden

Role = Literal["ingest", "cache", "read", "admin"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
_BEARER: Final = "bearer "
_HASHED: Final = "sha256:"
_SETTING: Final = "gateway.api_keys"
_ENTRY: Final = re.compile(rf"(?:((?:{'|'.join(ROLES)})(?:\+(?:{'|'.join(ROLES)}))*):)?(.+)", re.DOTALL)


class Keys:
    """The API keys of the gateway. Without any key everybody may do everything (it then listens on loopback only).

    Raises ConfigurationError for an entry that cannot be used, by its place: no message holds a key.
    """

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._known = tuple(_entry(place, key.get_secret_value()) for place, key in enumerate(keys, 1))

    def __bool__(self) -> bool:
        return bool(self._known)

    def admit(self, header: Callable[[str], str | None], role: Role = "ingest") -> bool:
        """Say whether a request with these headers (looked up by lower-case name) may do that."""
        return not self._known or role in self._roles(header)

    def require(self, header: Callable[[str], str | None], role: Role) -> None:
        """Raise RefusedError where a request with these headers may not do that."""
        if self.admit(header, role):
            return
        raise RefusedError(forbidden(role) if self._roles(header) else UNAUTHENTICATED)

    def _roles(self, header: Callable[[str], str | None]) -> set[Role]:
        given = _digest(_presented(header))
        matches = [(hmac.compare_digest(given, known), roles) for known, roles in self._known]  # all: no early way out
        return {role for matched, roles in matches if matched for role in roles}


def new_key() -> str:
    """Return a new random key of 256 bits."""
    return f"otk_{secrets.token_urlsafe(32)}"


def entry(key: str, roles: Sequence[Role]) -> str:
    """Return what gateway.api_keys holds of a key."""
    return f"{'+'.join(roles)}{':' if roles else ''}{_HASHED}{_digest(key).hex()}"


def _entry(place: int, text: str) -> tuple[bytes, frozenset[Role]]:
    match = _ENTRY.fullmatch(text)
    if not match:
        raise ConfigurationError(_SETTING, f"entry {place} is empty", "`otel-telemetry key` makes a key")
    named, key = match.groups()
    roles: frozenset[Role] = (
        frozenset(role for role in ROLES if role in named.split("+")) if named else frozenset(ROLES)
    )
    if "admin" in roles:
        roles = frozenset(ROLES)
    if not key.startswith(_HASHED):
        return _digest(key), roles
    digest = key.removeprefix(_HASHED)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        hint = "`otel-telemetry key` prints one with its key"
        raise ConfigurationError(_SETTING, f"entry {place} is no SHA-256 digest of 64 hex digits", hint)
    return bytes.fromhex(digest), roles


def _presented(header: Callable[[str], str | None]) -> str:
    authorization = header("authorization") or ""
    if authorization.lower().startswith(_BEARER):
        return authorization[len(_BEARER) :].strip()
    return header("x-api-key") or ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
