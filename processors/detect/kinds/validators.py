"""What decides whether a candidate really is what it looks like: checksums, ranges, parsers, entropy.

A validator gets the text and the match of a rule's regex, and answers the span that is to go, or None. It never looks
further than the match and a few characters around it. `VALIDATORS` names those that rules may ask for.
"""

import base64
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple


class Span(NamedTuple):
    """Characters `start` to `end` (exclusive) of a text; `type` where the validator knows it better than the rule.

    `more`: further values behind it that the same match gives away, such as those of a column.
    """

    start: int
    end: int
    type: str = ""
    more: tuple["Span", ...] = ()


Validator = Callable[[str, "re.Match[str]"], Span | None]
#: Makes a named tuple of all of its fields, in half the time that its class takes.
made: Final = tuple.__new__


@dataclass(frozen=True, slots=True)
class PerText:
    """A validator that remembers what it has read of a text: `new` makes one for each text."""

    new: Callable[[], Validator]

    def __call__(self, text: str, match: "re.Match[str]") -> Span | None:
        """Judge one match alone."""
        return self.new()(text, match)


_DIGIT: Final = re.compile("[0-9]")
#: n * log2(n): what n equal characters take from the entropy of a text.
_PART: Final = 128
_REPEATED: Final = (0.0, *(n * math.log2(n) for n in range(1, 1025)))
_USERINFO: Final = re.compile(r"([^\s/\"'<>`?#]{1,300})@")
_TEMPLATE: Final = re.compile(r"\$\{?\w|\{\{?|<[\w-]{1,30}>?$|%[sd(]|\*{3,}|\[REDACTED|x{3,}$|\.{3}$", re.IGNORECASE)
#: With what these start; everything else need not be tried.
_TEMPLATE_STARTS: Final = frozenset("${<%*[xX.")
#: What stands in place of the password where the name is a token.
_NO_PASSWORD: Final = "x-oauth-basic"  # noqa: S105  # the opposite of a secret
_MAC_WORD: Final = re.compile(r"mac|address|ether|lease|port|hw|lladdr", re.IGNORECASE)


def span_of(match: re.Match[str]) -> Span:
    """Return the group `v` of a match where its regex has one, else all of it."""
    start, end = match.span(match.re.groupindex.get("v", 0))
    if start < 0:
        start, end = match.span()
    return made(Span, (start, end, "", ()))


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
    """Return whether the entropy of a text is at least `bits`, by a bound from below where that is enough.

    The least entropy of a number of different characters is where all but one are there once; the entropy of a text is
    no less than the mean of those of its parts.
    """
    size = len(text)
    parts = [text] if size <= _PART else [text[at : at + _PART] for at in range(0, size, _PART)]
    least = sum([_REPEATED[len(part)] - _REPEATED[len(part) - len(set(part)) + 1] for part in parts])
    return least > (bits + 0.001) * size or entropy(text) >= bits


def ssn(text: str, match: re.Match[str]) -> Span | None:
    """Accept a US social security number that can have been issued: no 000, 666 or 9xx area, 00 group, 0000 serial."""
    del text
    span = span_of(match)
    digits = match.string[span.start : span.end].replace("-", "").replace(" ", "").replace(".", "")
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    if len(digits) != 9 or area in ("000", "666") or area[0] == "9" or group == "00" or serial == "0000":
        return None
    return None if len(set(digits)) == 1 else span


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
        if password == _NO_PASSWORD and not _is_template(user):
            return Span(start, start + len(user))
        if not password or _is_template(password):
            return None
        return Span(start + len(user) + 1, start + len(inner[1]))
    return Span(start, start + len(user)) if len(user) >= 16 and looks_random(user) else None


def _is_template(value: str) -> bool:
    """Return whether a login or password is a variable, or masked."""
    return value[:1] in _TEMPLATE_STARTS and _TEMPLATE.match(value) is not None


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
    """Return whether a value looks random, by entropy against its length, and by mixing digits with letters."""
    return _DIGIT.search(value) is not None and varied(value, min(3.0, 0.75 * math.log2(max(2, len(value)))))


VALIDATORS: Final[dict[str, Validator]] = {
    "jwt": jwt,
    "mac": mac,
    "random": random_token,
    "ssn": ssn,
    "url_credentials": url_credentials,
}
