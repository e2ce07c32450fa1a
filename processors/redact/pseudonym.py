"""Pseudonyms: they distinguish people without revealing them (docs/architecture.md, D11).

HMAC-SHA256 (RFC 2104) under the operator's secret; an IP address is normalised first, so that one client has one
pseudonym however a proxy writes it. Without a secret there is no pseudonym, and the caller redacts in full.
"""

import hashlib
import hmac
import ipaddress
import re
from typing import Final

from pydantic import SecretStr

from otel_telemetry.base.errors import ConfigurationError
from otel_telemetry.processors.config import PseudonymSettings
from otel_telemetry.processors.redact.same_person import normal_forms

_MIN_SECRET: Final = 16
_V4_PORT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}")
_NAMED: Final = re.compile(r"(?:for|by)=", re.IGNORECASE)  # RFC 7239
_BRACKETS: Final = re.compile(r"\[([^\]]{2,64})\](?::\d{1,5})?")


class Pseudonyms:
    """Makes and recognises pseudonyms under one key. Thread-safe: it holds no state but the key."""

    def __init__(self, settings: PseudonymSettings) -> None:
        self._key = _key(settings.secret, "secret")
        self._previous = _key(settings.previous_secret, "previous_secret")
        self._previous_prefix = settings.previous_key_id + "_"
        self._prefix = settings.key_id + "_"
        self._length = settings.length
        self._own = re.compile(rf"[a-z0-9]{{1,16}}_[0-9a-f]{{{settings.length}}}")
        self._own_ip = re.compile(rf"[0-9a-f]{{{settings.length}}}")

    @property
    def available(self) -> bool:
        """True where a secret is set."""
        return bool(self._key)

    def of(self, value: str) -> str:
        """Return `<key id>_<hex>` for any text; a pseudonym stays what it is."""
        if self._own.fullmatch(value):
            return value
        return self._prefix + self._digest(value)

    def of_ip(self, value: str) -> str | None:
        """Return the bare hex of one address (the contract's ip_hash), or None where it is no address."""
        if self._own_ip.fullmatch(value):
            return value
        address = normalise_ip(value)
        return self._digest(address) if address else None

    def is_pseudonym(self, value: str) -> bool:
        """Return whether a text has the shape of our pseudonyms with a key id."""
        return self._own.fullmatch(value) is not None

    def every(self, value: str, *, ip: bool = False) -> list[str]:
        """Return what a value is called under each key, the newest first: what to look for in rows of either time.

        The value counts as it is, and in the one spelling of its type (a telephone number, a card, ...). With `ip`,
        the pseudonyms of an address; empty where the value is none, or no secret is set.
        """
        texts = [normalise_ip(value)] if ip else normal_forms(value)
        keys = ((self._key, self._prefix), (self._previous, self._previous_prefix))
        return [
            ("" if ip else prefix) + self._digest(text, key) for key, prefix in keys if key for text in texts if text
        ]

    def _digest(self, value: str, key: bytes | None = None) -> str:
        data = value.encode("utf-8", "surrogatepass")
        return hmac.new(key or self._key, data, hashlib.sha256).hexdigest()[: self._length]


def _key(secret: SecretStr | None, name: str) -> bytes:
    text = secret.get_secret_value() if secret else ""
    if secret and len(text) < _MIN_SECRET:
        problem = f"has under {_MIN_SECRET} characters"
        raise ConfigurationError(f"redaction.pseudonyms.{name}", problem, "use `openssl rand -hex 32`")
    return text.encode()


def normalise_ip(value: str) -> str | None:
    """Return one spelling for one address, or None: no brackets, port or zone; IPv4-mapped as IPv4; IPv6 compressed."""
    text = value.strip().strip('"')
    text = text[len(named[0]) :].strip('"') if (named := _NAMED.match(text)) else text
    bracketed = _BRACKETS.fullmatch(text)
    port = None if bracketed else _V4_PORT.fullmatch(text)
    text = bracketed[1] if bracketed else port[1] if port else text
    try:
        address = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
