"""Who may send: API keys, kept as digests and compared in constant time."""

import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Final

from pydantic import SecretStr

_BEARER: Final = "bearer "


class Keys:
    """The API keys of the gateway. Without any key everybody may send (the gateway then listens on loopback only)."""

    def __init__(self, keys: Sequence[SecretStr]) -> None:
        self._digests = tuple(_digest(key.get_secret_value()) for key in keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def admit(self, header: Callable[[str], str | None]) -> bool:
        """Say whether a request with these headers (looked up by lower-case name) may come in."""
        if not self._digests:
            return True
        given = _digest(_presented(header))
        return any([hmac.compare_digest(given, known) for known in self._digests])  # noqa: C419 - a list: no early way out


def _presented(header: Callable[[str], str | None]) -> str:
    authorization = header("authorization") or ""
    if authorization.lower().startswith(_BEARER):
        return authorization[len(_BEARER) :].strip()
    return header("x-api-key") or ""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
