"""What decides whether a candidate really is what it looks like: checksums, ranges, parsers, entropy.

A validator gets the text and the match of a rule's regex, and answers the span that is to go, or None. It never looks
further than the match and a few characters around it. `VALIDATORS` names those that rules may ask for.
"""

import base64
import math
import re
import socket
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) of a text; `type` where the validator knows it better than the rule."""

    start: int
    end: int
    type: str = ""


Validator = Callable[[str, "re.Match[str]"], Span | None]

_DIGIT: Final = re.compile(r"\d")
#: Digits doubled, and their digits summed.
_DOUBLED: Final = bytes.maketrans(b"0123456789", bytes(48 + n for n in (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
#: Letters as numbers, as ISO 13616 counts them.
_AS_NUMBERS: Final = {ord(letter): str(10 + n) for n, letter in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ")}
#: n * log2(n): what n equal characters take from the entropy of a text.
_PART: Final = 128
_REPEATED: Final = (0.0, *(n * math.log2(n) for n in range(1, 1025)))
_V4: Final = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_CIDR: Final = re.compile(r"/\d{1,3}(?!\w|\.\d)")
_USERINFO: Final = re.compile(r"([^\s/\"'<>`?#]{1,300})@")
_GAPS: Final = dict.fromkeys(map(ord, "._/"))
_TEMPLATE: Final = re.compile(r"\$\{?\w|\{\{?|<[\w-]{1,30}>?$|%[sd(]|\*{3,}|\[REDACTED|x{3,}$|\.{3}$", re.IGNORECASE)
_MAC_WORD: Final = re.compile(r"mac|address|ether|lease|port|hw|lladdr", re.IGNORECASE)
_ZONE: Final = re.compile(r"%[\w.-]{1,32}")
_VERSION_BEFORE: Final = re.compile(r"(?:\bv|version|release|build|ver)[\s\"'=:\\]{0,6}$|[A-Za-z]/$", re.IGNORECASE)
_AROUND_VERSION: Final = " \t\r\n\"'=:\\"
_VERSION_ENDS: Final = frozenset("vVnNeErRdD/")
_ENCODED_AT: Final = re.compile(r"%40|\\u0040|&#64;|&#x40;")
_PLAIN_EMAIL: Final = re.compile(rb"[A-Za-z0-9._%+-]@[A-Za-z0-9-]{1,63}\.[A-Za-z]{2}")
_URL_BREAK: Final = re.compile(r"[\s/?#\"'<>,;]")
_IMAGE_TLDS: Final = frozenset(
    {"png", "jpg", "jpeg", "gif", "svg", "webp", "js", "css", "py", "ts", "html", "json", "so"}
)
#: Lengths that card numbers nearly always have; the rarer ones (Maestro, 13-digit Visa, 19) are those of plain ids too.
_CARD_LENGTHS: Final = (14, 15, 16)
_CARD_WORD: Final = re.compile(r"card|visa|maestro|(?<![a-z])(?:pan|cc|debit|credit)(?![a-z])", re.IGNORECASE)
#: IBAN length by country (registry of ISO 13616, release 100).
_IBAN_LENGTHS: Final[Mapping[str, int]] = {
    code: int(length)
    for code, length in (
        item.split(":")
        for item in [
            "AD:24",
            "AE:23",
            "AL:28",
            "AT:20",
            "AZ:28",
            "BA:20",
            "BE:16",
            "BG:22",
            "BH:22",
            "BI:27",
            "BR:29",
            "BY:28",
            "CH:21",
            "CR:22",
            "CY:28",
            "CZ:24",
            "DE:22",
            "DJ:27",
            "DK:18",
            "DO:28",
            "EE:20",
            "EG:29",
            "ES:24",
            "FI:18",
            "FK:18",
            "FO:18",
            "FR:27",
            "GB:22",
            "GE:22",
            "GI:23",
            "GL:18",
            "GR:27",
            "GT:28",
            "HN:28",
            "HR:21",
            "HU:28",
            "IE:22",
            "IL:23",
            "IQ:23",
            "IS:26",
            "IT:27",
            "JO:30",
            "KW:30",
            "KZ:20",
            "LB:28",
            "LC:32",
            "LI:21",
            "LT:20",
            "LU:20",
            "LV:21",
            "LY:25",
            "MC:27",
            "MD:24",
            "ME:22",
            "MK:19",
            "MN:20",
            "MR:27",
            "MT:31",
            "MU:30",
            "NI:28",
            "NL:18",
            "NO:15",
            "OM:23",
            "PK:24",
            "PL:28",
            "PS:29",
            "PT:25",
            "QA:29",
            "RO:24",
            "RS:22",
            "RU:33",
            "SA:24",
            "SC:31",
            "SD:18",
            "SE:24",
            "SI:19",
            "SK:24",
            "SM:27",
            "SO:23",
            "ST:25",
            "SV:28",
            "TL:23",
            "TN:24",
            "TR:26",
            "UA:29",
            "VA:22",
            "VG:24",
            "XK:20",
            "YE:30",
        ]
    )
}


def span_of(match: re.Match[str]) -> Span:
    """Return the group `v` of a match where its regex has one, else all of it."""
    if "v" in match.re.groupindex and match.start("v") >= 0:
        return Span(match.start("v"), match.end("v"))
    return Span(match.start(), match.end())


def luhn(digits: str) -> bool:
    """Tell whether ASCII decimal digits pass the Luhn check (ISO/IEC 7812-1 annex B)."""
    data = digits.encode()
    return (sum(data[-1::-2]) + sum(data[-2::-2].translate(_DOUBLED)) - 48 * len(data)) % 10 == 0


def issuer(digits: str) -> bool:
    """Tell whether a card number starts with the range of an issuer and has that issuer's length."""
    n, two, three, four, six = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4]), int(digits[:6])
    if digits[0] == "4":
        return n in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:
        return n == 16
    if two in (34, 37):
        return n == 15
    if 300 <= three <= 305 or two in (36, 38, 39) or four == 3095:
        return 14 <= n <= 19
    if two == 35:
        return 16 <= n <= 19
    if four in (1800, 2131) or (digits[0] == "1" and n == 15):
        return n == 15
    if four == 6011 or 622126 <= six <= 622925 or 644 <= three <= 649 or two in (62, 65, 81):
        return 16 <= n <= 19
    if two in (50, 56, 57, 58, 60, 63, 67, 68, 69):
        return 12 <= n <= 19
    return four in range(2200, 2205) and n in (16, 17, 18, 19)


def entropy(text: str) -> float:
    """Return the Shannon entropy of the characters, in bits per character."""
    if not text:
        return 0.0
    size = len(text)
    counts = map(text.count, set(text))
    if size < len(_REPEATED):
        repeated = sum(map(_REPEATED.__getitem__, counts))
    else:
        repeated = sum(count * math.log2(count) for count in counts)
    return math.log2(size) - repeated / size


def varied(text: str, bits: float) -> bool:
    """Tell whether the entropy of a text is at least `bits`, by a bound from below where that is enough.

    The least entropy of a number of different characters is where all but one are there once; the entropy of a text is
    no less than the mean of those of its parts.
    """
    size = len(text)
    parts = [text] if size <= _PART else [text[at : at + _PART] for at in range(0, size, _PART)]
    least = sum(len(part) * math.log2(len(part)) - _REPEATED[len(part) - len(set(part)) + 1] for part in parts if part)
    return least > (bits + 0.001) * size or entropy(text) >= bits


def card(text: str, match: re.Match[str]) -> Span | None:
    """Accept a payment card number: issuer's range and length, Luhn, and a word before rare lengths."""
    digits = match[0].replace(" ", "").replace("-", "")
    if not digits.isdigit():
        digits = digits.translate(_GAPS)
    if not digits.isascii() or digits.count(digits[0]) == len(digits) or not issuer(digits) or not luhn(digits):
        return None
    if len(digits) in _CARD_LENGTHS or _CARD_WORD.search(text, max(0, match.start() - 40), match.start()):
        return span_of(match)
    return None


def iban(text: str, match: re.Match[str]) -> Span | None:
    """Accept an IBAN: its country's length and mod 97 (ISO 13616). Characters after that length are not part of it."""
    raw = match[0]
    wanted = _IBAN_LENGTHS.get(raw[:2].upper(), 0)
    code = raw.replace(" ", "").replace("-", "")[:wanted].upper()
    if not wanted or len(code) != wanted or not code.isascii():
        return None
    end = match.start() + (wanted if raw[:wanted].isalnum() else _end_of(raw, wanted))
    if end < len(text) and text[end].isalnum():
        return None
    return Span(match.start(), end) if int((code[4:] + code[:4]).translate(_AS_NUMBERS)) % 97 == 1 else None


def _end_of(raw: str, wanted: int) -> int:
    """Return where the `wanted`th letter or digit ends."""
    places = [offset for offset, char in enumerate(raw, 1) if char.isalnum()]
    return places[wanted - 1]


def ssn(text: str, match: re.Match[str]) -> Span | None:
    """Accept a US social security number that can have been issued: no 000, 666 or 9xx area, 00 group, 0000 serial."""
    del text
    span = span_of(match)
    digits = match.string[span.start : span.end].replace("-", "").replace(" ", "").replace(".", "")
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if len(digits) != 9 or area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return None
    return None if len(set(digits)) == 1 else span


def ip(text: str, match: re.Match[str]) -> Span | None:
    """Accept an IPv4 or IPv6 address with its zone and prefix length, unless it is part of a version or of code."""
    raw, start = match["v"], match.start("v")
    if raw.count(":") >= 2:
        trimmed = raw.rstrip(".")
        trimmed = trimmed if trimmed.endswith("::") else trimmed.rstrip(":")
        if trimmed[:1] == ":" and not trimmed.startswith("::"):
            start, trimmed = start + 1, trimmed[1:]
        if _is_v6(trimmed) and not (len(trimmed) <= 4 and _in_code(text, start, start + len(trimmed))):
            found = _address(text, start, start + len(trimmed))
            if found is not None:
                return found
    return _v4(text, match.start("v"), match.end("v"))


def _v4(text: str, start: int, end: int) -> Span | None:
    found = _V4.search(text, start, min(len(text), end + 4))
    if found is None or found.start() >= end or max(map(int, found[0].split("."))) > 255:
        return None
    return None if _is_version(text, found.start()) else _address(text, found.start(), found.end())


def _is_version(text: str, start: int) -> bool:
    before = text[max(0, start - 16) : start]
    last = before.rstrip(_AROUND_VERSION)[-1:]
    if last.isascii() and last not in _VERSION_ENDS:
        return False  # what most addresses stand behind
    return _VERSION_BEFORE.search(before) is not None and not before.endswith("//")


def _is_v6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)  # a tenth of the time that ipaddress takes
    except (OSError, ValueError):
        return False
    return True


def _in_code(text: str, start: int, end: int) -> bool:
    """Tell a slice, `items[::2]`, or a scope, `Foo::1`, from `::1` and `::`."""
    before, after = text[max(0, start - 2) : start], text[end : end + 1]
    if text[start:end] not in ("::", "::1"):
        return not (before[-1:] in ("", " ", "=") and after in ("", " ", "/", ",", "\n"))
    return before[-1:].isalnum() or (before[-1:] == "[" and (before[0].isalnum() or before[0] in ")]_"))


def _address(text: str, start: int, end: int) -> Span | None:
    after = text[end : end + 1]
    if after.isalnum() or after == "_":
        return None
    if ":" in text[start:end] and start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        return None
    if after == "%" and (zone := _ZONE.match(text, end)):
        end = zone.end()
    if text[end : end + 1] == "/" and (cidr := _CIDR.match(text, end)):
        end = cidr.end()
    return Span(start, end)


def url_credentials(text: str, match: re.Match[str]) -> Span | None:
    """Accept what stands between `scheme://` and the last `@` before the host: the password, or a lone token."""
    at = match.start() + 1
    slashes = text.rfind("://", max(0, at - 320), at)
    if slashes < 1 or not text[slashes - 1].isalnum():
        return None
    inner = _USERINFO.match(text, slashes + 3)
    if inner is None or inner.end() <= at:
        return None
    user, colon, password = inner[1].partition(":")
    start = slashes + 3
    if colon:
        if not password or _TEMPLATE.match(password):
            return None
        return Span(start + len(user) + 1, start + len(inner[1]))
    return Span(start, start + len(user)) if len(user) >= 16 and looks_random(user) else None


def email(text: str, match: re.Match[str]) -> Span | None:
    """Accept an address whose domain ends in letters: no file name (icon@2x.png), no login in a URL or for git."""
    start, end = match.span("v")
    while end > start and text[end - 1] in "-_.":
        end -= 1
    domain = text[start:end].rsplit("@", 1)[-1] if "@" in text[start:end] else _ENCODED_AT.split(text[start:end])[-1]
    top = domain.rsplit(".", 1)[-1]
    if "." not in domain or domain[0] in "-_." or not ((top.isalpha() and len(top) > 1) or top.startswith("xn--")):
        return None
    if (
        top.lower() in _IMAGE_TLDS
        or _in_url(text, start)
        or (text[start : start + 4] == "git@" and text[end : end + 1] == ":")
    ):
        return None
    return Span(start, end)


def email_in_base64(text: str, match: re.Match[str]) -> Span | None:
    """Accept base64 whose text holds an e-mail address and nothing that is not text."""
    del text
    value = match[0].rstrip("=")
    try:
        plain = base64.b64decode(value + "=" * (-len(value) % 4), b"-_" if "-" in value or "_" in value else None)
    except ValueError:
        return None
    return span_of(match) if _PLAIN_EMAIL.search(plain) and plain.isascii() and b"\0" not in plain else None


def _in_url(text: str, start: int) -> bool:
    """Tell whether an address stands where a URL has its login: `ssh://deploy@host`."""
    slashes = text.rfind("://", max(0, start - 130), start)
    return slashes >= 0 and not _URL_BREAK.search(text, slashes + 3, start)


def mac(text: str, match: re.Match[str]) -> Span | None:
    """Accept a hardware address that is neither all zero nor broadcast; all digits in dots need a word before."""
    if not match[0].lower().strip("0:-.") or not match[0].lower().strip("f:-."):
        return None
    if "." in match[0] and match[0].replace(".", "").isdigit():
        return span_of(match) if _MAC_WORD.search(text, max(0, match.start() - 24), match.start()) else None
    return span_of(match)


def jwt(text: str, match: re.Match[str]) -> Span | None:
    """Accept a JSON web token: its first part decodes to a JSON object that names an algorithm (RFC 7515, 7516)."""
    del text
    header = match[0].split(".", 1)[0]
    try:
        decoded = base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))
    except ValueError:
        return None
    return span_of(match) if decoded.startswith(b"{") and b'"alg"' in decoded else None


def random_token(text: str, match: re.Match[str]) -> Span | None:
    """Accept a value that looks drawn at random: enough different characters, no run of words."""
    span = span_of(match)
    value = text[span.start : span.end]
    return span if looks_random(value) else None


def looks_random(value: str) -> bool:
    """Tell whether a value looks drawn at random, by entropy against its length, and by mixing digits with letters."""
    if len(set(value)) < min(8, len(value) // 2):
        return False
    return _DIGIT.search(value) is not None and varied(value, min(3.0, 0.75 * math.log2(max(2, len(value)))))


VALIDATORS: Final[dict[str, Validator]] = {
    "card": card,
    "email": email,
    "email_in_base64": email_in_base64,
    "iban": iban,
    "ip": ip,
    "jwt": jwt,
    "mac": mac,
    "random": random_token,
    "ssn": ssn,
    "url_credentials": url_credentials,
}
