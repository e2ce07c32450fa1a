"""Signatures in URLs and private keys in their wrappings: what tells them from public values of the same form."""

import base64
import re
from typing import Final

from otel_telemetry.processors.detect.kinds.validators import Span, looks_random
from otel_telemetry.processors.detect.names import looks

_KEY_TYPE: Final = re.compile(r"\bkty\b")
#: Beside it, the modulus `n` is a part of a private key.
_EXPONENT: Final = re.compile(r"[\"']d\\{0,15}[\"']\s{0,3}:")
_AROUND_MEMBER: Final = 12_000
_HEADER: Final = 96
#: What counts by its look alone: `code` and `state` are also those of countries, vouchers and errors.
_VAGUE: Final = frozenset({"code", "state", "policy", "ticket", "nonce", "assertion", "hmac", "sig", "signature"})
_SHORTEST: Final = 10
_ONE_TIME: Final = re.compile(r"[0-9]{4,8}")
_CAPITALS_WITHIN: Final = re.compile(r"[a-z0-9][A-Z][0-9A-Za-z]{0,200}[a-z][A-Z]")


def url_signature(text: str, match: re.Match[str]) -> Span | None:
    """Accept the signature, credential or one-time code of a URL; vague names need a value drawn at random."""
    del text
    name, value = match["name"].lower(), match["v"]
    span = Span(match.start("v"), match.end("v"))
    if looks.is_reference(value) or looks.is_placeholder(value) or looks.is_marked(value):
        return None
    if name == "otp":
        return span if _ONE_TIME.fullmatch(value) else None
    if name not in _VAGUE:
        return span
    return span if len(value) >= _SHORTEST and (looks_random(value) or _CAPITALS_WITHIN.search(value)) else None


def jwk_member(text: str, match: re.Match[str]) -> Span | None:
    """Accept a private member of a JSON web key: beside it stands the key's type (RFC 7517, section 4.1)."""
    start, end = match.span("v")
    around = max(0, start - _AROUND_MEMBER), min(len(text), end + _AROUND_MEMBER)
    if text.find("kty", *around) < 0 or _KEY_TYPE.search(text, *around) is None:
        return None
    if match["name"] == "n" and _EXPONENT.search(text, *around) is None:
        return None
    return Span(start, end)


def private_key_in_base64(text: str, match: re.Match[str]) -> Span | None:
    """Accept base64 of a PEM block that says to be a private key."""
    head = re.sub(r"[^0-9A-Za-z+/_-]", "", text[match.start("v") : match.start("v") + _HEADER])
    plain = base64.b64decode(head[: len(head) // 4 * 4], b"-_" if "-" in head or "_" in head else None)
    return Span(match.start("v"), match.end("v")) if b"PRIVATE KEY" in plain else None
